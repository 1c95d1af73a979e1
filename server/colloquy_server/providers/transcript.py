"""What comes of a recording that was written down."""

from __future__ import annotations

from dataclasses import dataclass

from colloquy_server.providers.usage import TokenUsage


@dataclass(frozen=True, slots=True)
class Transcript:
    """What is said in a recording, and what its provider counted, if it counts tokens."""

    text: str
    usage: TokenUsage | None
