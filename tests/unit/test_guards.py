"""The list of guards is true: each is in the code, once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stateful.guard_list import GUARDS, Guard
from tests.stateful.guards import without

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_a_guard_is_where_the_list_says(guard: Guard) -> None:
    assert without(guard, ROOT)
