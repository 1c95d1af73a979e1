"""What the unit tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
from colloquy_slack.database.engine import migrate

from tests.migrated import make_database


@pytest.fixture(params=["sqlite", "postgres"])
def slack_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new database of the Slack bot; the one on Postgres is the server's too."""
    url = f"sqlite:///{tmp_path}/folder/slack.db"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_url")
    make_database(url, migrate)
    migrate(url)
    return url
