"""A short form of `make soak`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.memory import HAS_PROC
from tests.soak.run import run


@HAS_PROC
@pytest.mark.timeout(300)
async def test_a_server_holds_nothing_of_people_who_came_and_left(tmp_path: Path) -> None:
    report = await run(seconds=5, seed=5, folder=tmp_path, people=3, judges=False)
    assert not report.problems, "\n".join(report.text())
    assert report.counts["replies completed"] > 0
    assert report.counts["conversations deleted"] > 0
    assert set(report.left) == {"tasks", "descriptors", "threads"}
