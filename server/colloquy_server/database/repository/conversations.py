"""Conversations: making, reading, listing, changing and deleting them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
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

from colloquy_server.database.marks import next_mark
from colloquy_server.database.models import (
    Account,
    CancelWish,
    Conversation,
    Feature,
    Membership,
    Message,
    Quota,
    User,
    Visibility,
    new_id,
)
from colloquy_server.database.repository import (
    accounting,
    aliases,
    attachments,
    outbox,
    quotas,
    removals,
    search,
    seen,
)
from colloquy_server.database.repository.changes import (
    NO_SYNC,
    Change,
    conversation,
    hold_account,
    insert_new,
    lock,
    now,
    require_control,
    with_participants,
)
from colloquy_server.database.repository.quotas import FREE, Charge
from colloquy_server.database.repository.seen import ALL, Only
from colloquy_server.database.repository.usage import Pricing, unpriced
from colloquy_server.database.repository.users import Author, resolve_author
from colloquy_server.database.rows import (
    ConversationRow,
    conversation_without_participants,
    select_conversations,
)
from colloquy_server.database.scope import of_account
from colloquy_server.database.transactions import Session
from colloquy_server.database.values import EventType
from colloquy_server.errors import RequestIdReused


@dataclass(frozen=True, slots=True)
class NewConversation:
    """What a conversation is made from; `request_hash` tells two requests of one id apart. Without
    `visibility` it gets what its account has for new ones."""

    title: str
    system_prompt: str
    external_id: str | None
    request_id: str | None
    request_hash: str
    author: Author = field(default_factory=Author)
    visibility: Visibility | None = None
    expire_time: int | None = None


def create(
    s: Session,
    account_id: str,
    new: NewConversation,
    choose_model: Callable[[], str],
    charge: Charge = FREE,
) -> ConversationRow:
    """Makes a conversation, or returns the one that has this external_id or request_id.

    A member learns nothing of conversations that they do not see: a request_id is a member's own,
    and where an external_id is that of a conversation that is hidden from the member, another is
    made, by `own_external_id`. A refusal would say that there is one, and what it is called may
    say much.

    Raises RequestIdReused when the request_id made another one, NotFound when the account is gone,
    QuotaExceeded, and what `choose_model` raises.
    """
    if s.viewer_id and new.request_id:
        # No request_id of others can be like it: each begins with the id of its member.
        new = replace(new, request_id=f"{s.viewer_id}\x1f{new.request_id}")
    found = _existing(s, new)
    if found is not None:
        return found
    model = choose_model()
    hold_account(s, account_id)
    time = now(s)
    mark, features = s.run(_MARK, {"owner": account_id, "account": account_id}).one()
    values = {
        "change_mark": mark,
        "id": new_id(),
        "account_id": account_id,
        "title": new.title,
        "title_by_user": bool(new.title),
        "model": model,
        "system_prompt": new.system_prompt,
        "visibility": new.visibility or s.run(_DEFAULT, {"wanted": account_id}).scalar_one(),
        "creator_id": resolve_author(s, account_id, new.author, time).id,
        "request_id": new.request_id,
        "request_hash": new.request_hash,
        "create_time": time,
        "update_time": time,
        "activity_time": time,
        "api_key_id": charge.api_key_id,
        "expire_time": new.expire_time,
    }
    for name in ("external_id", "own_external_id" if s.viewer_id else "external_id"):
        if insert_new(s, Conversation, **values, **{name: new.external_id}):
            quotas.count(s, account_id, charge, conversations=1)
            if features & Feature.WEBHOOKS:
                event = EventType.CONVERSATION_CREATED.event
                outbox.record(s, account_id, event, str(values["id"]), {})
            return conversation(s, str(values["id"]))
        found = _existing(s, new)
        if found is not None:
            return found
    raise AssertionError("a conversation is neither made nor there")


_MARK = select(
    next_mark(bindparam("owner")),
    select(Quota.features).where(of_account(Quota), Quota.id == Quota.account_id).scalar_subquery(),
)
_DEFAULT = select(Account.default_visibility).where(Account.id == bindparam("wanted"))
_BY_REQUEST = select(Conversation.id, Conversation.request_hash).where(
    Conversation.request_id == bindparam("wanted")
)
_NAMED = select(Conversation.creator_id, Conversation.id)
_BY_EXTERNAL_ID = _NAMED.where(Conversation.external_id == bindparam("wanted"))
_BY_OWN_EXTERNAL_ID = _NAMED.where(Conversation.own_external_id == bindparam("wanted"))


def _existing(s: Session, new: NewConversation) -> ConversationRow | None:
    if new.request_id:
        made = s.run(_BY_REQUEST, {"wanted": new.request_id}).one_or_none()
        if made is not None:
            if made[1] != new.request_hash:
                raise RequestIdReused
            return conversation(s, made[0])
    if new.external_id:
        wanted = {"wanted": new.external_id}
        named = [*s.run(_BY_EXTERNAL_ID, wanted)]
        if s.viewer_id:
            named += s.run(_BY_OWN_EXTERNAL_ID, wanted)
        if named:
            # What a member made, or else the oldest. Whether `external_id` or `own_external_id` is
            # the name makes no difference: that would say whether another one is hidden.
            return conversation(s, min((row[0] != s.viewer_id, row[1]) for row in named)[1])
    return None


def _page(*conditions: ColumnElement[bool]) -> Select[Any]:
    return (
        select_conversations()
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
    .where(
        of_account(Membership),
        of_account(User),
        User.external_id == bindparam("participant"),
        Membership.is_removed.is_(False),
    )
)


_PAGES = {
    (is_later, is_of_participant, only): _page(
        *([_behind] if is_later else []),
        *([_is_of_participant] if is_of_participant else []),
        *only.conditions(),
    )
    for is_later in (False, True)
    for is_of_participant in (False, True)
    for only in seen.EVERY_KIND
}
"""By whether it is a later page, whether of one participant, and which are wanted."""


def page(
    s: Session,
    *,
    limit: int,
    after: tuple[int, str] | None,
    participant: str | None,
    only: Only = ALL,
    user_id: str = "",
) -> list[ConversationRow]:
    """Conversations by latest activity, newest first; `after` is (activity_time, id). Those that
    are pinned are so by `user_id`."""
    if participant:
        participant = aliases.own_name(s, participant)
    values: dict[str, object] = {"size": limit}
    if only.pinned is not None:
        values |= {"reader": user_id, "account": s.account_id}
    if s.viewer_id:
        ids = seen.newest(s, values, after=after, participant=participant, only=only)
        return by_ids(s, ids)
    if after is not None:
        values |= {"time": after[0], "after": after[1]}
    if participant is not None:
        values["participant"] = participant
    statement = _PAGES[after is not None, participant is not None, only]
    found = [conversation_without_participants(row) for row in s.run(statement, values)]
    return with_participants(s, found)


def by_ids(s: Session, ids: Sequence[str]) -> list[ConversationRow]:
    """Those of the conversations that are seen, in this order."""
    return with_participants(s, _by_id(s, ids))


_BY_IDS = select_conversations().where(Conversation.id.in_(bindparam("wanted", expanding=True)))


def _by_id(s: Session, ids: Sequence[str]) -> list[ConversationRow]:
    """Those of the conversations that are seen, in this order."""
    rows = s.run(_BY_IDS, {"wanted": ids})
    found = {row.id: row for row in map(conversation_without_participants, rows)}
    s.admit()
    return [found[each] for each in ids if each in found]


def change(s: Session, conversation_id: str, values: Mapping[str, str | int | None]) -> Change:
    """Sets a user's title, model, system_prompt, visibility, whether it is archived, or when it is
    deleted. Raises NotFound, and PermissionDenied for system_prompt, visibility and
    expire_time."""
    locked = lock(s, conversation_id)
    if not values.keys().isdisjoint(("system_prompt", "visibility")):
        require_control(s, conversation_id, "change its system prompt or who sees it")
    if "expire_time" in values:
        require_control(s, conversation_id, "say when it is deleted")
    if values.get("visibility") == Visibility.PARTICIPANTS:
        removals.note_closing(s, locked)
    more: dict[str, Any] = {}
    if "title" in values:
        more = {"title_by_user": True, "title_owed": 0, "title_of": None}
    s.execute(
        update(Conversation)
        .where(Conversation.id == conversation_id)
        .values(**values, **more, update_time=locked.now, info_version=locked.version),
        execution_options=NO_SYNC,
    )
    return Change(conversation_id, locked.version, conversation=conversation(s, conversation_id))


def delete(s: Session, conversation_id: str, price: Pricing = unpriced) -> tuple[Change, list[str]]:
    """Deletes a conversation with all that is in it; also returns its live replies, of which what
    they used is booked as an estimate. Raises NotFound and PermissionDenied."""
    locked = lock(s, conversation_id)
    require_control(s, conversation_id, "delete it")
    live = accounting.end_all_live(s, locked, Message.conversation_id == conversation_id, price)
    accounting.release_waiting(s, locked)
    removals.note_deletion(s, locked)
    outbox.record_change(s, locked, EventType.CONVERSATION_DELETED)
    files = attachments.of_conversation(s, conversation_id)
    search.forget(s, [conversation_id])
    for table in (CancelWish, Membership, Message):
        s.execute(
            sql_delete(table).where(table.conversation_id == conversation_id),
            execution_options=NO_SYNC,
        )
    made_with = s.scalars(
        sql_delete(Conversation)
        .where(Conversation.id == conversation_id)
        .returning(Conversation.api_key_id),
        execution_options=NO_SYNC,
    ).one()
    quotas.count(s, locked.account_id, Charge(made_with), conversations=-1)
    if files:
        attachments.remove_unused(s, files)
    change = Change(conversation_id, locked.version, deleted=True, account_id=locked.account_id)
    return change, live
