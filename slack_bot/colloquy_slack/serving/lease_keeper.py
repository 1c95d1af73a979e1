"""Claims and renews the leases of workspaces, and runs a Worker for each that it owns."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Collection
from dataclasses import dataclass
from uuid import uuid4

import structlog
from sqlalchemy.exc import SQLAlchemyError

from colloquy_slack.database import inbox, leases
from colloquy_slack.logs import describe
from colloquy_slack.runtime import Runtime
from colloquy_slack.serving.housekeeping import Housekeeping
from colloquy_slack.serving.worker import Worker
from colloquy_slack.workspaces.registry import WorkspaceRegistry
from colloquy_slack.workspaces.workspace import Workspace

log = structlog.get_logger()

POLL_INTERVAL = 0.5
"""Seconds after which a request that another process took in is seen."""


@dataclass(frozen=True, slots=True)
class _Serving:
    """A workspace that is served, on the connection that it had when that began."""

    workspace: Workspace
    worker: Worker
    task: asyncio.Task[None]
    installed: object
    """What the installation was known by."""


class LeaseKeeper:
    """Decides which workspaces this process serves."""

    def __init__(self, runtime: Runtime, workspaces: WorkspaceRegistry, ttl: float) -> None:
        """`ttl` is how many seconds a workspace waits for this process once it died."""
        self._runtime, self._workspaces, self._ttl = runtime, workspaces, ttl
        self._owner = f"{socket.gethostname()[:20]}:{os.getpid()}:{uuid4().hex[:16]}"
        # By workspace: until when the lease is ours for sure, on the clock that never goes back.
        self._owned_until: dict[str, float] = {}
        self._served: dict[str, _Serving] = {}
        # By workspace: a connection may take long, and the leases of the others do not wait.
        self._connecting: dict[str, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._housekeeping = Housekeeping(runtime, workspaces)
        runtime.telemetry.observe("colloquy.slack.workspaces", lambda: [(len(self._served), {})])
        runtime.telemetry.observe("colloquy.slack.request.live", lambda: [(self._live, {})])

    def wake(self) -> None:
        """Workspaces came or went: see to it now."""
        self._housekeeping.clean_up_next()
        self._wake.set()

    async def run(self) -> None:
        """Claim and renew leases until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._poll())
            while True:
                self._wake.clear()
                try:
                    await self._reconcile()
                    await self._housekeeping.run_due()
                except SQLAlchemyError as error:
                    log.warning("leases not renewed", error=type(error).__name__)
                await self._runtime.wait(self._wake, self._ttl / 3)

    async def stop(self) -> None:
        """Stop all workers and release the leases."""
        await self._housekeeping.stop()
        stopping = self._served.keys() | self._connecting.keys()
        await asyncio.gather(*(self._stop_serving(team_id) for team_id in stopping))
        await self._runtime.db.run(leases.release_all, self._owner)

    @property
    def _live(self) -> int:
        """How many requests are answered here."""
        return sum(serving.worker.live for serving in list(self._served.values()))

    async def _poll(self) -> None:
        """Wake the workers that have work which another process took in: one query for all."""
        while True:
            await self._runtime.sleep(POLL_INTERVAL)
            if not self._served:
                continue
            try:
                unfinished = await self._runtime.db.run(inbox.unfinished_by_workspace)
            except SQLAlchemyError as error:
                log.warning("inbox not polled", error=type(error).__name__)
                continue
            for team_id, (number, stopped) in unfinished.items():
                serving = self._served.get(team_id)
                if serving is not None and serving.worker.has_more_to_do(number, stopped):
                    serving.workspace.wake.set()

    async def _reconcile(self) -> None:
        """Serve the workspaces whose leases are owned, and no others."""
        installed = await self._workspaces.installed()
        owned = await self._renew_and_claim(installed.keys())
        for team_id in [one for one, task in self._connecting.items() if task.done()]:
            del self._connecting[team_id]
        for team_id in (self._served.keys() | self._connecting.keys()) - owned:
            await self._stop_serving(team_id)
        if gone := self._owned_until.keys() - installed.keys():
            await self._runtime.db.run(leases.release, gone, self._owner)
        for team_id in owned - self._connecting.keys():
            if not self._is_served(team_id, installed[team_id]):
                work = self._serve(team_id, installed[team_id])
                self._connecting[team_id] = asyncio.create_task(work)

    async def _renew_and_claim(self, team_ids: Collection[str]) -> set[str]:
        """Returns the workspaces whose leases are owned."""
        db, ttl, now = self._runtime.db, self._ttl, self._runtime.now
        began = self._runtime.clock()
        renewed = await db.run(leases.renew, self._owner, now(), ttl)
        self._owned_until = dict.fromkeys(renewed, began + ttl)
        others = set(team_ids) - renewed
        if others:
            began = self._runtime.clock()
            claimed = await db.run(leases.claim_free, others, self._owner, now(), ttl)
            self._owned_until |= dict.fromkeys(claimed, began + ttl)
        return self._owned_until.keys() & set(team_ids)

    def _is_served(self, team_id: str, installed: object) -> bool:
        serving = self._served.get(team_id)
        return serving is not None and serving.installed == installed and not serving.task.done()

    async def _serve(self, team_id: str, installed: object) -> None:
        """Have a workspace served on its present connection. Never fails: others are served too."""
        try:
            workspace = await self._workspaces.get(team_id)
        except Exception as error:
            log.error("workspace not connected", team=team_id, error=describe(error))
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
            return self._owned_until.get(workspace.team_id, 0.0) - self._runtime.clock()

        return Worker(self._runtime, workspace, lease_left)

    async def _stop_serving(self, team_id: str) -> None:
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
            log.error("worker failed", team=team_id, error=describe(outcome))
        log.info("workspace no longer served", team=team_id)
