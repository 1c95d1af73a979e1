"""The Colloquy server. Read `app.py` first: it builds and wires everything."""
