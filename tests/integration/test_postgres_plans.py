"""How Postgres goes about a search by a member who sees few of many conversations: by its indexes,
and never through what others said."""

from __future__ import annotations

from typing import Any

from colloquy_server.database.engine import sync_engine
from colloquy_server.database.models import State
from colloquy_server.database.repository import access, conversations, search, sending
from colloquy_server.database.repository.conversations import NewConversation
from colloquy_server.database.repository.search import owner_term
from colloquy_server.database.repository.sending import OnBusy, Prompt
from colloquy_server.database.repository.users import Author
from colloquy_server.database.transactions import EVERY_ACCOUNT, Session, Viewer, commit
from sqlalchemy import Connection, text

from tests.fakes.choices import own_model

COPIES = 2_000
"""Of a hidden conversation with a message; the member takes part in every twentieth."""


def copy(c: Connection, table: str, changed: dict[str, str], condition: str = "true") -> None:
    """Copies the one row of a table for which the condition is true, `COPIES` times: `changed` has
    what is another in each, of the number `g`."""
    columns = text("SELECT column_name FROM information_schema.columns WHERE table_name = :name")
    names = [name for (name,) in c.execute(columns, {"name": table}) if name not in changed]
    c.execute(
        text(
            f"INSERT INTO {table} ({', '.join([*changed, *names])})"
            f" SELECT {', '.join([*changed.values(), *names])}"
            f" FROM {table}, generate_series(1, {COPIES}) AS g WHERE {condition}"
        )
    )


def fill(c: Connection, account_id: str, user_id: str) -> None:
    """Stores the copies, and what is searched of them."""
    commit(c, account_id, lambda s: _say_hello(s, account_id))
    copy(c, "conversations", {"id": "'c' || g", "visibility": "2"})
    message = {"id": "'m' || g", "conversation_id": "'c' || g", "request_id": "NULL"}
    copy(c, "messages", {**message, "state": str(int(State.COMPLETED))}, "role = 1")
    c.execute(
        text(
            "INSERT INTO memberships (account_id, conversation_id, user_id, position, is_removed)"
            f" SELECT :account, 'c' || g * 20, :user, 1, false"
            f" FROM generate_series(1, {COPIES} / 20) AS g"
        ),
        {"account": account_id, "user": user_id},
    )
    c.execute(
        text(
            "INSERT INTO search_entries (account_id, conversation_id, message_id)"
            " SELECT account_id, conversation_id, id FROM messages WHERE id LIKE 'm%'"
        )
    )
    c.execute(
        text(
            "INSERT INTO search_words (number, words)"
            " SELECT number, CAST(:account || ' ' || conversation_id || repeat('0', 64) || ' hello'"
            " AS tsvector) FROM search_entries"
        ),
        {"account": owner_term(account_id)},
    )
    c.execute(text("ANALYZE"))
    c.commit()


def _say_hello(s: Session, account_id: str) -> None:
    new = NewConversation("", "", None, None, "")
    conversation = conversations.create(s, account_id, new, lambda: "model")
    prompt = Prompt(conversation.id, "hello", Author(), None, OnBusy.ENQUEUE)
    sending.send(s, account_id, prompt, own_model, None, 100)


_READ = text("SELECT seq_tup_read FROM pg_stat_xact_user_tables WHERE relname = 'search_words'")


def look(s: Session, account_id: str) -> tuple[list[str], int]:
    """What a search finds, and how many entries it went through one after the other."""
    found: list[str] = []
    more = True
    while more:
        hits, more = search.find(
            s,
            account_id,
            [["hello"]],
            "",
            limit=50,
            max_bytes=1 << 20,
            shape=_id,
            after=found[-1] if found else "",
        )
        found += hits
    return found, s.connection().execute(_READ).scalar_one()


def _id(row: Any) -> tuple[str, int]:
    return row.id, 0


def test_a_members_search_goes_through_no_entries_of_others(postgres_url: str) -> None:
    engine = sync_engine(postgres_url)
    with engine.connect() as c:
        account_id = commit(c, EVERY_ACCOUNT, lambda s: access.create_account(s, "A", None).id)
        ann = Author(external_id="ann")
        user_id = commit(c, account_id, lambda s: access.keep_user(s, account_id, ann).id)
        fill(c, account_id, user_id)
        found, read = commit(c, Viewer(account_id, user_id), lambda s: look(s, account_id))
    engine.dispose()
    assert found == [f"m{number}" for number in range(COPIES, 0, -20)]
    assert read == 0
