"""The terminal client, `colloquy`. It stands on the library beside it and on no other."""
