"""Reads a message again whose link leads to another one: Slack shows that in it, a moment later.

Only what Slack shows is taken. It knows what the author may see; the bot may be where they are not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from colloquy_slack import message_text
from colloquy_slack.database.models import Request
from colloquy_slack.runtime import Runtime
from colloquy_slack.serving.thread_history import read_message
from colloquy_slack.workspaces.workspace import Workspace

UNFURL_DELAY = 1.0
"""Seconds that Slack has to show what a link leads to."""


@dataclass(frozen=True, slots=True)
class Written:
    """What a person wrote and shared."""

    text: str
    files: list[dict[str, Any]]
    is_link_unshown: bool = False
    """Whether it has the link of a message that Slack does not show."""


async def with_linked(runtime: Runtime, workspace: Workspace, request: Request) -> Written:
    """Return what a request says, with the messages that its links lead to. Raises
    TokenRejected."""
    if not message_text.has_unshown_link(request.text):
        return Written(request.text, request.files)
    await runtime.sleep(UNFURL_DELAY)
    ts = request.ts.partition("/")[0]
    message = await read_message(runtime, workspace, request.channel_id, request.thread_ts, ts)
    text = message_text.text_of(message) if message else request.text
    if message is None or message_text.has_unshown_link(text):
        return Written(request.text, request.files, is_link_unshown=True)
    return Written(text, message_text.files_of(message))
