"""The chat.* methods of Slack for one message of a reply. All raise SlackError."""

from __future__ import annotations

from typing import Any

import structlog

from colloquy_slack.database.models import Request
from colloquy_slack.outgoing.rendering import RenderedMessage
from colloquy_slack.slack_api import Refused
from colloquy_slack.workspaces.workspace import Workspace

log = structlog.get_logger()


class ThreadGone(Exception):
    """The thread that a message belongs to was deleted."""


async def post(
    workspace: Workspace, request: Request, rendered: RenderedMessage, metadata: dict[str, Any]
) -> str:
    """Post a message where its reply belongs. Returns its ts.

    Raises ThreadGone: what belongs to a deleted thread Slack posts in the channel, without a word.
    """
    answer = await workspace.slack.call(
        "chat.postMessage",
        channel=request.channel_id,
        thread_ts=request.thread_ts or None,
        text=rendered.text,
        blocks=list(rendered.blocks),
        metadata=metadata,
        unfurl_links=False,
        unfurl_media=False,
    )
    ts, message = str(answer["ts"]), answer.get("message")
    if request.thread_ts and message and message.get("thread_ts") != request.thread_ts:
        await delete(workspace, request, ts)
        raise ThreadGone
    return ts


async def edit(
    workspace: Workspace,
    request: Request,
    ts: str,
    rendered: RenderedMessage,
    metadata: dict[str, Any],
) -> None:
    """Replace what a message shows."""
    await workspace.slack.call(
        "chat.update",
        channel=request.channel_id,
        ts=ts,
        text=rendered.text,
        blocks=list(rendered.blocks),
        metadata=metadata,
    )


async def delete(workspace: Workspace, request: Request, ts: str) -> None:
    """Delete a message. One that Slack will not delete stays."""
    try:
        await workspace.slack.call_with_retries("chat.delete", channel=request.channel_id, ts=ts)
    except Refused as refused:
        log.info("message not deleted", error=refused.error)


async def stop_stream(workspace: Workspace, request: Request, ts: str) -> None:
    """End a stream, so that its message can be edited. It may have ended already."""
    try:
        await workspace.slack.call("chat.stopStream", channel=request.channel_id, ts=ts)
    except Refused as refused:
        log.info("stream not stopped", error=refused.error)
