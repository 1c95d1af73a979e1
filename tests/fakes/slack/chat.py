"""chat.*: posting, editing and deleting messages."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.fakes.slack.api import find_channel, find_message, method
from tests.fakes.slack.blocks import check_blocks, check_markdown_text, check_text
from tests.fakes.slack.errors import SlackError, invalid_arguments
from tests.fakes.slack.record import Call
from tests.fakes.slack.state import Channel, Json, Message, Workspace

if TYPE_CHECKING:
    from tests.fakes.slack.server import SlackDouble

METADATA_BYTES = 15_360
"""Slack says only "metadata_too_large"; 15 KB is what users measured."""


@method("chat.postMessage", "chat:write")
def post_message(slack: SlackDouble, workspace: Workspace, call: Call) -> Json:
    name = str(call.required("channel"))
    fields = _content(call)
    if not fields:
        raise SlackError("no_text")
    channel = find_channel(slack, workspace, name)
    if channel.restricted:
        raise SlackError(channel.restricted)
    thread_ts = call.text("thread_ts") or None
    if thread_ts is not None:
        # A reply to what was deleted becomes a message of the channel, without an error:
        # https://github.com/slack-go/slack/issues/1571
        root = channel.messages.get(thread_ts)
        thread_ts = root.thread if root is not None and not root.deleted else None
    message = slack.messages.post(
        workspace,
        channel,
        user=workspace.bot.id,
        bot_id=workspace.bot_id,
        thread_ts=thread_ts,
        broadcast=call.flag("reply_broadcast"),
        metadata=_metadata(call),
        **fields,
    )
    if message.broadcast and thread_ts is not None:
        message.subtype = "thread_broadcast"
    slack.messages.announce(workspace, channel, message)
    return {
        "channel": channel.id,
        "ts": message.ts,
        "message": slack.messages.to_json(workspace, message),
    }


@method("chat.update", "chat:write")
def update(slack: SlackDouble, workspace: Workspace, call: Call) -> Json:
    name, ts = str(call.required("channel")), str(call.required("ts"))
    fields = _content(call)
    metadata = _metadata(call)
    if not fields and metadata is None and not call.args.get("file_ids"):
        raise SlackError("no_text")
    channel = find_channel(slack, workspace, name)
    message = find_message(channel, ts)
    if message.bot_id != workspace.bot_id:
        raise SlackError("cant_update_message")
    if message.stream is not None and slack.stream_state(message) == "in_progress":
        raise SlackError("streaming_state_conflict")
    window = workspace.edit_window
    if window is not None and slack.clock.time() - message.at > window:
        raise SlackError("edit_window_closed")
    # Text without blocks takes the old blocks away, and only text marks the message as edited.
    if fields.get("text") and "blocks" not in fields:
        fields["blocks"] = []
    if fields.keys() & {"text", "blocks", "markdown_text"}:
        # New words replace the old ones, whichever way those were given.
        fields = {"markdown_text": None, "stream": None, **fields}
    if call.args.get("metadata") is not None:
        fields["metadata"] = metadata or None
    marked = bool(fields.get("text") or fields.get("markdown_text")) and not fields.get("blocks")
    slack.messages.edit(workspace, channel, message, workspace.bot.id, marked=marked, **fields)
    return {
        "channel": channel.id,
        "ts": message.ts,
        "text": message.text,
        "message": slack.messages.to_json(workspace, message),
    }


@method("chat.delete", "chat:write")
def delete(slack: SlackDouble, workspace: Workspace, call: Call) -> Json:
    name, ts = str(call.required("channel")), str(call.required("ts"))
    channel = find_channel(slack, workspace, name, member=False)
    message = find_message(channel, ts)
    if message.bot_id != workspace.bot_id or slack.stream_state(message) == "in_progress":
        raise SlackError("cant_delete_message")
    slack.messages.delete(workspace, channel, message)
    return {"channel": channel.id, "ts": ts}


@method("chat.postEphemeral", "chat:write")
def post_ephemeral(slack: SlackDouble, workspace: Workspace, call: Call) -> Json:
    name, user = str(call.required("channel")), str(call.required("user"))
    fields = _content(call)
    if not fields:
        raise SlackError("no_text")
    channel = find_channel(slack, workspace, name)
    if user not in channel.members:
        raise SlackError("user_not_in_channel")
    message = slack.post_ephemeral(
        workspace, channel, user, thread_ts=call.text("thread_ts") or None, **fields
    )
    return {"message_ts": message.ts}


@method("chat.getPermalink")
def get_permalink(slack: SlackDouble, workspace: Workspace, call: Call) -> Json:
    name, ts = str(call.required("channel")), str(call.required("message_ts"))
    channel = find_channel(slack, workspace, name)
    message = find_message(channel, ts)
    link = f"https://{workspace.domain}.slack.com/archives/{channel.id}/p{ts.replace('.', '')}"
    if message.is_reply:
        link += f"?thread_ts={message.thread_ts}&cid={channel.id}"
    return {"channel": channel.id, "permalink": link}


def content_of(values: Json) -> Json:
    """What a response_url's body says, checked as chat.postMessage checks it."""
    return _content(Call(0, "response_url", values, 0.0))


def _content(call: Call) -> Json:
    """The fields of a message that the call gives, checked."""
    text = call.text("text")
    blocks = call.json("blocks")
    attachments = call.json("attachments")
    markdown = call.args.get("markdown_text")
    if markdown is not None and (text or blocks):
        raise SlackError("markdown_text_conflict")
    fields: dict[str, Any] = {}
    if text:
        check_text(text)
        fields["text"] = text
    if blocks is not None:
        if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
            raise SlackError("invalid_blocks_format")
        check_blocks(blocks)
        if blocks or call.method == "chat.update":
            fields["blocks"] = blocks
    if markdown:
        check_markdown_text(str(markdown))
        fields |= {"markdown_text": str(markdown), "text": "", "blocks": []}
    if attachments:
        if len(attachments) > 100:
            raise SlackError("too_many_attachments")
        fields["attachments"] = attachments
    if fields == {"blocks": []}:
        raise SlackError("no_text")
    return fields


def _metadata(call: Call) -> Json | None:
    metadata = call.json("metadata")
    if metadata is None or metadata == {}:
        return metadata if metadata is None else {}
    if not isinstance(metadata, dict) or not metadata.get("event_type"):
        raise SlackError("invalid_metadata_format")
    if not isinstance(metadata.get("event_payload"), dict):
        raise SlackError("invalid_metadata_schema")
    if len(json.dumps(metadata).encode()) > METADATA_BYTES:
        raise SlackError("metadata_too_large")
    return metadata


def owned_stream(slack: SlackDouble, workspace: Workspace, call: Call) -> tuple[Channel, Message]:
    """The message that a stream method is about.

    Raises:
        SlackError: it is not this app's.
    """
    name, ts = str(call.required("channel")), str(call.required("ts"))
    channel = find_channel(slack, workspace, name)
    message = find_message(channel, ts)
    if message.bot_id != workspace.bot_id:
        raise SlackError("message_not_owned_by_app")
    return channel, message


def stream_text(call: Call) -> tuple[str | None, str]:
    """How a stream method gives its text (`markdown_text`, `chunks`, None), and the text."""
    markdown, chunks = call.args.get("markdown_text"), call.json("chunks")
    if markdown and chunks:
        raise SlackError("cannot_provide_both_markdown_text_and_chunks")
    if markdown:
        check_markdown_text(str(markdown))
        return "markdown_text", str(markdown)
    if chunks:
        pieces = []
        for chunk in chunks:
            if not isinstance(chunk, dict) or chunk.get("type") not in {
                *("markdown_text", "task_update", "plan_update", "blocks"),
            }:
                raise SlackError("invalid_chunks")
            if chunk["type"] == "markdown_text":
                check_markdown_text(str(chunk.get("text", "")))
                pieces.append(str(chunk.get("text", "")))
        return "chunks", "".join(pieces)
    return None, ""


def need_thread(call: Call) -> str:
    """The thread of a stream: it has to be a reply.

    Raises:
        SlackError: `invalid_arguments`.
    """
    thread_ts = call.text("thread_ts")
    if not thread_ts:
        raise invalid_arguments("missing required field: thread_ts")
    return thread_ts
