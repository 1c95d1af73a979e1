"""Conversations: making, reading, listing, changing and deleting them, and their titles."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import delete as sql_delete
from sqlalchemy import select, tuple_, update
from sqlalchemy.orm import Session, selectinload

from colloquy_server.database.models import (
    CancelWish,
    Conversation,
    Membership,
    Message,
    Role,
    State,
    User,
    db_now,
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
    undo,
    with_participants,
)
from colloquy_server.errors import RequestIdReused

TITLE_TRIES = 3
"""How often the title model is asked for one conversation before it stays without a title."""


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
    """Deletes a conversation with all that is in it; also returns the replies that were being
    written. Raises NotFound."""
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


def owed_titles(s: Session, limit: int) -> list[tuple[str, str]]:
    """(account_id, conversation_id) of titles that are owed and that no process works on."""
    rows = s.execute(
        select(Conversation.account_id, Conversation.id)
        .where(Conversation.title_owed > 0, Conversation.title_lease_until < db_now())
        .order_by(Conversation.activity_time)
        .limit(limit)
    )
    return [(row[0], row[1]) for row in rows]


def claim_title(s: Session, conversation_id: str, ttl: int) -> list[Message] | None:
    """Takes on a title that is owed, for `ttl` microseconds, and returns the first finished
    exchange (prompt, reply); None when nothing is owed any more."""
    claimed = s.scalars(
        update(Conversation)
        .where(
            Conversation.id == conversation_id,
            Conversation.title_owed > 0,
            Conversation.title_lease_until < db_now(),
        )
        .values(title_owed=Conversation.title_owed - 1, title_lease_until=db_now() + ttl)
        .returning(Conversation.id),
        execution_options=NO_SYNC,
    ).one_or_none()
    if claimed is None:
        return None
    reply = s.scalars(
        select(Message)
        .where(
            Message.conversation_id == conversation_id,
            Message.role == Role.ASSISTANT,
            Message.state == State.COMPLETED,
        )
        .order_by(Message.position)
        .limit(1)
    ).one_or_none()
    if reply is None:
        return None
    prompt = s.scalars(select(Message).where(Message.id == reply.reply_to)).one()
    return [prompt, reply]


def renew_titles(s: Session, conversation_ids: Collection[str], ttl: int) -> None:
    """Goes on holding titles that are being made, for `ttl` more microseconds."""
    s.execute(
        update(Conversation)
        .where(Conversation.id.in_(conversation_ids), Conversation.title_lease_until > 0)
        .values(title_lease_until=db_now() + ttl),
        execution_options=NO_SYNC,
    )


def set_title(s: Session, conversation_id: str, title: str) -> Change | None:
    """Stores a title that the model made, unless there is one by now. Raises NotFound."""
    locked = lock(s, conversation_id)
    conversation = locked.conversation
    if conversation.title or conversation.title_by_user:
        undo(s)
        return None
    s.execute(
        update(Conversation)
        .where(Conversation.id == conversation_id)
        .values(
            title=title,
            title_owed=0,
            title_lease_until=0,
            update_time=locked.now,
            info_version=locked.version,
        ),
        execution_options=NO_SYNC,
    )
    return Change(
        conversation_id, locked.version, conversation=with_participants(s, conversation_id)
    )
