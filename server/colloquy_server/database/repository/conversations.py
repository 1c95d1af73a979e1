"""Conversations: making, reading, listing, changing and deleting them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sqlalchemy import delete as sql_delete
from sqlalchemy import select, tuple_, update
from sqlalchemy.orm import Session, selectinload

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
    hold_account,
    insert_new,
    is_generating,
    lock,
    now,
    with_participants,
)
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
) -> Conversation:
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
    found = with_participants(s, conversation_id) if is_new else _existing(s, new)
    assert found is not None
    return found


def _existing(s: Session, new: NewConversation) -> Conversation | None:
    if new.request_id:
        made = s.scalars(
            select(Conversation).where(Conversation.request_id == new.request_id)
        ).one_or_none()
        if made is not None:
            if made.request_hash != new.request_hash:
                raise RequestIdReused
            return with_participants(s, made.id)
    if new.external_id:
        found = s.scalars(
            select(Conversation.id).where(Conversation.external_id == new.external_id)
        ).one_or_none()
        if found is not None:
            return with_participants(s, found)
    return None


def page(
    s: Session, *, limit: int, after: tuple[int, str] | None, participant: str | None
) -> list[Conversation]:
    """Conversations by latest activity, newest first; `after` is (activity_time, id)."""
    query = (
        select(Conversation)
        .order_by(Conversation.activity_time.desc(), Conversation.id.desc())
        .limit(limit)
        .options(selectinload(Conversation.memberships).joinedload(Membership.user))
    )
    if after is not None:
        query = query.where(
            tuple_(Conversation.activity_time, Conversation.id) < tuple_(after[0], after[1])
        )
    if participant is not None:
        wrote = (
            select(Membership.conversation_id)
            .join(User, User.id == Membership.user_id)
            .where(User.external_id == participant)
        )
        query = query.where(Conversation.id.in_(wrote))
    return list(s.scalars(query))


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
    return Change(
        conversation_id, locked.version, conversation=with_participants(s, conversation_id)
    )


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
