"""A member's list of conversations: how long it takes says nothing of those that are hidden."""

from __future__ import annotations

from pathlib import Path

import pytest
from colloquy_server.database.engine import sync_engine
from colloquy_server.database.models import Conversation, Membership, User, Visibility
from colloquy_server.database.repository import access, conversations
from colloquy_server.database.transactions import EVERY_ACCOUNT, Viewer, commit
from sqlalchemy import Connection, insert

from tests.migrated import make_database
from tests.steps import counted

SEEN = 20


def _fill(connection: Connection, hidden: int) -> Viewer:
    """Conversations of Mia's, of which Noah takes part in some, and sees no others."""
    account_id = commit(connection, EVERY_ACCOUNT, lambda s: access.create_account(s, "A", None).id)
    both = {"account_id": account_id}
    people = [
        {**both, "id": name, "external_id": name, "create_time": 0} for name in ("mia", "noah")
    ]
    connection.execute(insert(User), people)
    times = dict.fromkeys(("create_time", "update_time", "activity_time"), 0)
    made = {**both, **times, "title": "", "model": "m", "system_prompt": "", "creator_id": "mia"}
    ids = [f"{number:036}" for number in range(hidden + SEEN)]
    connection.execute(
        insert(Conversation),
        [{**made, "id": each, "visibility": Visibility.PARTICIPANTS} for each in ids],
    )
    joined = [("mia", each) for each in ids] + [("noah", each) for each in ids[:SEEN]]
    connection.execute(
        insert(Membership),
        [
            {**both, "conversation_id": each, "user_id": user, "position": number}
            for number, (user, each) in enumerate(joined, 1)
        ],
    )
    connection.commit()
    return Viewer(account_id, "noah")


@pytest.mark.parametrize("participant", [None, "mia", "noah", "zoe"])
def test_a_list_takes_as_many_steps_whatever_is_hidden(
    tmp_path: Path, participant: str | None
) -> None:
    taken = []
    for hidden in (0, 2_000):
        url = f"sqlite:///{tmp_path}/{hidden}.db"
        make_database(url)
        with sync_engine(url).connect() as connection:
            viewer = _fill(connection, hidden)
            with counted(connection) as steps:
                found = commit(
                    connection,
                    viewer,
                    lambda s: conversations.page(s, limit=50, after=None, participant=participant),
                )
        assert len(found) == (0 if participant == "zoe" else SEEN)
        taken.append(steps.taken)
    assert taken[0] > 0
    assert taken[1] == pytest.approx(taken[0], rel=0.1)
