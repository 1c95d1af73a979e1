"""What a member's statements see of each table, with the ORM and without it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from colloquy_server.database import audience
from colloquy_server.database.audience import Viewer, table_of
from colloquy_server.database.models import (
    Account,
    Attachment,
    Base,
    Blob,
    CancelWish,
    Conversation,
    ConversationRemoval,
    Membership,
    Message,
    MessageAttachment,
    Owned,
    PersonalState,
    Receipt,
    SearchEntry,
    User,
    Visibility,
)
from colloquy_server.database.repository.conversations import by_ids
from colloquy_server.database.scope import EVERY_ACCOUNT, Unscoped, bound, of_account
from colloquy_server.database.transactions import Session
from sqlalchemy import (
    Connection,
    Select,
    bindparam,
    create_engine,
    delete,
    exists,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.orm import aliased

ACCOUNT = "account"
MIA, NOAH = "mia", "noah"
CONVERSATIONS = ("open", "made", "joined", "left", "hidden")
SEEN = {"open", "made", "joined"}
"""Of these Mia sees: the first is the account's, the second hers, in the third she takes part."""

LIMITED = [*audience.CONVERSATIONS, *audience.FILES]
MODELS: dict[Any, type[Any]] = {table_of(model): model for model in Owned.__subclasses__()}


def rows() -> Iterator[tuple[type[Any], dict[str, Any]]]:
    """In each conversation one thing of every kind; each has the conversation's name in its id."""
    yield Account, {"id": ACCOUNT, "name": "A", "default_user_id": NOAH, "create_time": 1}
    for name in (MIA, NOAH):
        yield User, {"id": name, "external_id": name, "create_time": 1}
    for number, name in enumerate(CONVERSATIONS):
        kind = Visibility.ACCOUNT if name == "open" else Visibility.PARTICIPANTS
        times = {"create_time": 1, "update_time": 1}
        yield (
            Conversation,
            {
                "id": name,
                "model": "m",
                "activity_time": 1,
                "visibility": kind,
                **times,
                "creator_id": MIA if name == "made" else NOAH,
            },
        )
        of_it = {"conversation_id": name}
        yield Membership, {**of_it, "user_id": NOAH, "position": 1}
        if name in ("joined", "left"):
            is_removed = name == "left"
            yield Membership, {**of_it, "user_id": MIA, "position": 2, "is_removed": is_removed}
        yield (
            Message,
            {
                "id": f"{name} message",
                "position": 1,
                "role": 1,
                "state": 3,
                "version": 1,
                **of_it,
                **times,
            },
        )
        of_message = {"message_id": f"{name} message"}
        yield Blob, {"sha256": name, "key": name, "byte_size": 1, "touch_time": 1}
        yield (
            Attachment,
            {
                "id": f"{name} file",
                "sha256": name,
                "filename": name,
                "uploader_id": NOAH,
                "content_type": "",
                "kind": 1,
                "byte_size": 1,
                "create_time": 1,
                "touch_time": 1,
            },
        )
        yield MessageAttachment, {**of_message, "position": 1, "attachment_id": f"{name} file"}
        yield Receipt, {**of_message, "body": ""}
        yield SearchEntry, {"number": number + 1, **of_message, **of_it}
        for user_id in (MIA, NOAH):
            yield PersonalState, {**of_it, "user_id": user_id, "change_mark": 1}
            removal = {**of_it, "change_mark": 1, "create_time": 1}
            yield (
                ConversationRemoval,
                {**removal, "user_id": user_id, "was_open": user_id == NOAH and name == "open"},
            )
        yield CancelWish, {**of_it, "request_id": "r", "expire_time": 1}


@pytest.fixture
def connection() -> Iterator[Connection]:
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with engine.connect() as connection, connection.begin():
        for model, values in rows():
            owner = {} if model is Account else {"account_id": ACCOUNT}
            connection.execute(insert(model).values(**owner, **values))
        yield connection
    engine.dispose()


def mine(connection: Connection, user_id: str = MIA, account_id: str = ACCOUNT) -> Session:
    return Session(connection, Viewer(account_id, user_id))


def place(model: Any) -> Any:
    """A column that begins with the conversation in which a row is."""
    for name in ("conversation_id", "message_id", "id"):
        if hasattr(model, name):
            return getattr(model, name)
    raise AssertionError(model)


def conversations(found: list[str]) -> set[str]:
    return {name.partition(" ")[0] for name in found}


def test_of_every_table_is_said_once_who_sees_it() -> None:
    tables = [*audience.CONVERSATIONS, *audience.FILES, *audience.PERSONAL, *audience.SHARED]
    assert len(tables) == len(set(tables))
    assert set(tables) == set(MODELS)


@pytest.mark.parametrize("table", LIMITED, ids=lambda table: table.name)
def test_a_member_sees_what_is_in_conversations_that_it_sees(
    connection: Connection, table: Any
) -> None:
    model = MODELS[table]
    another = aliased(model)
    s = mine(connection)
    for named in (model, table.c, table.alias().c, another):
        assert conversations(list(s.run(select(place(named))).scalars())) == SEEN
    assert conversations(list(s.scalars(select(place(model))))) == SEEN
    assert conversations([place(row) for row in s.scalars(select(model))]) == SEEN
    everybody = Session(connection, ACCOUNT).run(select(place(model))).scalars()
    assert conversations(list(everybody)) == set(CONVERSATIONS)


@pytest.mark.parametrize("table", LIMITED, ids=lambda table: table.name)
def test_another_account_sees_nothing(connection: Connection, table: Any) -> None:
    s = mine(connection, account_id="other")
    assert s.run(select(place(MODELS[table]))).all() == []
    assert s.scalars(select(place(MODELS[table]))).all() == []


@pytest.mark.parametrize("model", [Conversation, Message, Attachment, CancelWish])
@pytest.mark.parametrize("is_orm", [False, True])
def test_a_member_changes_only_what_it_sees(
    connection: Connection, model: Any, is_orm: bool
) -> None:
    s = mine(connection)
    column = model.expire_time if model is CancelWish else model.create_time
    change: Any = update(model).values({column: 7}).returning(place(model))
    changed = s.execute(change, execution_options={"synchronize_session": False}).scalars().all()
    if not is_orm:
        changed = s.run(update(model).values({column: 8}).returning(place(model))).scalars()
    assert conversations(list(changed)) == SEEN
    untouched = Session(connection, EVERY_ACCOUNT).run(select(place(model)).where(column == 1))
    assert conversations(untouched.scalars()) == set(CONVERSATIONS) - SEEN


def test_a_member_deletes_only_what_it_sees(connection: Connection) -> None:
    mine(connection).run(delete(CancelWish))
    left = Session(connection, EVERY_ACCOUNT).run(select(CancelWish.conversation_id)).scalars()
    assert set(left) == set(CONVERSATIONS) - SEEN


@pytest.mark.parametrize("is_admitted", [False, True])
def test_what_is_somebodys_own_is_seen_by_nobody_else(
    connection: Connection, is_admitted: bool
) -> None:
    s = mine(connection)
    if is_admitted:
        s.admit()
    states = s.run(select(PersonalState.conversation_id, PersonalState.user_id))
    assert set(states) == {(name, MIA) for name in SEEN}
    removals = s.run(select(ConversationRemoval.conversation_id, ConversationRemoval.user_id))
    assert set(removals) == {*((name, MIA) for name in CONVERSATIONS), ("open", NOAH)}


@pytest.mark.parametrize("user_id", [MIA, NOAH, "nobody"])
def test_who_sees_a_conversation_that_was_read_is_who_sees_its_row(
    connection: Connection, user_id: str
) -> None:
    everything = Session(connection, ACCOUNT)
    told = {
        row.id
        for row in by_ids(everything, CONVERSATIONS)
        if audience.is_seen(
            row.visibility,
            row.creator and row.creator.id,
            [each.id for each in row.participants],
            user_id,
        )
    }
    assert told == set(mine(connection, user_id).run(select(Conversation.id)).scalars())


def test_a_file_is_seen_by_who_uploaded_it(connection: Connection) -> None:
    connection.execute(delete(MessageAttachment))
    files = select(Attachment.id)
    assert mine(connection).run(files).all() == []
    assert len(mine(connection, NOAH).run(files).all()) == len(CONVERSATIONS)


def test_in_a_transaction_that_is_admitted_files_alone_are_limited(connection: Connection) -> None:
    s = mine(connection)
    s.admit()
    assert set(s.run(select(Conversation.id)).scalars()) == set(CONVERSATIONS)
    assert set(s.scalars(select(Conversation.id))) == set(CONVERSATIONS)
    assert conversations(s.run(select(Attachment.id)).scalars()) == SEEN
    assert conversations(list(s.scalars(select(Attachment.id)))) == SEEN
    with s.unlimited():
        assert conversations(s.run(select(Attachment.id)).scalars()) == set(CONVERSATIONS)
        assert conversations(list(s.scalars(select(Attachment.id)))) == set(CONVERSATIONS)
    assert conversations(s.run(select(Attachment.id)).scalars()) == SEEN


_COUNT = select(func.count(Message.id)).where(of_account(Message)).scalar_subquery()


@pytest.mark.parametrize(
    "statement",
    [
        select(_COUNT),
        select(User.id).where(exists().where(of_account(Message), Message.author_id == User.id)),
    ],
    ids=["a count", "beside people"],
)
def test_what_a_nested_select_alone_looks_at_is_refused(
    connection: Connection, statement: Select[Any]
) -> None:
    with pytest.raises(Unscoped):
        mine(connection).run(statement)


def test_a_nested_select_beside_what_is_seen_is_taken(connection: Connection) -> None:
    statement = select(Conversation.id, _COUNT)
    assert {row[0] for row in mine(connection).run(statement)} == SEEN


def test_a_table_of_which_nothing_is_said_is_seen_by_nobody(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audience, "SHARED", frozenset())
    assert mine(connection).run(select(User.id)).all() == []


def test_a_statement_of_who_sees_all_has_no_more_conditions() -> None:
    statement = select(Conversation.id).where(Conversation.id == bindparam("wanted"))
    before = str(bound(statement, ACCOUNT, {"wanted": ""})[0])
    seen, values = bound(statement, ACCOUNT, {"wanted": ""}, MIA)
    assert "EXISTS" in str(seen)
    assert values == {"wanted": "", "account": ACCOUNT, "viewer": MIA}
    assert str(bound(statement, ACCOUNT, {"wanted": ""})[0]) == before
    assert "visibility" not in before
