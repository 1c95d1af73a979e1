"""What the tests of attacks share: a server that is a process of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.harness import Colloquy, ServerProcess


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[Colloquy]:
    """The database and the provider of a server that is a process; its own server is not there."""
    async with Colloquy(tmp_path) as running:
        await running.stop()
        yield running


@pytest.fixture
async def server(home: Colloquy) -> AsyncIterator[ServerProcess]:
    """A server as a process, so that its memory is its own."""
    process = ServerProcess(home, GRPC_VERBOSITY="NONE")
    home.channel = home.far = await process.start()
    yield process
    await process.end()
