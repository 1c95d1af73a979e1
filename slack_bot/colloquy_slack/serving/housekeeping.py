"""What is done now and then: old text is deleted, and what workspaces left behind cleaned up."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable

import structlog
from colloquy import ColloquyError
from sqlalchemy.exc import SQLAlchemyError

from colloquy_slack.database import inbox, listening, retention, thread_messages
from colloquy_slack.logs import describe
from colloquy_slack.runtime import Runtime
from colloquy_slack.workspaces.registry import WorkspaceRegistry
from colloquy_slack.workspaces.withdrawal import withdraw_deleted

log = structlog.get_logger()

_ANSWERED_TEXT_TTL = 86_400.0
_UNANSWERED_TEXT_TTL = 7 * 86_400.0
_DELETE_INTERVAL = 3_600.0
"""Seconds that the text of a request is kept here once it was answered (the server has it) and
when it was not (a button may still ask for that), and how often that is seen to."""

_CLEANUP_INTERVAL = 60.0
"""Seconds between two tries to finish what workspaces left behind that went away."""

_DEPARTED_INTERVAL = 3_600.0
"""Seconds between looks for workspaces that went away so long ago that they are erased."""

_BACKLOG_INTERVAL = 5.0
"""Seconds between two looks at what waits, for those who watch the bot."""


class Housekeeping:
    """Has no loop of its own: the lease keeper asks it after each round."""

    def __init__(self, runtime: Runtime, workspaces: WorkspaceRegistry) -> None:
        self._runtime, self._workspaces = runtime, workspaces
        self._delete_at = self._clean_up_at = self._listening_at = self._departed_at = 0.0
        self._backlog_at = 0.0
        self._backlog: tuple[int, float] | None = None
        observe = runtime.telemetry.observe
        observe("colloquy.slack.request.unfinished", lambda: self._told(lambda found: found[0]))
        observe("colloquy.slack.request.oldest", lambda: self._told(self._age))
        self._cleanup: asyncio.Task[None] | None = None
        self._departed: asyncio.Task[None] | None = None
        self._erasure: asyncio.Task[None] | None = None

    def clean_up_next(self) -> None:
        """Have the next round clean up: a workspace may have gone."""
        self._clean_up_at = 0.0

    async def run_due(self) -> None:
        """Do what is due. Raises SQLAlchemyError."""
        await self._note_listening()
        await self._note_backlog()
        await self._delete_old_text()
        self._start_cleanup()
        self._start_erasing_departed()
        self._start_erasure()

    async def stop(self) -> None:
        """Cancel what is under way."""
        for task in (self._cleanup, self._departed, self._erasure):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def _note_listening(self) -> None:
        if self._runtime.clock() >= self._listening_at:
            self._listening_at = self._runtime.clock() + listening.NOTE_INTERVAL
            await self._runtime.db.run(listening.go_on, self._runtime.now())

    async def _note_backlog(self) -> None:
        """Keep what waits ready to be told, where somebody wants metrics."""
        if self._runtime.telemetry.counts and self._runtime.clock() >= self._backlog_at:
            self._backlog_at = self._runtime.clock() + _BACKLOG_INTERVAL
            self._backlog = None  # should the database be away
            self._backlog = await self._runtime.db.run(inbox.backlog)

    def _told(
        self, value_of: Callable[[tuple[int, float]], float]
    ) -> list[tuple[float, dict[str, str]]]:
        return [] if self._backlog is None else [(value_of(self._backlog), {})]

    def _age(self, found: tuple[int, float]) -> float:
        return max(0.0, self._runtime.now() - found[1]) if found[0] else 0.0

    async def _delete_old_text(self) -> None:
        if self._runtime.clock() >= self._delete_at:
            self._delete_at = self._runtime.clock() + _DELETE_INTERVAL
            now = self._runtime.now()
            await self._runtime.db.run(
                retention.delete_text, now - _ANSWERED_TEXT_TTL, now - _UNANSWERED_TEXT_TTL
            )
            await self._runtime.db.run(thread_messages.delete_expired, now)
            self._runtime.db.note_deletion()

    def _start_cleanup(self) -> None:
        """The server may hang, and the leases do not wait for it."""
        is_running = self._cleanup is not None and not self._cleanup.done()
        if not is_running and self._runtime.clock() >= self._clean_up_at:
            self._clean_up_at = self._runtime.clock() + _CLEANUP_INTERVAL
            self._cleanup = asyncio.create_task(self._clean_up())

    async def _clean_up(self) -> None:
        try:
            await self._workspaces.clean_up()
            for team_id in await self._runtime.db.run(inbox.with_withdrawals):
                workspace = await self._workspaces.get(team_id)
                if workspace is not None:
                    await withdraw_deleted(self._runtime, workspace)
        except (ColloquyError, SQLAlchemyError) as error:
            log.warning("cleanup failed", error=describe(error))

    def _start_erasing_departed(self) -> None:
        """It may be much, and tokens do not wait for it."""
        is_running = self._departed is not None and not self._departed.done()
        if not is_running and self._runtime.clock() >= self._departed_at:
            self._departed_at = self._runtime.clock() + _DEPARTED_INTERVAL
            self._departed = asyncio.create_task(self._erase_departed())

    async def _erase_departed(self) -> None:
        try:
            await self._workspaces.erase_departed()
        except (ColloquyError, SQLAlchemyError) as error:
            log.warning("workspaces not erased", error=describe(error))
            self._departed_at = self._runtime.clock() + _CLEANUP_INTERVAL

    def _start_erasure(self) -> None:
        """Somebody may read the database for long, and the leases do not wait for them."""
        if self._erasure is None or self._erasure.done():
            self._erasure = asyncio.create_task(self._erase())

    async def _erase(self) -> None:
        try:
            await self._runtime.db.erase_deleted()
        except sqlite3.Error as error:
            log.warning("deleted text is not taken out", error=describe(error))
