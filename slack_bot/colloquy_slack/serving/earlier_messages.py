"""What was said in Slack before a request, and that its conversation does not have.

Called into a thread, the bot reads it once. After that, what is said there between its requests
comes by Slack's events and is kept; only after a gap in which events may have been lost, Slack is
asked again for what came since.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from colloquy_slack import message_text
from colloquy_slack.database import thread_reads
from colloquy_slack.database.models import Request
from colloquy_slack.database.thread_reads import Progress, Thread
from colloquy_slack.mentions import to_plain_text
from colloquy_slack.runtime import Runtime
from colloquy_slack.serving.thread_history import Read, read_channel, read_thread
from colloquy_slack.workspaces.workspace import Workspace

_CHANNEL_MESSAGES = 5
"""Messages of a channel that a mention without words, in no thread, is taken to be about."""


@dataclass(frozen=True, slots=True)
class Said:
    """A message as somebody said it. `text` is mrkdwn."""

    ts: str
    user_id: str
    text: str
    files: list[dict[str, Any]]
    is_bot: bool = False
    bot_name: str = ""
    is_own: bool = False
    """Whether the bot said it, in another conversation."""


@dataclass(frozen=True, slots=True)
class Earlier:
    """What was said before, oldest first."""

    said: list[Said] = field(default_factory=list)
    place: str = "thread"
    trouble: str = ""
    """Why there may be more than this; for the model."""
    progress: Progress | None = None
    """What to store with the request, of a thread."""


async def find_earlier(runtime: Runtime, workspace: Workspace, request: Request) -> Earlier:
    """Return what was said before a request. Raises TokenRejected."""
    # Of an edited message, the ts of its request goes on.
    ts = request.ts.partition("/")[0]
    if request.is_direct or not request.thread_ts:
        # There the bot is given all that is written.
        return Earlier()
    if ts == request.thread_ts:
        return await _before_a_thread(runtime, workspace, request, ts)
    thread = await runtime.db.run(thread_reads.load, request, ts)
    read = Read()
    if thread.is_to_be_read:
        read = await read_thread(
            runtime,
            workspace,
            request.channel_id,
            request.thread_ts,
            after=thread.given_until,
            before=ts,
        )
    found = {said.ts: said for said in map(_of_kept, thread.kept)}
    found |= {said.ts: said for said in _of_slack(workspace, read)}
    known = await runtime.db.run(thread_reads.known_among, request, [*found])
    said = [found[key] for key in sorted(found) if key not in known]
    return Earlier(said, "thread", read.trouble, _progress(thread, read, [*found], ts))


async def _before_a_thread(
    runtime: Runtime, workspace: Workspace, request: Request, ts: str
) -> Earlier:
    """A message that begins a thread: nothing is before it, but what it is about if it says
    nothing."""
    progress = Progress([], given_until=ts, read_until=ts)
    if request.files or to_plain_text(request.text, {}, workspace.bot_user_id):
        return Earlier(progress=progress)
    read = await read_channel(
        runtime, workspace, request.channel_id, before=ts, limit=_CHANNEL_MESSAGES
    )
    return Earlier(_of_slack(workspace, read), "channel", read.trouble, progress)


def _progress(thread: Thread, read: Read, given: list[str], ts: str) -> Progress:
    if not thread.is_to_be_read:
        return Progress(given, given_until=ts)
    if not read.trouble:
        return Progress(given, given_until=ts, read_until=ts)
    if read.is_final:
        return Progress(given, given_until=ts)
    # The next request reads on from here.
    until = str(read.messages[-1]["ts"]) if read.messages else thread.given_until
    return Progress(given, given_until=until, read_until=until, is_complete=False)


def _of_kept(kept: dict[str, Any]) -> Said:
    return Said(
        ts=kept["ts"],
        user_id=kept["user_id"],
        text=kept["text"],
        files=kept["files"],
        is_bot=kept.get("is_bot", False),
        bot_name=kept.get("bot_name", ""),
    )


def _of_slack(workspace: Workspace, read: Read) -> list[Said]:
    """What people and apps said, without what Slack leaves of a deleted message."""
    return [
        _said(workspace, message)
        for message in read.messages
        if message.get("subtype") != "tombstone"
    ]


def _said(workspace: Workspace, message: dict[str, Any]) -> Said:
    user_id, bot_id = str(message.get("user") or ""), str(message.get("bot_id") or "")
    is_own = user_id == workspace.bot_user_id or bot_id == workspace.bot_id
    if is_own:
        # Not the buttons and notes below a reply.
        blocks = [one for one in message.get("blocks") or [] if one.get("type") == "markdown"]
        message = {**message, "blocks": blocks}
    return Said(
        ts=str(message["ts"]),
        user_id=user_id,
        text=message_text.text_of(message),
        files=message_text.files_of(message),
        is_bot=bool(bot_id or message.get("bot_profile")),
        bot_name=message_text.bot_name(message),
        is_own=is_own,
    )
