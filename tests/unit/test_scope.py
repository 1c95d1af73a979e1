"""Statements that go without the ORM see one account only, or are refused."""

from __future__ import annotations

import gc
import importlib
import pkgutil
import weakref
from collections.abc import Iterator, Mapping
from typing import Any, Final

import pytest
from colloquy_server.database import repository
from colloquy_server.database.models import Account, Base, Message, Owned, User, new_id
from colloquy_server.database.scope import EVERY_ACCOUNT, Unscoped, bound, of_account
from colloquy_server.database.transactions import Session
from sqlalchemy import (
    Connection,
    Delete,
    Executable,
    Insert,
    Table,
    Update,
    bindparam,
    create_engine,
    delete,
    func,
    insert,
    literal,
    select,
    text,
    true,
    update,
)
from sqlalchemy.orm import aliased
from sqlalchemy.sql import visitors

MINE, OTHERS = "mine", "others"
_other = aliased(User)


def user(account_id: str) -> dict[str, Any]:
    """The values of a user, who has the account's name."""
    values = {"external_id": None, "avatar_url": "", "create_time": 0}
    return {"id": new_id(), "account_id": account_id, "display_name": account_id, **values}


@pytest.fixture
def connection() -> Iterator[Connection]:
    """A database in which two accounts have a user each."""
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine, tables=[table_of(User)])
    with engine.connect() as connection, connection.begin():
        Session(connection, EVERY_ACCOUNT).run(insert(User), [user(MINE), user(OTHERS)])
        yield connection
    engine.dispose()


def table_of(model: type[Any]) -> Table:
    """What the model is a row of."""
    table = model.__table__
    assert isinstance(table, Table)
    return table


def names(connection: Connection, account_id: str = EVERY_ACCOUNT) -> list[str]:
    """The users whom an account sees."""
    statement = select(User.display_name).order_by(User.display_name)
    return list(Session(connection, account_id).run(statement).scalars())


_NAMES = select(User.display_name)
_ONE = select(literal(1).label("one")).subquery()


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param(_NAMES, id="a table"),
        pytest.param(select(table_of(User).c.display_name), id="a table without its model"),
        pytest.param(select(_other.display_name), id="an alias"),
        pytest.param(_NAMES.join(_other, true()), id="the left of a join"),
        pytest.param(select(_other.display_name).join(User, true()), id="the right of a join"),
        pytest.param(
            select(_other.display_name).where(User.create_time == _other.create_time),
            id="a table in a condition",
        ),
        pytest.param(
            select(_other.display_name).where(
                _other.id.in_(select(User.id).where(of_account(User)))
            ),
            id="a nested select that says whose it is",
        ),
        pytest.param(
            select(select(User.display_name).where(of_account(User)).scalar_subquery()),
            id="a nested select alone",
        ),
        pytest.param(
            _NAMES.select_from(_ONE.outerjoin(User, of_account(User))),
            id="the right side of an outer join",
        ),
    ],
)
def test_a_select_sees_one_account(connection: Connection, statement: Executable) -> None:
    for account in (MINE, OTHERS):
        assert list(Session(connection, account).run(statement).scalars()) == [account]
    assert len(Session(connection, EVERY_ACCOUNT).run(_NAMES).all()) == 2


def test_a_statement_that_is_bound_once_is_not_bound_to_that_account(
    connection: Connection,
) -> None:
    statement = select(User.display_name).where(User.display_name != bindparam("not"))
    for account in (MINE, OTHERS, MINE):
        rows = Session(connection, account).run(statement, {"not": ""})
        assert list(rows.scalars()) == [account]


def test_an_update_and_a_delete_change_one_account(connection: Connection) -> None:
    s = Session(connection, MINE)
    assert s.run(update(User).values(display_name="changed")).rowcount == 1
    assert names(connection) == ["changed", OTHERS]
    rename = update(User).where(User.display_name == bindparam("old")).values(avatar_url="x")
    assert s.run(rename, [{"old": "changed"}, {"old": OTHERS}]).rowcount == 1
    s.run(delete(User))
    assert names(connection) == [OTHERS]


@pytest.mark.parametrize("change", [update(User).values(avatar_url="x"), delete(User)])
def test_a_change_looks_at_one_account_only(
    connection: Connection, change: Update | Delete
) -> None:
    """Also at that of another table that is named beside the one that changes."""
    tied = change.where(_other.create_time == User.create_time)
    sql = str(bound(tied, MINE, None)[0])
    assert "users.account_id = :account" in sql
    assert "users_1.account_id = :account" in sql


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param(_NAMES.where(User.id.in_(select(_other.id))), id="a nested select"),
        pytest.param(
            _NAMES.where(select(Message.id).where(Message.author_id == User.id).exists()),
            id="a nested select that is tied by something else",
        ),
        pytest.param(select(select(func.count(User.id)).scalar_subquery()), id="a count"),
        pytest.param(select(_NAMES.subquery()), id="a select from a select"),
        pytest.param(select(_NAMES.cte()), id="a common table expression"),
        pytest.param(
            _NAMES.where(
                User.id.in_(select(_other.id).join(Message, true()).where(of_account(_other)))
            ),
            id="one of two tables of a nested select",
        ),
        pytest.param(
            select(_other.display_name).outerjoin(User, User.id == _other.id),
            id="the right side of an outer join",
        ),
        pytest.param(
            select(_other.display_name).join(User, User.id == _other.id, full=True),
            id="the right side of a full join",
        ),
        pytest.param(
            select(_other.display_name).outerjoin(User, User.id == _other.account_id),
            id="an outer join by another column",
        ),
        pytest.param(
            update(User).where(User.id.in_(select(_other.id))).values(avatar_url="x"),
            id="a nested select of an update",
        ),
        pytest.param(delete(User).where(User.id.in_(select(_other.id))), id="one of a delete"),
        pytest.param(_NAMES.union_all(_NAMES), id="a union"),
        pytest.param(text("SELECT display_name FROM users"), id="text"),
    ],
)
def test_what_does_not_say_whose_it_reads_is_refused(
    connection: Connection, statement: Executable
) -> None:
    with pytest.raises(Unscoped):
        Session(connection, MINE).run(statement)


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(user(OTHERS), id="another account's"),
        pytest.param([user(MINE), user(OTHERS)], id="one of two"),
        pytest.param({"id": "x", "display_name": "", "create_time": 0}, id="nobody's"),
        pytest.param(None, id="without values"),
    ],
)
def test_a_row_of_another_account_is_not_inserted(connection: Connection, values: Any) -> None:
    with pytest.raises(Unscoped):
        Session(connection, MINE).run(insert(User), values)
    assert names(connection) == [MINE, OTHERS]


def test_rows_of_the_account_are_inserted(connection: Connection) -> None:
    Session(connection, MINE).run(insert(User), [user(MINE), user(MINE)])
    assert names(connection, MINE) == [MINE] * 3


def test_what_belongs_to_nobody_is_open_to_all() -> None:
    statement = insert(Account)
    assert bound(statement, MINE, {"id": "x"}) == (statement, {"id": "x"})
    query = select(Account.id)
    assert bound(query, MINE, None) == (query, None)


def test_a_statement_for_no_values_is_not_run(connection: Connection) -> None:
    statement = update(User).where(User.id == bindparam("user")).values(display_name="x")
    assert Session(connection, MINE).run(statement, []).rowcount == 0


# --- the statements of the repository -------------------------------------------------------------

EVERYBODYS: Final[Mapping[str, str]] = {
    "queue._STARTABLE": "the scheduler looks in all accounts for what may start, each in its turn",
    "indexing._UNENTERED": "what is said is made findable after the fact, for all accounts at once",
    "indexing._SQLITE_TERMS": "the same; the terms have no account, and their entries were scoped",
    "indexing._POSTGRES_TERMS": "the same",
    "indexing._POSTGRES_MARK": "how far conversations are findable is noted for all at once",
    "deliveries._WAITING": "a process delivers the events of all accounts",
    "deliveries._FIRST": "the same",
    "deliveries._CLAIM": "the same",
    "deliveries._OLD": "what is old is swept for all accounts at once",
}
"""Statements that no account can run, each with the reason why that is right."""


def statements() -> Iterator[tuple[str, Executable]]:
    """The statements that the repository makes once, by their modules and names."""
    for module in pkgutil.iter_modules(repository.__path__):
        found = vars(importlib.import_module(f"{repository.__name__}.{module.name}"))
        for name, value in found.items():
            values = value.values() if isinstance(value, dict) else [value]
            for each in values:
                if isinstance(each, Executable):
                    yield f"{module.name}.{name}", each


def reads_what_is_owned(statement: Executable) -> bool:
    """Whether a table in it belongs to accounts."""
    owned = {table_of(model) for model in Owned.__subclasses__()}
    assert isinstance(statement, visitors.ExternallyTraversible)
    return any(getattr(part, "table", part) in owned for part in visitors.iterate(statement))


def test_all_statements_are_found() -> None:
    found = [name for name, _ in statements()]
    assert len(found) > 50
    assert found.count("conversations._PAGES") == 36
    assert set(EVERYBODYS) <= set(found)


@pytest.mark.parametrize(
    ("name", "statement"), [pytest.param(*each, id=each[0]) for each in statements()]
)
def test_a_statement_of_the_repository_is_an_accounts_or_the_servers(
    name: str, statement: Executable
) -> None:
    if name in EVERYBODYS:
        with pytest.raises(Unscoped):
            bound(statement, MINE, {})
    elif isinstance(statement, Insert):  # by its values, when it runs
        assert bound(statement, MINE, {"account_id": MINE})
    else:
        _, values = bound(statement, MINE, {})
        assert values == ({"account": MINE} if reads_what_is_owned(statement) else {})


@pytest.mark.parametrize("viewer_id", ["", "somebody"])
@pytest.mark.parametrize("is_admitted", [False, True])
@pytest.mark.parametrize("model", [Account, Message])
def test_a_statement_that_was_made_for_one_call_is_not_kept(
    viewer_id: str,
    is_admitted: bool,
    model: type[Any],
) -> None:
    made = select(model.id).where(model.id == new_id())
    bound(made, MINE, {}, viewer_id, is_admitted=is_admitted)
    kept = weakref.ref(made)
    del made
    gc.collect()
    assert kept() is None
