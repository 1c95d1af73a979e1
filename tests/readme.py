"""The README's examples, to be tried."""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).resolve().parents[1] / "README.md"


def block(language: str) -> str:
    """The only code block in a language."""
    (found,) = _blocks(language)
    return found


def commands(word: str) -> str:
    """The only block of shell commands that has this word."""
    (found,) = (commands for commands in _blocks("sh") if word in commands)
    return found


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README.read_text("utf-8"), re.M | re.S)
