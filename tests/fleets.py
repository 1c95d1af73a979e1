"""The kinds of fleet that tests run on, and marks for tests that need other ones."""

from __future__ import annotations

import os

import pytest

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
