"""What the double refuses, in Slack's words."""

from __future__ import annotations

from typing import Any


class SlackError(Exception):
    """An answer with `ok: false`; `fields` are added to it."""

    def __init__(self, error: str, **fields: Any) -> None:
        super().__init__(error)
        self.error = error
        self.fields = fields


def invalid_arguments(*messages: str) -> SlackError:
    """The error of an argument that is missing or malformed."""
    return SlackError(
        "invalid_arguments",
        response_metadata={"messages": [f"[ERROR] {message}" for message in messages]},
    )


def invalid_blocks(message: str, pointer: str) -> SlackError:
    """The error of a block that breaks Block Kit's rules, with the place as Slack gives it."""
    text = f"{message} [json-pointer:{pointer}]"
    return SlackError(
        "invalid_blocks", errors=[text], response_metadata={"messages": [f"[ERROR] {text}"]}
    )
