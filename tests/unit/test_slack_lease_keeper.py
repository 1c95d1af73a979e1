"""Who is served: each workspace by one worker, on its present connection, whatever others do."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from colloquy_slack.database import leases
from colloquy_slack.database.engine import Database, migrate
from colloquy_slack.runtime import Runtime
from colloquy_slack.serving.lease_keeper import LeaseKeeper
from colloquy_slack.settings import SettingsError
from colloquy_slack.workspaces.registry import (
    Identity,
    WorkspaceRegistry,
)
from colloquy_slack.workspaces.workspace import Workspace

from tests.fakes.workspaces import workspace


class Some(WorkspaceRegistry):
    """Workspaces as a test says: `ways` is what getting one does."""

    def __init__(self, **ways: Any) -> None:
        self.ways = ways
        self.got: Counter[str] = Counter()
        """How often each was asked for."""
        self.asked = asyncio.Event()
        """Set when the last one that is not served was asked for: all leases were seen to before
        that."""

    async def installed(self) -> Mapping[str, object]:
        return {team_id: id(way) for team_id, way in self.ways.items()}

    async def identify(self, team_id: str | None) -> Identity | None:
        return Identity(team_id, "UBOT") if team_id else None

    def wake(self, team_id: str) -> None:
        pass

    async def get(self, team_id: str | None) -> Workspace | None:
        way = self.ways[team_id or ""]
        self.got[team_id or ""] += 1
        if isinstance(way, Exception) or team_id == max(self.ways):
            self.asked.set()
        if isinstance(way, asyncio.Event):
            await way.wait()
        if isinstance(way, Exception):
            raise way
        return cast("Workspace | None", way)

    async def erase_departed(self) -> None:
        pass

    async def clean_up(self) -> None:
        pass

    async def close(self) -> None:
        pass


class Stand:
    """Workers that only tell on whose behalf they run."""

    def __init__(self) -> None:
        self.running: list[Workspace] = []
        self.changed = asyncio.Event()

    def of(self, _runtime: Runtime, workspace: Workspace, _may_write: object) -> Any:
        return SimpleNamespace(run=lambda: self._run(workspace))

    async def _run(self, workspace: Workspace) -> None:
        self.running.append(workspace)
        self.changed.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.running.remove(workspace)

    async def until(self, *workspaces: Workspace) -> None:
        """Waits until these and no others are served."""
        async with asyncio.timeout(60):
            while [id(one) for one in self.running] != [id(one) for one in workspaces]:
                self.changed.clear()
                await self.changed.wait()


@pytest.fixture
async def runtime(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Runtime]:
    """On SQLite, unless a test says otherwise."""
    is_on_postgres = getattr(request, "param", "sqlite") == "postgres"
    url = (
        request.getfixturevalue("postgres_url")
        if is_on_postgres
        else f"sqlite:///{tmp_path}/slack.db"
    )
    migrate(url)
    db = Database(url)
    yield Runtime(db)
    await db.close()


@pytest.fixture
def stand(monkeypatch: pytest.MonkeyPatch) -> Stand:
    stand = Stand()
    monkeypatch.setattr("colloquy_slack.serving.lease_keeper.Worker", stand.of)
    return stand


async def ended(task: asyncio.Task[None], keeper: LeaseKeeper) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await keeper.stop()


async def test_a_workspace_that_does_not_connect_does_not_keep_others_from_being_served(
    runtime: Runtime, stand: Stand
) -> None:
    good = workspace("T3")
    some = Some(T1=asyncio.Event(), T2=SettingsError("another key"), T3=good)
    now = [1_000.0]
    runtime = replace(runtime, now=lambda: now[0])
    keeper = LeaseKeeper(runtime, some, ttl=60.0)
    keeping = asyncio.create_task(keeper.run())
    await stand.until(good)
    # All leases are renewed although one hangs and one fails.
    for _ in range(3):
        now[0] += 50.0
        some.asked.clear()
        keeper.wake()
        await asyncio.wait_for(some.asked.wait(), 60)
    for team_id in ("T1", "T2", "T3"):
        assert not await runtime.db.run(leases.claim, team_id, "another", now[0] + 1.0, 1.0)
    assert not keeping.done()
    await stand.until(good)
    await ended(keeping, keeper)
    assert not stand.running


@pytest.mark.parametrize("runtime", ["sqlite", "postgres"], indirect=True)
async def test_a_lease_that_was_being_claimed_at_the_end_is_released(
    runtime: Runtime, stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, claiming, go_on = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
    claim = leases.claim_free

    def claim_slowly(*given: Any) -> set[str]:
        loop.call_soon_threadsafe(claiming.set)
        assert go_on.wait(5)
        return claim(*given)

    monkeypatch.setattr(leases, "claim_free", claim_slowly)
    keeper = LeaseKeeper(runtime, Some(T1=workspace("T1")), ttl=60.0)
    keeping = asyncio.create_task(keeper.run())
    await asyncio.wait_for(claiming.wait(), 60)
    ending = asyncio.create_task(ended(keeping, keeper))
    await asyncio.wait([ending], timeout=0.1)  # as far as it comes
    go_on.set()
    await asyncio.wait_for(ending, 60)
    assert await runtime.db.run(leases.claim, "T1", "another", runtime.now(), 60.0)


async def test_a_workspace_that_was_connected_anew_is_served_anew(
    runtime: Runtime, stand: Stand
) -> None:
    before, after = workspace("T1"), workspace("T1")
    some = Some(T1=before)
    keeper = LeaseKeeper(runtime, some, ttl=60.0)
    keeping = asyncio.create_task(keeper.run())
    await stand.until(before)
    some.ways["T1"] = after
    keeper.wake()
    await stand.until(after)
    # One that cannot be connected for now is served on what it has.
    some.ways["T1"] = None
    some.asked.clear()
    keeper.wake()
    await asyncio.wait_for(some.asked.wait(), 60)
    await stand.until(after)
    await ended(keeping, keeper)


async def test_many_idle_workspaces_cost_what_one_does(
    runtime: Runtime, stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, asked = runtime.db.run, 0

    async def counted(*what: Any, **how: Any) -> Any:
        nonlocal asked
        asked += 1
        return await run(*what, **how)

    monkeypatch.setattr(runtime.db, "run", counted)
    some = Some(**{f"T{number:02}": workspace(f"T{number:02}") for number in range(40)})
    keeper = LeaseKeeper(replace(runtime, sleep=lambda _: asyncio.sleep(0.01)), some, ttl=60.0)
    keeping = asyncio.create_task(keeper.run())
    async with asyncio.timeout(60):
        while len(stand.running) < 40:
            stand.changed.clear()
            await stand.changed.wait()
    asked = 0
    for _ in range(3):
        keeper.wake()
        await asyncio.sleep(0.05)
    assert 0 < asked < 40
    assert set(some.got.values()) == {1}
    await ended(keeping, keeper)
