"""Marks for tests that need not run on every kind of fleet."""

from __future__ import annotations

import pytest

ANY = pytest.mark.parametrize("colloquy", ["sqlite"], indirect=True)
"""What it shows happens before the database, or is the same on all: one kind will do."""

ALONE = pytest.mark.parametrize("colloquy", ["sqlite", "postgres"], indirect=True)
"""What it shows is between one server and its database."""
