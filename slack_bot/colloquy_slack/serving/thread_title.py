"""Gives a thread in a direct message the title that the server found for its conversation."""

from __future__ import annotations

import asyncio

import structlog
from colloquy import ColloquyError

from colloquy_slack.database.models import Request
from colloquy_slack.slack_api import SlackError
from colloquy_slack.workspaces.workspace import Workspace

log = structlog.get_logger()

_TITLE_TIMEOUT = 30.0
"""Seconds that the title of a new conversation may take."""


async def set_thread_title(workspace: Workspace, request: Request) -> None:
    """Set the title after the first exchange of a conversation. Failure is harmless."""
    try:
        async with asyncio.timeout(_TITLE_TIMEOUT):
            title = await _title(workspace, request.conversation_id)
        if title:
            await workspace.slack.read(
                "assistant.threads.setTitle",
                channel_id=request.channel_id,
                thread_ts=request.thread_ts,
                title=title,
            )
    except (ColloquyError, SlackError, TimeoutError) as error:
        log.info("thread title not set", error=type(error).__name__)


async def _title(workspace: Workspace, conversation_id: str) -> str:
    """Wait for the title; empty when this is not the first exchange."""
    if not conversation_id:
        return ""
    answer = await workspace.colloquy.get_conversation(conversation_id)
    if answer.conversation.message_count > 2:
        return ""
    if answer.conversation.title:
        return answer.conversation.title
    async with workspace.colloquy.watch(conversation_id, answer.resume_token) as events:
        async for event in events:
            if event.HasField("deleted") or event.conversation.title:
                return event.conversation.title
    return ""
