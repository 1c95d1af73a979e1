"""E-mail addresses, by which people are known for the same."""

from __future__ import annotations

import re

_ADDRESS = re.compile(r"[^\s@\x00-\x1f\x7f]+@[^\s@\x00-\x1f\x7f]+")


def address(text: str) -> str:
    """An address in small letters, as all spellings of it are one; empty when it is none."""
    text = text.strip()
    # Of ASCII alone: some other letters become the same small one (U+212A and K).
    return text.encode().lower().decode() if _ADDRESS.fullmatch(text) else ""
