"""The terminal client: `python -m clients`. It stands on the library beside it and on no other."""
