"""What there is to show of a reply at a moment, before it is rendered."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Phase(enum.Enum):
    """How far a reply is, as people see it."""

    THINKING = enum.auto()
    QUEUED = enum.auto()
    WAITING = enum.auto()
    OFFLINE = enum.auto()
    STOPPING = enum.auto()
    GENERATING = enum.auto()
    COMPLETED = enum.auto()
    CANCELLED = enum.auto()
    FAILED = enum.auto()


CUT_OFF = "(cut off: the model reached its output limit)"
"""Noted after the text of a reply whose model was not allowed to go on."""

_FINAL = {Phase.COMPLETED, Phase.CANCELLED, Phase.FAILED}


@dataclass(frozen=True, slots=True)
class ReplyView:
    """What there is to show of a reply."""

    phase: Phase = Phase.THINKING
    text: str = ""
    model: str = ""
    error: str = ""
    notes: tuple[str, ...] = ()
    # Whether the answer may be asked for again with a button.
    is_repeatable: bool = True
    # Where the conversation is on the web.
    web_link: str = ""

    @property
    def is_final(self) -> bool:
        """Whether nothing more will come."""
        return self.phase in _FINAL
