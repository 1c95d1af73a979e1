"""What the bench compares is comparable."""

from __future__ import annotations

import pytest
from colloquy_server.replies import publishing

from bench.floors import tokens as floor


@pytest.mark.parametrize("name", ["_WINDOW", "_WINDOW_PER_REPLY", "_WINDOW_MAX"])
def test_the_floor_collects_text_in_the_window_of_the_server(name: str) -> None:
    assert getattr(floor, name) == getattr(publishing, name)
