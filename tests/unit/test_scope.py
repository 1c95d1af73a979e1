"""Statements without the ORM see one account only, or are refused."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pytest
from colloquy_server.database import repository, scope
from colloquy_server.database.models import (
    Account,
    Base,
    CancelWish,
    Conversation,
    Membership,
    Message,
    Owned,
    User,
    new_id,
)
from colloquy_server.database.scope import EVERY_ACCOUNT, Unscoped, of_account
from colloquy_server.database.transactions import Session
from sqlalchemy import (
    Connection,
    Delete,
    Executable,
    Insert,
    Select,
    Update,
    and_,
    bindparam,
    create_engine,
    delete,
    exists,
    func,
    insert,
    literal,
    select,
    text,
    update,
)
from sqlalchemy.orm import aliased

MINE, OTHERS = "mine", "others"


@pytest.fixture
def connection() -> Iterator[Connection]:
    """A database in which two accounts have a user each."""
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with engine.connect() as connection, connection.begin():
        s = Session(connection, EVERY_ACCOUNT)
        for account in (MINE, OTHERS):
            s.run(insert(User), user(account))
        yield connection


def user(account_id: str) -> dict[str, Any]:
    """The values of a user, which is named as its account."""
    values = {"external_id": None, "avatar_url": "", "create_time": 0}
    return {"id": new_id(), "account_id": account_id, "display_name": account_id, **values}


_NAMES = select(User.display_name)
_other = aliased(User)


@pytest.mark.parametrize(
    "statement",
    [
        _NAMES,
        select(_other.display_name),
        _NAMES.join(_other, _other.display_name != ""),
        _NAMES.where(User.id.in_(select(_other.id).where(of_account(_other)))),
        select(select(User.display_name).where(of_account(User)).limit(1).scalar_subquery()),
        select(literal(1).label("one"))
        .subquery()
        .select()
        .with_only_columns(User.display_name)
        .select_from(select(literal(1)).subquery().outerjoin(User, of_account(User))),
    ],
)
def test_a_select_sees_one_account(connection: Connection, statement: Executable) -> None:
    for account in (MINE, OTHERS):
        assert set(Session(connection, account).run(statement).scalars()) == {account}
