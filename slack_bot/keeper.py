"""Holds the leases of the workspaces that this process serves, and runs a Worker for each."""

from __future__ import annotations

import asyncio
import os
import socket
from uuid import uuid4

import structlog
from sqlalchemy.exc import SQLAlchemyError

from slack_bot import inbox, leases
from slack_bot.worker import Worker
from slack_bot.workspace import Tools, Workspace
from slack_bot.workspaces import Workspaces

log = structlog.get_logger()

_WORDS_KEPT = 86_400.0
_FORGET_EVERY = 3_600.0
"""Seconds that the words of a request are kept here once it is done (the server has them), and
how often that is seen to."""


class Keeper:
    """The one who decides which workspaces are served here."""

    def __init__(self, tools: Tools, workspaces: Workspaces, ttl: float) -> None:
        """`ttl` is how many seconds a workspace waits for this process once it died."""
        self._tools, self._workspaces, self._ttl = tools, workspaces, ttl
        self._owner = f"{socket.gethostname()[:20]}:{os.getpid()}:{uuid4().hex[:16]}"
        # By workspace: until when the lease is ours for sure, on the clock that never goes back.
        self._held_until: dict[str, float] = {}
        self._workers: dict[str, asyncio.Task[None]] = {}
        self._look = asyncio.Event()
        self._forget_at = 0.0

    def look(self) -> None:
        """Workspaces came or went: see to it now."""
        self._look.set()

    async def run(self) -> None:
        """Take and renew leases until cancelled."""
        while True:
            self._look.clear()
            try:
                await self._see_to_all()
                await self._forget_words()
            except SQLAlchemyError as error:
                log.warning("leases not renewed", problem=type(error).__name__)
            await self._tools.wait(self._look, self._ttl / 3)

    async def stop(self) -> None:
        """Stop all workers and give the leases back."""
        for team_id in list(self._workers):
            await self._stop_worker(team_id)
        for team_id in self._held_until:
            await self._tools.db.run(leases.give_back, team_id, self._owner)

    async def _forget_words(self) -> None:
        if self._tools.clock() >= self._forget_at:
            self._forget_at = self._tools.clock() + _FORGET_EVERY
            await self._tools.db.run(inbox.forget_before, self._tools.now() - _WORDS_KEPT)

    async def _see_to_all(self) -> None:
        team_ids = set(await self._workspaces.team_ids())
        for team_id in team_ids:
            began = self._tools.clock()
            is_held = await self._tools.db.run(
                leases.take, team_id, self._owner, self._tools.now(), self._ttl
            )
            if is_held:
                self._held_until[team_id] = began + self._ttl
                await self._ensure_worker(team_id)
            else:
                await self._stop_worker(team_id)
        for team_id in set(self._workers) - team_ids:
            await self._stop_worker(team_id)

    async def _ensure_worker(self, team_id: str) -> None:
        task = self._workers.get(team_id)
        if task is not None and not task.done():
            return
        if task is not None and not task.cancelled() and task.exception():
            log.error("worker broke", team=team_id, problem=type(task.exception()).__name__)
        workspace = await self._workspaces.get(team_id)
        if workspace is not None:
            self._workers[team_id] = asyncio.create_task(self._worker(workspace).run())
            log.info("serving workspace", team=team_id)

    def _worker(self, workspace: Workspace) -> Worker:
        def may_write() -> bool:
            return self._tools.clock() < self._held_until.get(workspace.team_id, 0.0)

        return Worker(self._tools, workspace, may_write)

    async def _stop_worker(self, team_id: str) -> None:
        task = self._workers.pop(team_id, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            log.info("no longer serving workspace", team=team_id)
