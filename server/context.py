"""What a reply's model is given: the conversation as the provider's API wants it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from server.catalog import Model
from server.errors import MessageTooLong
from server.models import Message, Role

_BYTES_PER_TOKEN = 4
"""An estimate: English text has about four bytes of UTF-8 a token with current tokenisers."""

_PER_MESSAGE = 8
"""Tokens for what surrounds a message: role, name and separators."""

_MARGIN = 0.05
"""The part of the window that is left free, because the counts are estimates."""


def estimate_tokens(text: str) -> int:
    """About how many tokens a message with this text takes."""
    return len(text.encode()) // _BYTES_PER_TOKEN + _PER_MESSAGE


def budget(model: Model) -> int:
    """How many tokens of context the model takes beside its longest reply."""
    return int((model.context_window - model.max_output_tokens) * (1 - _MARGIN))


def check_fits(model: Model, system_prompt: str, content: str) -> None:
    """Raises MessageTooLong when a message could not be given to the model even alone."""
    room = budget(model)
    needed = estimate_tokens(content) + (estimate_tokens(system_prompt) if system_prompt else 0)
    if needed > room:
        raise MessageTooLong(
            {
                "content": f"is about {needed} tokens with the system prompt, and {model.id} takes"
                f" {room}: shorten it or choose a model with a larger window"
            }
        )


def build(model: Model, system_prompt: str, messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The messages of a request. The oldest whole turns give way when the model's window is too
    small; the system prompt and the newest message never do."""
    room = budget(model) - (estimate_tokens(system_prompt) if system_prompt else 0)
    kept: list[Message] = []
    turn: list[Message] = []
    for message in reversed(messages):
        turn.append(message)
        if message.role != Role.USER:
            continue
        room -= sum(estimate_tokens(part.content) for part in turn)
        if room < 0 and kept:
            break
        kept.extend(turn)
        turn = []
    kept.reverse()
    names = _names(kept)
    request: list[dict[str, Any]] = []
    if system_prompt:
        request.append({"role": "system", "content": system_prompt})
    for message in kept:
        is_user = message.role == Role.USER
        part = {"role": "user" if is_user else "assistant", "content": message.content}
        if is_user and message.author_id in names:
            part["name"] = names[message.author_id]
        request.append(part)
    return request


def _names(messages: Sequence[Message]) -> dict[str | None, str]:
    """A name for each author by which the model can tell them apart; none when there is only one.

    Names are in the API's `name` field, which no text can forge, and are made unique, so that
    nobody can pass for somebody else by taking their display name.
    """
    authors = {message.author_id: message.author for message in messages if message.author}
    if len(authors) < 2:
        return {}
    names: dict[str | None, str] = {}
    for number, (author_id, author) in enumerate(authors.items(), 1):
        # The characters and the length that OpenAI allows in a name.
        name = re.sub(r"[^a-zA-Z0-9_-]+", "_", author.display_name).strip("_")[:48]
        name = name or f"user_{number}"
        names[author_id] = f"{name}_{number}" if name in names.values() else name
    return names
