"""Looks up in Slack a message that may or may not have been posted when a process died."""

from __future__ import annotations

from typing import Any

from colloquy_slack.database import outbox
from colloquy_slack.database.models import Request
from colloquy_slack.external_ids import request_id
from colloquy_slack.outgoing.rendering import METADATA_TYPE
from colloquy_slack.runtime import Runtime
from colloquy_slack.slack_api import Refused
from colloquy_slack.workspaces.workspace import Workspace

_PAGE = 100


async def find_post(runtime: Runtime, workspace: Workspace, request: Request, number: int) -> str:
    """Return the ts of a reply's message, empty when it is not in Slack.

    It is known by its metadata. A native stream has none until it ends: of those, the first that
    no reply is known to have.
    """
    wanted = request_id(request.team_id, request.channel_id, request.ts)
    named: list[str] = []
    streams: list[str] = []
    cursor = ""
    while True:
        page = await _page(workspace, request, cursor)
        for message in page.get("messages") or []:
            payload = _payload(message)
            if payload.get("request") == wanted and payload.get("part") == number:
                named.append(str(message["ts"]))
            if not payload and message.get("bot_id") == workspace.bot_id:
                streams.append(str(message["ts"]))
        cursor = str((page.get("response_metadata") or {}).get("next_cursor") or "")
        if not cursor:
            break
    if not workspace.is_native or number:
        streams = []
    # What is recorded is another message, also one that this one supersedes.
    found = [*named, *streams]
    recorded = await runtime.db.run(outbox.recorded_ts, request.team_id, request.channel_id, found)
    return next((ts for ts in found if ts not in recorded), "")


async def _page(workspace: Workspace, request: Request, cursor: str) -> dict[str, Any]:
    """Return a page of what was said since the request came."""
    where: dict[str, Any] = {"ts": request.thread_ts} if request.thread_ts else {}
    try:
        return await workspace.slack.read_with_retries(
            "conversations.replies" if request.thread_ts else "conversations.history",
            channel=request.channel_id,
            oldest=request.ts.partition("/")[0],
            include_all_metadata="true",
            limit=_PAGE,
            cursor=cursor or None,
            **where,
        )
    except Refused:
        # The thread is gone, or may not be read: nothing can be found there.
        return {}


def _payload(message: dict[str, Any]) -> dict[str, Any]:
    metadata = message.get("metadata") or {}
    if metadata.get("event_type") != METADATA_TYPE:
        return {}
    payload = metadata.get("event_payload")
    return payload if isinstance(payload, dict) else {}
