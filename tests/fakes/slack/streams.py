"""chat.startStream, appendStream, stopStream: a message that grows natively.

A stream ends five minutes after it began, whether or not it was used
(https://github.com/slackapi/python-slack-sdk/issues/1859); a person may stop it before that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.fakes.slack.api import find_channel, method
from tests.fakes.slack.blocks import BLOCKS_LIMIT, MARKDOWN_LIMIT, check_blocks, markdown_count
from tests.fakes.slack.chat import _metadata, need_thread, owned_stream, stream_text
from tests.fakes.slack.errors import SlackError
from tests.fakes.slack.record import Call
from tests.fakes.slack.state import Json, Message, Stream, Workspace

if TYPE_CHECKING:
    from tests.fakes.slack.server import SlackDouble


@method("chat.startStream", "chat:write")
def start_stream(slack: SlackDouble, workspace: Workspace, call: Call) -> Json:
    channel = find_channel(slack, workspace, str(call.required("channel")))
    thread_ts = need_thread(call)
    if channel.kind != "im":
        for name in ("recipient_team_id", "recipient_user_id"):
            if not call.text(name):
                raise SlackError(f"missing_{name}")
    recipient = call.text("recipient_user_id")
    if recipient and recipient not in workspace.users:
        raise SlackError("user_not_found")
    if thread_ts not in channel.messages:
        raise SlackError("thread_not_found")
    stream = Stream(slack.clock.time())
    _append(stream, call)
    message = slack.messages.post(
        workspace,
        channel,
        user=workspace.bot.id,
        bot_id=workspace.bot_id,
        thread_ts=channel.messages[thread_ts].thread,
        stream=stream,
    )
    slack.messages.announce(workspace, channel, message)
    return {"channel": channel.id, "ts": message.ts}


@method("chat.appendStream", "chat:write")
def append_stream(slack: SlackDouble, workspace: Workspace, call: Call) -> Json:
    channel, message = owned_stream(slack, workspace, call)
    state = slack.stream_state(message)
    if state == "stopped_by_user":
        raise SlackError("stopped_by_user")
    stream = _running(message, state)
    if stream_text(call)[0] is None:
        raise SlackError("markdown_text_or_chunks_required")
    _append(stream, call)
    slack.messages.edit(workspace, channel, message, workspace.bot.id, marked=False)
    return {"channel": channel.id, "ts": message.ts}


@method("chat.stopStream", "chat:write")
def stop_stream(slack: SlackDouble, workspace: Workspace, call: Call) -> Json:
    channel, message = owned_stream(slack, workspace, call)
    stream = _running(message, slack.stream_state(message))
    blocks = call.json("blocks") or []
    check_blocks(blocks)
    metadata = _metadata(call)
    _append(stream, call)
    stream.state = "completed"
    session = workspace.sessions.get((channel.id, message.thread))
    if session is not None:
        session["status"] = call.text("session_status") or "active"
    slack.messages.edit(
        workspace,
        channel,
        message,
        workspace.bot.id,
        marked=False,
        blocks=blocks,
        metadata=metadata or message.metadata,
    )
    shown = slack.messages.to_json(workspace, message)
    return {"channel": channel.id, "ts": message.ts, "message": shown}


def _running(message: Message, state: str | None) -> Stream:
    if message.stream is None or state != "in_progress":
        raise SlackError("message_not_in_streaming_state")
    return message.stream


def _append(stream: Stream, call: Call) -> None:
    """Add what the call brings, in the way that the stream began with.

    How long a stream may become is not documented; the double holds it to what a message may.
    """
    mode, text = stream_text(call)
    if mode is None:
        return
    if stream.mode is not None and mode != stream.mode:
        raise SlackError("streaming_mode_mismatch")
    if len(stream.text) + len(text) > MARKDOWN_LIMIT:
        raise SlackError("msg_blocks_too_long")
    if markdown_count(stream.text + text) > BLOCKS_LIMIT:
        raise SlackError("msg_blocks_too_many")
    stream.mode = "chunks" if mode == "chunks" else "markdown_text"
    stream.pieces.append(text)
