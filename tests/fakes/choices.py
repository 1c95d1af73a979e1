"""Whom a prompt is for, where a test has no catalogue."""

from __future__ import annotations

from collections.abc import Sequence

from colloquy_server.database.repository import history
from colloquy_server.database.repository.sending import Choice
from colloquy_server.database.rows import MessageRow
from colloquy_server.database.transactions import Session


def own_model(model: str, _system_prompt: str, _content: str, _files: Sequence[object]) -> Choice:
    """The conversation's model, which may know all that was said."""
    return Choice(model, read_all)


def read_all(s: Session, prompt: MessageRow, system_prompt: str) -> history.History:
    """What the model may know."""
    return history.read_for_new(s, prompt, system_prompt, 1, lambda _turn: 0)
