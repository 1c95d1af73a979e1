"""Statements that go to Postgres together: each is run once, in order, and fails in its own
transaction."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from colloquy_server.database.engine import sync_engine
from colloquy_server.database.models import User
from colloquy_server.database.pipelines import PipelinedConnection
from colloquy_server.database.transactions import EVERY_ACCOUNT, Session, commit
from psycopg.errors import UniqueViolation
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, bindparam, func, insert, select, text, update
from sqlalchemy.exc import DataError, IntegrityError, OperationalError

_ADD = insert(User)
_NAMES = select(User.display_name).order_by(User.id)
_NAME = select(User.display_name).where(User.id == bindparam("wanted"))
_RENAME = update(User).where(User.id == bindparam("wanted")).values(display_name=bindparam("name"))


@pytest.fixture
def connection(postgres_url: str) -> Iterator[Connection]:
    engine = sync_engine(postgres_url)
    with engine.connect() as connection:
        connection.execute(
            text(
                "INSERT INTO accounts (id, name, create_time, default_user_id)"
                " VALUES ('a', 'A', 1, 'd')"
            )
        )
        connection.commit()
        yield connection
    engine.dispose()


def user(number: int) -> dict[str, object]:
    return {
        "id": f"u{number}",
        "account_id": "a",
        "external_id": f"e{number}",
        "display_name": f"U{number}",
        "avatar_url": "",
        "create_time": 1,
        "is_leaving": False,  # with a default to look up, SQLAlchemy would run it
    }


def in_one(connection: Connection, *works: Any) -> list[Any]:
    """What these return, one after the other in one transaction."""
    return commit(connection, EVERY_ACCOUNT, lambda s: [work(s) for work in works])


def warm_up(connection: Connection) -> None:
    """Only what was run before is sent with others."""
    for number in (90, 91):
        in_one(
            connection,
            lambda s, number=number: s.run(_ADD, user(number)),
            lambda s: s.run(_NAMES),
            lambda s: s.run(_NAME, {"wanted": "u"}),
            lambda s: s.run(_RENAME, {"wanted": "u", "name": "n"}),
        )
    connection.execute(text("DELETE FROM users"))
    connection.commit()


def driver(connection: Connection) -> PipelinedConnection:
    made = connection.connection.driver_connection
    assert isinstance(made, PipelinedConnection)
    return made


def test_what_nobody_reads_is_committed_and_in_order(connection: Connection) -> None:
    warm_up(connection)
    in_one(
        connection,
        lambda s: s.send(_ADD, user(1)),
        lambda s: s.send(_RENAME, {"wanted": "u1", "name": "first"}),
        lambda s: s.send(_RENAME, {"wanted": "u1", "name": "last"}),
    )
    assert in_one(connection, lambda s: s.run(_NAMES).scalars()) == [["last"]]


def test_what_is_sent_is_seen_by_what_comes_after_it(connection: Connection) -> None:
    warm_up(connection)

    def work(s: Session) -> tuple[int, list[str], str, int]:
        added = s.send(_ADD, user(1))
        renamed = s.send(_RENAME, {"wanted": "u1", "name": "other"})
        names = s.run(_NAMES).scalars()
        s.send(_ADD, user(2))
        count = s.execute(select(func.count()).select_from(User)).scalar_one()
        return renamed().rowcount + added().rowcount, names, s.run(_NAMES).scalars()[-1], count

    assert in_one(connection, work) == [(2, ["other"], "U2", 2)]


def test_whichever_way_a_statement_goes_it_says_what_it_changed(connection: Connection) -> None:
    """The first time SQLAlchemy runs it."""
    add = insert(User)
    for number in (1, 2):
        values = user(number)
        assert in_one(connection, lambda s, values=values: s.run(add, values).rowcount) == [1]


def test_what_is_sent_of_a_transaction_that_fails_leaves_nothing(connection: Connection) -> None:
    warm_up(connection)

    def fail(s: Session) -> None:
        s.run(_ADD, user(1))
        s.send(_ADD, user(2))
        raise LookupError

    def undo(s: Session) -> None:
        s.send(_ADD, user(3))
        s.undo()

    with pytest.raises(LookupError):
        in_one(connection, fail)
    in_one(connection, undo)
    assert in_one(connection, lambda s: s.run(_NAMES).scalars()) == [[]]


def test_an_error_is_raised_by_what_waits_for_it_and_at_the_latest_by_the_commit(
    connection: Connection,
) -> None:
    warm_up(connection)
    in_one(connection, lambda s: s.run(_ADD, user(1)))

    def waits(s: Session) -> None:
        s.send(_ADD, user(1))
        s.run(_NAMES)

    with pytest.raises(IntegrityError) as raised:
        in_one(connection, waits)
    assert isinstance(raised.value.orig, UniqueViolation)
    with pytest.raises(IntegrityError) as raised:
        in_one(connection, lambda s: s.send(_ADD, user(2)), lambda s: s.send(_ADD, user(2)))
    assert isinstance(raised.value.orig, UniqueViolation)
    assert in_one(connection, lambda s: s.run(_NAMES).scalars()) == [["U1"]]


def test_a_value_that_postgres_cannot_take_is_an_error_of_its_statement(
    connection: Connection,
) -> None:
    warm_up(connection)
    with pytest.raises(DataError):
        in_one(connection, lambda s: s.send(_RENAME, {"wanted": "u1", "name": "\0"}))
    assert in_one(connection, lambda s: s.run(_NAMES).scalars()) == [[]]


def test_a_statement_is_known_after_a_rollback_also_one_of_another_kind(
    connection: Connection,
) -> None:
    """psycopg forgets what it has prepared then, by a command that forgets all of it."""
    warm_up(connection)
    for _ in range(10):
        connection.execute(text("SELECT 1 FROM users"))
    connection.rollback()
    in_one(connection, lambda s: s.send(_ADD, user(1)), lambda s: s.undo())
    assert in_one(connection, lambda s: s.run(_NAME, {"wanted": "u1"}).all()) == [[]]


def test_a_connection_that_is_lost_says_so(connection: Connection) -> None:
    warm_up(connection)

    def work(s: Session) -> None:
        process = s.execute(text("SELECT pg_backend_pid()")).scalar_one()
        with connection.engine.connect() as other:
            other.execute(
                text("SELECT pg_terminate_backend(:process, 10000)"), {"process": process}
            )
        s.send(_ADD, user(1))
        s.run(_NAMES)

    with pytest.raises(OperationalError) as raised:
        in_one(connection, work)
    assert raised.value.connection_invalidated
    assert raised.value.statement


def test_statements_go_out_when_somebody_waits_and_with_the_commit(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    warm_up(connection)
    ways = 0
    exchange = PipelinedConnection._exchange

    def counted(self: PipelinedConnection, command: bytes | None) -> None:
        nonlocal ways
        ways += 1
        exchange(self, command)

    monkeypatch.setattr(PipelinedConnection, "_exchange", counted)
    in_one(
        connection,
        lambda s: s.send(_ADD, user(1)),
        lambda s: s.run(_NAMES),
        lambda s: s.send(_RENAME, {"wanted": "u1", "name": "other"}),
    )
    assert ways == 2
    assert driver(connection).info.transaction_status == TransactionStatus.IDLE
