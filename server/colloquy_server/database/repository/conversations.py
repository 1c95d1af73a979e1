"""Conversations: making, reading, listing, changing and deleting them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    Select,
    Text,
    bindparam,
    select,
    tuple_,
    update,
)
from sqlalchemy import delete as sql_delete

from colloquy_server.database.models import (
    CancelWish,
    Conversation,
    Membership,
    Message,
    User,
    new_id,
)
from colloquy_server.database.repository import attachments, search
from colloquy_server.database.repository.changes import (
    NO_SYNC,
    Change,
    conversation,
    hold_account,
    insert_new,
    is_generating,
    lock,
    now,
    with_participants,
)
from colloquy_server.database.rows import CONVERSATION, ConversationRow, bare_conversation
from colloquy_server.database.scope import of_account
from colloquy_server.database.transactions import Session
from colloquy_server.errors import RequestIdReused


@dataclass(frozen=True, slots=True)
class NewConversation:
    """What a conversation is made from; `request_hash` tells two requests of one id apart."""

    title: str
    system_prompt: str
    external_id: str | None
    request_id: str | None
    request_hash: str


def create(
    s: Session, account_id: str, new: NewConversation, choose_model: Callable[[], str]
) -> ConversationRow:
    """Makes a conversation, or returns the one that has this external_id or request_id.

    Raises RequestIdReused when the request_id made another one, NotFound when the account is gone,
    and what `choose_model` raises.
    """
    found = _existing(s, new)
    if found is not None:
        return found
    model = choose_model()
    hold_account(s, account_id)
    time = now(s)
    conversation_id = new_id()
    is_new = insert_new(
        s,
        Conversation,
        id=conversation_id,
        account_id=account_id,
        title=new.title,
        title_by_user=bool(new.title),
        model=model,
        system_prompt=new.system_prompt,
        external_id=new.external_id,
        request_id=new.request_id,
        request_hash=new.request_hash,
        create_time=time,
        update_time=time,
        activity_time=time,
    )
    found = conversation(s, conversation_id) if is_new else _existing(s, new)
    assert found is not None
    return found


_BY_REQUEST = select(Conversation.id, Conversation.request_hash).where(
    Conversation.request_id == bindparam("wanted")
)
_BY_EXTERNAL_ID = select(Conversation.id).where(Conversation.external_id == bindparam("wanted"))


def _existing(s: Session, new: NewConversation) -> ConversationRow | None:
    if new.request_id:
        made = s.run(_BY_REQUEST, {"wanted": new.request_id}).one_or_none()
        if made is not None:
            if made[1] != new.request_hash:
                raise RequestIdReused
            return conversation(s, made[0])
    if new.external_id:
        found = s.run(_BY_EXTERNAL_ID, {"wanted": new.external_id}).scalar_one_or_none()
        if found is not None:
            return conversation(s, found)
    return None


def _page(*conditions: ColumnElement[bool]) -> Select[Any]:
    return (
        select(*CONVERSATION)
        .where(*conditions)
        .order_by(Conversation.activity_time.desc(), Conversation.id.desc())
        .limit(bindparam("size", type_=Integer))
    )


_behind = tuple_(Conversation.activity_time, Conversation.id) < tuple_(
    bindparam("time", type_=BigInteger), bindparam("after", type_=Text)
)
_is_of_participant = Conversation.id.in_(
    select(Membership.conversation_id)
    .join(User, User.id == Membership.user_id)
    .where(of_account(Membership), of_account(User), User.external_id == bindparam("participant"))
)
_PAGES = {
    (False, False): _page(),
    (True, False): _page(_behind),
    (False, True): _page(_is_of_participant),
    (True, True): _page(_behind, _is_of_participant),
}
"""By whether it is a later page, and whether of one participant."""


def page(
    s: Session, *, limit: int, after: tuple[int, str] | None, participant: str | None
) -> list[ConversationRow]:
    """Conversations by latest activity, newest first; `after` is (activity_time, id)."""
    values: dict[str, object] = {"size": limit}
    if after is not None:
        values |= {"time": after[0], "after": after[1]}
    if participant is not None:
        values["participant"] = participant
    statement = _PAGES[after is not None, participant is not None]
    return with_participants(s, [bare_conversation(row) for row in s.run(statement, values)])


def change(s: Session, conversation_id: str, values: Mapping[str, str]) -> Change:
    """Sets a user's title, model or system_prompt. Raises NotFound."""
    locked = lock(s, conversation_id)
    more = {"title_by_user": True, "title_owed": 0} if "title" in values else {}
    s.execute(
        update(Conversation)
        .where(Conversation.id == conversation_id)
        .values(**values, **more, update_time=locked.now, info_version=locked.version),
        execution_options=NO_SYNC,
    )
    return Change(conversation_id, locked.version, conversation=conversation(s, conversation_id))


def delete(s: Session, conversation_id: str) -> tuple[Change, list[str]]:
    """Deletes a conversation with all that is in it; also returns its live replies. Raises
    NotFound."""
    locked = lock(s, conversation_id)
    live = list(
        s.scalars(
            select(Message.id).where(Message.conversation_id == conversation_id, is_generating)
        )
    )
    files = attachments.of_conversation(s, conversation_id)
    search.forget(s, [conversation_id])
    for table in (CancelWish, Membership, Message):
        s.execute(
            sql_delete(table).where(table.conversation_id == conversation_id),
            execution_options=NO_SYNC,
        )
    s.execute(
        sql_delete(Conversation).where(Conversation.id == conversation_id),
        execution_options=NO_SYNC,
    )
    if files:
        attachments.remove_unused(s, files)
    return Change(conversation_id, locked.version, deleted=True), live
