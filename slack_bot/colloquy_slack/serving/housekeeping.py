"""What is done now and then: old text is deleted, and what workspaces left behind cleaned up."""

from __future__ import annotations

import asyncio

import structlog
from colloquy import ColloquyError
from sqlalchemy.exc import SQLAlchemyError

from colloquy_slack.database import listening, retention, thread_messages
from colloquy_slack.logs import describe
from colloquy_slack.runtime import Runtime
from colloquy_slack.workspaces.registry import WorkspaceRegistry

log = structlog.get_logger()

_ANSWERED_TEXT_TTL = 86_400.0
_UNANSWERED_TEXT_TTL = 7 * 86_400.0
_DELETE_INTERVAL = 3_600.0
"""Seconds that the text of a request is kept here once it was answered (the server has it) and
when it was not (a button may still ask for that), and how often that is seen to."""

_CLEANUP_INTERVAL = 60.0
"""Seconds between two tries to finish what workspaces left behind that went away."""

_LISTENING_INTERVAL = 30.0
"""Seconds between two notes that this process takes events in."""


class Housekeeping:
    """Has no loop of its own: the lease keeper asks it after each round."""

    def __init__(self, runtime: Runtime, workspaces: WorkspaceRegistry) -> None:
        self._runtime, self._workspaces = runtime, workspaces
        self._delete_at = self._clean_up_at = self._listening_at = 0.0
        self._cleanup: asyncio.Task[None] | None = None

    def clean_up_next(self) -> None:
        """Have the next round clean up: a workspace may have gone."""
        self._clean_up_at = 0.0

    async def run_due(self) -> None:
        """Do what is due. Raises SQLAlchemyError."""
        await self._note_listening()
        await self._delete_old_text()
        self._start_cleanup()

    async def stop(self) -> None:
        """Cancel what is under way."""
        if self._cleanup is not None:
            self._cleanup.cancel()
            await asyncio.gather(self._cleanup, return_exceptions=True)

    async def _note_listening(self) -> None:
        if self._runtime.clock() >= self._listening_at:
            self._listening_at = self._runtime.clock() + _LISTENING_INTERVAL
            await self._runtime.db.run(listening.go_on, self._runtime.now())

    async def _delete_old_text(self) -> None:
        if self._runtime.clock() >= self._delete_at:
            self._delete_at = self._runtime.clock() + _DELETE_INTERVAL
            now = self._runtime.now()
            await self._runtime.db.run(
                retention.delete_text, now - _ANSWERED_TEXT_TTL, now - _UNANSWERED_TEXT_TTL
            )
            await self._runtime.db.run(thread_messages.delete_expired, now)

    def _start_cleanup(self) -> None:
        """The server may hang, and the leases do not wait for it."""
        is_running = self._cleanup is not None and not self._cleanup.done()
        if not is_running and self._runtime.clock() >= self._clean_up_at:
            self._clean_up_at = self._runtime.clock() + _CLEANUP_INTERVAL
            self._cleanup = asyncio.create_task(self._clean_up())

    async def _clean_up(self) -> None:
        try:
            await self._workspaces.clean_up()
        except (ColloquyError, SQLAlchemyError) as error:
            log.warning("cleanup failed", error=describe(error))
