"""What several tests of the server's parts stand on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.migrated import make_database


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a new database with the present schema, of each kind."""
    url = f"sqlite:///{tmp_path}/conversations.db"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_url")
    make_database(url)
    return url
