"""Confines itself as the extraction of a file does, and prints as JSON what holds."""

import json

from colloquy_server.confinement import confine_extraction

if __name__ == "__main__":
    print(json.dumps(confine_extraction().dump()))  # noqa: T201 - to who started it
