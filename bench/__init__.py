"""What a streamed token costs: the server beside the floor, which is the least that anything with
the same job could cost. `python -m bench --help`; read `__main__.py` first."""
