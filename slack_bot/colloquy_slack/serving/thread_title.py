"""Gives a thread in a direct message the title that the server found for its conversation."""

from __future__ import annotations

import asyncio

import structlog
from colloquy import ColloquyError

from colloquy_slack.database.models import Request
from colloquy_slack.slack_api import SlackProblem
from colloquy_slack.workspaces.workspace import Workspace

log = structlog.get_logger()

_PATIENCE = 30.0
"""Seconds that the title of a new conversation may take."""


async def name_thread(workspace: Workspace, request: Request) -> None:
    """Set the title after the first exchange of a conversation. Failure is harmless."""
    try:
        async with asyncio.timeout(_PATIENCE):
            title = await _title(workspace, request.conversation_id)
        if title:
            await workspace.slack.read(
                "assistant.threads.setTitle",
                channel_id=request.channel_id,
                thread_ts=request.thread_ts,
                title=title,
            )
    except (ColloquyError, SlackProblem, TimeoutError) as problem:
        log.info("thread without title", problem=type(problem).__name__)


async def _title(workspace: Workspace, conversation_id: str) -> str:
    """Wait for the title; empty when this is not the first exchange."""
    if not conversation_id:
        return ""
    told = await workspace.colloquy.get_conversation(conversation_id)
    if told.conversation.message_count > 2:
        return ""
    if told.conversation.title:
        return told.conversation.title
    async with workspace.colloquy.watch(conversation_id, told.resume_token) as events:
        async for event in events:
            if event.HasField("deleted") or event.conversation.title:
                return event.conversation.title
    return ""
