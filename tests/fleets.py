"""The kinds of fleet that tests run on, and marks for tests that need other ones."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.harness import Colloquy
from tests.http_channel import PROTOCOLS

_BY_HTTP = tuple(f"sqlite by {protocol}" for protocol in PROTOCOLS)

FLEETS: tuple[str, ...] = ("sqlite", "postgres-2")
if os.environ.get("TEST_FLEETS") == "all":
    FLEETS += ("postgres", "sqlite-2")
elif os.environ.get("TEST_FLEETS") == "http":
    FLEETS = _BY_HTTP

ANY = pytest.mark.parametrize("colloquy", ["sqlite"], indirect=True)
"""What it shows happens before the database, or is the same on all: one kind will do."""

BY_ALL = pytest.mark.parametrize("colloquy", ["sqlite", *_BY_HTTP], indirect=True)
"""The same, and it is shown by gRPC and by all that HTTP has in its place."""

ALSO_BY_HTTP = pytest.mark.parametrize(
    "colloquy", dict.fromkeys((*FLEETS, *_BY_HTTP)), indirect=True
)
"""On every kind, and by HTTP too."""

ALONE = pytest.mark.parametrize("colloquy", ["sqlite", "postgres"], indirect=True)
"""What it shows is between one server and its database."""

ALONE_BY_ALL = pytest.mark.parametrize("colloquy", ["sqlite", "postgres", *_BY_HTTP], indirect=True)
"""The same, and by all protocols."""


@asynccontextmanager
async def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Colloquy]:
    """A fleet of the kind that a fixture is asked for, with its provider's double."""
    name, _, protocol = request.param.partition(" by ")
    kind, _, replicas = name.partition("-")
    url = request.getfixturevalue("postgres_url") if kind == "postgres" else ""
    protocol = protocol or "grpc"
    async with Colloquy(tmp_path, url, replicas=int(replicas or 1), protocol=protocol) as running:
        yield running
