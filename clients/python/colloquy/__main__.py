"""The command `colloquy`, also as `python -m colloquy`."""

from __future__ import annotations

import sys
from importlib.util import find_spec

_NEEDED = ("typer", "rich", "markdown_it", "prompt_toolkit", "dotenv")
"""What `colloquy[cli]` adds to the library."""


def main() -> None:
    """Run the command line."""
    if any(find_spec(name) is None for name in _NEEDED):
        sys.exit("colloquy: the terminal client is not installed: install colloquy[cli]")
    from colloquy.terminal.app import main as run

    run()


if __name__ == "__main__":
    main()
