"""What all tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.harness import Caller, Colloquy


@pytest.fixture
async def colloquy(tmp_path: Path) -> AsyncIterator[Colloquy]:
    """A server with its provider's double."""
    async with Colloquy(tmp_path) as running:
        yield running


@pytest.fixture
async def alice(colloquy: Colloquy) -> Caller:
    """A service's key of an account."""
    return await colloquy.account("alice")
