"""A short form of `make chaos`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.run import run


@pytest.mark.timeout(900)
async def test_nothing_is_lost_doubled_or_torn_when_servers_die(tmp_path: Path) -> None:
    report = await run(seconds=10, seed=20, folder=tmp_path)
    assert not report.problems, "\n".join(report.lines())
    assert all(report.counts[blow] for blow in ("kills", "stops", "drains"))
    assert report.counts["replies completed"] > 0
