"""The server says an outage seldom, however often it is met."""

from __future__ import annotations

import pytest
import structlog
from colloquy_server.logs import Seldom

AWAY = {"event": "database is away", "work": "poll"}


def test_what_an_outage_repeats_is_said_seldom_and_counted() -> None:
    now = 0.0
    seldom = Seldom(lambda: now)
    assert seldom(None, "warning", dict(AWAY)) == AWAY
    for _ in range(3):
        now += 3.0
        with pytest.raises(structlog.DropEvent):
            seldom(None, "warning", dict(AWAY))
    other = {**AWAY, "work": "checkpoint"}
    assert seldom(None, "warning", dict(other)) == other
    now += 3.0
    assert seldom(None, "warning", dict(AWAY)) == {**AWAY, "left_out": 3}


def test_what_is_about_one_call_is_always_said() -> None:
    seldom = Seldom(lambda: 0.0)
    for _ in range(3):
        assert seldom(None, "error", {"event": "call failed"})
