"""Trials of what befalls a machine while people come and go: its disk is full for a while, its
clock is set forward and back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import resource
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from tests.chaos.fleet import Fleet
from tests.soak import shifted
from tests.soak.crowds import Trial
from tests.soak.people import Person, Town, town
from tests.soak.run import errors_of, measured_fleet

_PEOPLE = 6
_SECONDS = 40.0
_DISK = "20M"

_FULL = 9.0
"""Seconds for which a disk is full: longer than a lease, so that owners lose their replies."""

_COUNTED = (
    "replies",
    "replies completed",
    "messages judged",
    "files there and back",
    "conversations deleted",
)


async def full_disk(folder: Path) -> Trial:
    """The disk is full twice while people talk and bring files: what was accepted is not lost."""
    with _disk(folder / "disk") as (place, kind):
        async with measured_fleet(
            folder,
            {
                "DATABASE_URL": f"sqlite:///{place}/conversations.db",
                "STORAGE_URL": f"file://{place}/files",
            },
        ) as fleet:

            async def upset(_town: Town) -> None:
                for _ in range(2):
                    await asyncio.sleep(_SECONDS / 6)
                    with _filled(place, fleet):
                        await asyncio.sleep(_FULL)

            trial = await _among_people(fleet, upset)
            refused = sum('"UNAVAILABLE"' in line for line in fleet.log_lines())
            is_same = len(fleet.replicas[0].lines) == 0
            trial.lines.append(
                f"twice {_FULL:.0f} s without room ({kind}): {refused:,} calls were refused as"
                " UNAVAILABLE, and the same process went on"
            )
            trial.expect(refused > 0, "nothing was refused: the disk was not full")
            trial.expect(is_same, "the server was started again")
    return trial


async def clock_jumps(folder: Path) -> Trial:
    """The clock is set forward and back by an hour, at last beside a crash."""
    async with measured_fleet(folder, run=shifted.run) as fleet:
        clock = folder / shifted.FILE

        async def upset(_town: Town) -> None:
            for hours in (1, 0, -1, 0):
                await asyncio.sleep(_SECONDS / 6)
                _set(clock, hours)
            await asyncio.sleep(_SECONDS / 6)
            # Who died held leases of an hour that is still to come.
            await fleet.end(fleet.replicas[0], signal.SIGKILL)
            _set(clock, -1)
            await fleet.start(fleet.replicas[0])

        trial = await _among_people(fleet, upset)
        trial.lines.append(
            "the clock was set forward by an hour and back, back by an hour and forward, and back"
            " by an hour while the server was away that was killed"
        )
    return trial


def _set(clock: Path, hours: int) -> None:
    written = clock.with_suffix(".new")
    written.write_text(str(hours * 3_600))
    written.rename(clock)


async def _among_people(fleet: Fleet, upset: Callable[[Town], Awaitable[None]]) -> Trial:
    """Has people come and go, who judge all that is stored, while something is wrong."""
    trial = Trial()
    async with town(fleet, seed=1, held=2 * _PEOPLE) as here:
        until = time.monotonic() + _SECONDS
        async with asyncio.TaskGroup() as group:
            group.create_task(_as_coroutine(upset(here)))
            for number in range(_PEOPLE):
                person = Person(here, f"person {number}", random.Random(f"trial/{number}"))
                group.create_task(person.run(until))
        while here.kept:
            await here.kept.popleft()()
    trial.problems += here.problems + errors_of(fleet)
    trial.lines.append(
        "; ".join(f"{here.counts[what]:,} {what}" for what in _COUNTED)
        + ": nothing lost, nothing doubled" * (not trial.problems)
    )
    return trial


async def _as_coroutine(work: Awaitable[None]) -> None:
    await work


@contextlib.contextmanager
def _disk(place: Path) -> Iterator[tuple[Path, str]]:
    """A small disk of its own where this user may mount one, else a folder; and what it is."""
    place.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", f"size={_DISK}", "tmpfs", str(place)]
    try:
        is_mounted = not subprocess.run(mounting, capture_output=True, check=False).returncode
    except OSError:
        is_mounted = False
    try:
        yield place, f"a disk of {_DISK}B" if is_mounted else "RLIMIT_FSIZE"
    finally:
        if is_mounted:
            subprocess.run(["umount", "--lazy", str(place)], check=True)


@contextlib.contextmanager
def _filled(place: Path, fleet: Fleet) -> Iterator[None]:
    """No block of the disk is free; where it is none of its own, the server may write nothing."""
    if os.path.ismount(place):
        ballast = place / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while file.write(b"x" * 65_536):
                pass
        try:
            yield
        finally:
            ballast.unlink()
        return
    pid = fleet.replicas[0].process.pid
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
