"""Holds the leases of the workspaces that this process serves, and runs a Worker for each."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Collection
from dataclasses import dataclass
from uuid import uuid4

import structlog
from colloquy import ColloquyError
from sqlalchemy.exc import SQLAlchemyError

from colloquy_slack.database import inbox, leases, retention
from colloquy_slack.logs import names
from colloquy_slack.serving.worker import Worker
from colloquy_slack.workspaces.registry import Workspaces
from colloquy_slack.workspaces.workspace import Tools, Workspace

log = structlog.get_logger()

_WORDS_KEPT = 86_400.0
_UNANSWERED_KEPT = 7 * 86_400.0
_FORGET_EVERY = 3_600.0
"""Seconds that the words of a request are kept here once it was answered (the server has them) and
when it was not (a button may still ask for that), and how often that is seen to."""

POLL = 0.5
"""Seconds after which a request that another process took in is seen."""

_TIDY_EVERY = 60.0
"""Seconds between two tries to finish what workspaces left behind that went away."""


@dataclass(frozen=True, slots=True)
class _Serving:
    """A workspace that is served, on the connection that it had when that began."""

    workspace: Workspace
    worker: Worker
    task: asyncio.Task[None]
    installed: object
    """What the installation was known by."""


class Keeper:
    """The one who decides which workspaces are served here."""

    def __init__(self, tools: Tools, workspaces: Workspaces, ttl: float) -> None:
        """`ttl` is how many seconds a workspace waits for this process once it died."""
        self._tools, self._workspaces, self._ttl = tools, workspaces, ttl
        self._owner = f"{socket.gethostname()[:20]}:{os.getpid()}:{uuid4().hex[:16]}"
        # By workspace: until when the lease is ours for sure, on the clock that never goes back.
        self._held_until: dict[str, float] = {}
        self._served: dict[str, _Serving] = {}
        # By workspace: a connection may take long, and the leases of the others do not wait.
        self._connecting: dict[str, asyncio.Task[None]] = {}
        self._look = asyncio.Event()
        self._forget_at = self._tidy_at = 0.0
        self._tidying: asyncio.Task[None] | None = None

    def look(self) -> None:
        """Workspaces came or went: see to it now."""
        self._tidy_at = 0.0
        self._look.set()

    async def run(self) -> None:
        """Take and renew leases until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._poll())
            while True:
                self._look.clear()
                try:
                    await self._see_to_all()
                    await self._forget_words()
                    self._begin_to_tidy()
                except SQLAlchemyError as error:
                    log.warning("leases not renewed", problem=type(error).__name__)
                await self._tools.wait(self._look, self._ttl / 3)

    async def stop(self) -> None:
        """Stop all workers and give the leases back."""
        if self._tidying is not None:
            self._tidying.cancel()
            await asyncio.gather(self._tidying, return_exceptions=True)
        leaving = self._served.keys() | self._connecting.keys()
        await asyncio.gather(*(self._leave(team_id) for team_id in leaving))
        await self._tools.db.run(leases.give_back_all, self._owner)

    async def _poll(self) -> None:
        """Wake the workers that have work which another process took in: one question for all."""
        while True:
            await self._tools.sleep(POLL)
            if not self._served:
                continue
            try:
                work = await self._tools.db.run(inbox.work)
            except SQLAlchemyError as error:
                log.warning("work not looked for", problem=type(error).__name__)
                continue
            for team_id, (live, stopped) in work.items():
                serving = self._served.get(team_id)
                if serving is not None and serving.worker.has_to_look(live, stopped):
                    serving.workspace.wake.set()

    async def _forget_words(self) -> None:
        if self._tools.clock() >= self._forget_at:
            self._forget_at = self._tools.clock() + _FORGET_EVERY
            now = self._tools.now()
            await self._tools.db.run(
                retention.delete_text, now - _WORDS_KEPT, now - _UNANSWERED_KEPT
            )

    def _begin_to_tidy(self) -> None:
        """The server may hang, and the leases do not wait for it."""
        is_busy = self._tidying is not None and not self._tidying.done()
        if not is_busy and self._tools.clock() >= self._tidy_at:
            self._tidy_at = self._tools.clock() + _TIDY_EVERY
            self._tidying = asyncio.create_task(self._tidy())

    async def _tidy(self) -> None:
        try:
            await self._workspaces.tidy()
        except (ColloquyError, SQLAlchemyError) as error:
            log.warning("not tidied", problem=names(error))

    async def _see_to_all(self) -> None:
        installed = await self._workspaces.installed()
        held = await self._hold(installed.keys())
        for team_id in [one for one, task in self._connecting.items() if task.done()]:
            del self._connecting[team_id]
        for team_id in (self._served.keys() | self._connecting.keys()) - held:
            await self._leave(team_id)
        if gone := self._held_until.keys() - installed.keys():
            await self._tools.db.run(leases.give_back, gone, self._owner)
        for team_id in held - self._connecting.keys():
            if not self._is_served(team_id, installed[team_id]):
                work = self._see_to(team_id, installed[team_id])
                self._connecting[team_id] = asyncio.create_task(work)

    async def _hold(self, team_ids: Collection[str]) -> set[str]:
        """Take and renew leases. Returns the workspaces whose leases are ours."""
        db, ttl, now = self._tools.db, self._ttl, self._tools.now
        began = self._tools.clock()
        held = await db.run(leases.renew, self._owner, now(), ttl)
        self._held_until = dict.fromkeys(held, began + ttl)
        free = set(team_ids) - held
        if free:
            began = self._tools.clock()
            taken = await db.run(leases.take_free, free, self._owner, now(), ttl)
            self._held_until |= dict.fromkeys(taken, began + ttl)
        return self._held_until.keys() & set(team_ids)

    def _is_served(self, team_id: str, installed: object) -> bool:
        serving = self._served.get(team_id)
        return serving is not None and serving.installed == installed and not serving.task.done()

    async def _see_to(self, team_id: str, installed: object) -> None:
        """Have a workspace served on its present connection. Never fails: others are served too."""
        try:
            workspace = await self._workspaces.get(team_id)
        except Exception as error:
            log.error("workspace not connected", team=team_id, problem=names(error))
            return
        if workspace is None:
            return
        await self._stop_worker(team_id)
        worker = self._worker(workspace)
        task = asyncio.create_task(worker.run())
        self._served[team_id] = _Serving(workspace, worker, task, installed)
        log.info("serving workspace", team=team_id)

    def _worker(self, workspace: Workspace) -> Worker:
        def lease_left() -> float:
            return self._held_until.get(workspace.team_id, 0.0) - self._tools.clock()

        return Worker(self._tools, workspace, lease_left)

    async def _leave(self, team_id: str) -> None:
        """Stop serving a workspace, and whatever was begun in order to."""
        connecting = self._connecting.pop(team_id, None)
        if connecting is not None:
            connecting.cancel()
            await asyncio.gather(connecting, return_exceptions=True)
        await self._stop_worker(team_id)

    async def _stop_worker(self, team_id: str) -> None:
        serving = self._served.pop(team_id, None)
        if serving is None:
            return
        serving.task.cancel()
        (outcome,) = await asyncio.gather(serving.task, return_exceptions=True)
        if isinstance(outcome, Exception):
            log.error("worker broke", team=team_id, problem=names(outcome))
        log.info("no longer serving workspace", team=team_id)
