"""Deleting messages, and all that a person said.

Of a deleted message the row stays, empty: so watchers hear of it however late they ask, and its
request is not said once more. All else that was made of it goes in the same transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, case, delete, func, or_, select, update

from colloquy_server.database.models import (
    Account,
    ApiKey,
    Attachment,
    BrowserSession,
    Conversation,
    Feature,
    Membership,
    Message,
    MessageAttachment,
    Quota,
    Receipt,
    Role,
    SignInLink,
    State,
    User,
    UserAlias,
)
from colloquy_server.database.repository import (
    accounting,
    attachments,
    budgets,
    conversations,
    read_states,
    search,
    usage,
)
from colloquy_server.database.repository.changes import (
    Change,
    Locked,
    conversation,
    is_kept,
    is_unfinished,
    lock,
    require_control,
)
from colloquy_server.database.repository.outbox import record_end
from colloquy_server.database.repository.titles import TITLE_TRIES
from colloquy_server.database.repository.usage import Pricing, unpriced
from colloquy_server.database.rows import MESSAGE, MessageRow, message
from colloquy_server.database.transactions import Session
from colloquy_server.errors import InvalidField, NotFound

_PROMPTS_AT_ONCE = 50
"""Prompts of a person that are deleted in one transaction: others wait for it."""


@dataclass(frozen=True, slots=True)
class Deletion:
    """What a transaction deleted: the change for the readers of the conversation, and the replies
    that somebody was writing."""

    change: Change
    live: Sequence[str] = ()
    is_done: bool = True
    """Of what a person said in a conversation: whether that was all."""


def delete_message(s: Session, message_id: str, price: Pricing = unpriced) -> Deletion | None:
    """Deletes a user's message with the replies to it. A member may delete what they wrote, and
    all in a conversation that they made. None when it is deleted already. What live replies used
    is booked as an estimate.

    Raises NotFound, PermissionDenied, and InvalidField when the message is a reply.
    """
    found = _find(s, message_id)
    try:
        locked = lock(s, found.conversation_id)
    except NotFound:
        raise NotFound("MESSAGE") from None
    said = _find(s, message_id)  # by now somebody else may have deleted it
    if said.role == Role.ASSISTANT:
        raise InvalidField({"message_id": "must name a user's message, and this is a reply"})
    if said.deleted:
        s.undo()
        return None
    if said.author_id != s.viewer_id:
        require_control(s, locked.id, "delete what others wrote")
    return _delete_prompts(s, locked, [message_id], price)


def _find(s: Session, message_id: str) -> MessageRow:
    row = s.run(select(*MESSAGE).where(Message.id == message_id)).one_or_none()
    if row is None:
        raise NotFound("MESSAGE")
    return message(row)


def _delete_prompts(
    s: Session, locked: Locked, prompt_ids: Collection[str], price: Pricing
) -> Deletion:
    """Empties prompts, which are there, and the replies to them."""
    of_these = and_(
        Message.conversation_id == locked.id,
        or_(Message.id.in_(prompt_ids), Message.reply_to.in_(prompt_ids)),
        is_kept,
    )
    ended: set[str] = set()
    if locked.features & Feature.WEBHOOKS:
        ended.update(s.run(select(Message.id).where(of_these, is_unfinished)).scalars())
    live = accounting.end_all_live(s, locked, of_these, price)
    ids = s.run(select(Message.id).where(of_these)).scalars()
    accounting.release(s, locked, ids)
    search.forget_messages(s, locked.id, ids)
    s.run(delete(Receipt).where(Receipt.message_id.in_(ids)))
    has_file = MessageAttachment.message_id.in_(prompt_ids)
    files = set(s.run(select(MessageAttachment.attachment_id).where(has_file)).scalars())
    s.run(delete(MessageAttachment).where(has_file))
    # To who wrote them, what was said before stays read.
    wrote = (
        select(Message.author_id, func.max(Message.position))
        .where(Message.id.in_(prompt_ids), Message.author_id.is_not(None))
        .group_by(Message.author_id)
    )
    for author_id, position in s.run(wrote):
        read_states.store_read(s, locked.account_id, locked.id, author_id, position)
    emptied = s.run(
        update(Message)
        .where(of_these)
        .values(
            deleted=True,
            content="",
            author_id=None,
            asked_by=None,
            api_key_id=None,
            attachment_count=0,
            finish_reason="",
            error_reason="",
            error_message="",
            rating=0,
            rating_comment="",
            rated_by=None,
            # Whoever writes one of them owns it no more.
            state=case((is_unfinished, State.CANCELLED), else_=Message.state),
            epoch=Message.epoch + 1,
            version=locked.version,
            update_time=locked.now,
        )
        .returning(*MESSAGE)
    )
    rows = sorted(map(message, emptied), key=lambda row: row.position)
    for row in rows:
        if row.id in ended:
            record_end(s, locked, row)
    if files:
        attachments.remove_unused(s, files)
    is_untitled = _take_out(s, locked, len(rows), prompt_ids)
    renamed = conversation(s, locked.id) if is_untitled else None
    return Deletion(Change(locked.id, locked.version, tuple(rows), renamed), live)


def _take_out(s: Session, locked: Locked, count: int, prompt_ids: Collection[str]) -> bool:
    """Counts messages of a conversation no more; says whether its title went with them, as it was
    made of one. Then another one is owed."""
    title_of = s.run(select(Conversation.title_of).where(Conversation.id == locked.id)).scalar_one()
    is_untitled = title_of in prompt_ids
    more: dict[str, Any] = {}
    if is_untitled:
        finished = select(Message.id).where(
            Message.conversation_id == locked.id,
            Message.role == Role.ASSISTANT,
            Message.state == State.COMPLETED,
            is_kept,
        )
        has_more = s.run(finished.limit(1)).one_or_none() is not None
        more = {
            "title": "",
            "title_of": None,
            "title_owed": TITLE_TRIES if has_more else 0,
            "title_lease_until": 0,
            "update_time": locked.now,
            "info_version": locked.version,
        }
    s.run(
        update(Conversation)
        .where(Conversation.id == locked.id)
        .values(message_count=Conversation.message_count - count, **more)
    )
    return is_untitled


# --- all that a person said -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Leaving:
    """A user whose row goes as soon as nothing is left of what they said; `key_ids` were theirs."""

    account_id: str
    user_id: str
    key_ids: Sequence[str] = ()


def begin_leaving(s: Session, user_id: str) -> Leaving:
    """Takes a user's names, keys and sessions; nobody speaks as them from now on. May be repeated.

    Raises NotFound, and InvalidField for the default user of an account.
    """
    user = s.run(
        select(User.account_id, Account.default_user_id)
        .join(Account, Account.id == User.account_id)
        .where(User.id == user_id)
        .with_for_update(of=User)
    ).one_or_none()
    if user is None:
        raise NotFound("USER")
    if user[1] == user_id:
        raise InvalidField({"user_id": "is its account's default user: delete the account"})
    s.run(
        update(User)
        .where(User.id == user_id)
        .values(
            is_leaving=True, external_id=None, display_name="", avatar_url="", words="", email=""
        )
    )
    for table in (UserAlias, BrowserSession, SignInLink):
        s.run(delete(table).where(table.user_id == user_id))
    keys = s.run(delete(ApiKey).where(ApiKey.user_id == user_id).returning(ApiKey.id)).scalars()
    s.run(delete(Quota).where(Quota.id.in_(keys)))
    return Leaving(user[0], user_id, keys)


def leaving(s: Session, limit: int) -> list[Leaving]:
    """Users whose deletion has begun."""
    rows = s.run(select(User.account_id, User.id).where(User.is_leaving).limit(limit))
    return [Leaving(*row) for row in rows]


def conversation_of(s: Session, user_id: str) -> str | None:
    """A conversation that a user made or takes part in, or where they said or rated something, if
    there is one."""
    for query in (
        select(Membership.conversation_id).where(Membership.user_id == user_id),
        select(Message.conversation_id).where(Message.author_id == user_id),
        select(Message.conversation_id).where(Message.rated_by == user_id),
        select(Conversation.id).where(Conversation.creator_id == user_id),
    ):
        found = s.run(query.limit(1)).scalar_one_or_none()
        if found is not None:
            return str(found)
    return None


def takes_part_alone(s: Session, conversation_id: str, user_id: str) -> bool:
    """Whether a user made a conversation or takes part in it, and nobody else ever did, but for the
    account's default user, who is no person."""
    others = (
        select(Membership.user_id)
        .join(User, User.id == Membership.user_id)
        .where(
            Membership.conversation_id == conversation_id,
            Membership.user_id != user_id,
            User.external_id.is_not(None) | User.is_leaving,
        )
    )
    made_by = (
        select(Conversation.creator_id)
        .join(User, User.id == Conversation.creator_id)
        .where(
            Conversation.id == conversation_id,
            Conversation.creator_id != user_id,
            User.external_id.is_not(None) | User.is_leaving,
        )
    )
    return all(s.run(query.limit(1)).one_or_none() is None for query in (others, made_by))


def delete_said(
    s: Session, conversation_id: str, user_id: str, price: Pricing = unpriced
) -> Deletion:
    """Deletes a part of what a user said in a conversation, or the conversation, if nobody else
    takes part in it. What live replies used is booked as an estimate. Raises NotFound."""
    locked = lock(s, conversation_id)
    if takes_part_alone(s, conversation_id, user_id):
        change, live = conversations.delete(s, conversation_id, price)
        return Deletion(change, live)
    said = select(Message.id).where(
        Message.author_id == user_id, Message.conversation_id == conversation_id
    )
    prompts = s.run(said.limit(_PROMPTS_AT_ONCE)).scalars()
    if prompts:
        deleted = _delete_prompts(s, locked, prompts, price)
        return Deletion(deleted.change, deleted.live, is_done=False)
    rated = s.run(
        update(Message)
        .where(Message.rated_by == user_id, Message.conversation_id == conversation_id)
        .values(
            rating=0,
            rating_comment="",
            rated_by=None,
            version=locked.version,
            update_time=locked.now,
        )
        .returning(*MESSAGE)
    )
    is_member = and_(Membership.user_id == user_id, Membership.conversation_id == conversation_id)
    s.run(delete(Membership).where(is_member))
    s.run(
        update(Conversation)
        .where(Conversation.id == conversation_id)
        .values(update_time=locked.now, info_version=locked.version)
    )
    s.run(
        update(Conversation)
        .where(Conversation.id == conversation_id, Conversation.creator_id == user_id)
        .values(creator_id=None, request_id=None)  # which begins with their id
    )
    changed = tuple(map(message, rated))
    return Deletion(Change(locked.id, locked.version, changed, conversation(s, conversation_id)))


def finish_leaving(s: Session, user_id: str) -> bool:
    """Deletes a user of whom nothing is left; says whether that is so."""
    # What somebody said as them a moment ago is committed by then, and there to be seen.
    s.run(select(User.id).where(User.id == user_id).with_for_update())
    if conversation_of(s, user_id) is not None:
        return False
    own = select(Attachment.id).where(Attachment.uploader_id == user_id)
    if files := set(s.run(own).scalars()):
        attachments.remove_unused(s, files)
    s.at_end(lambda s: _forget_usage(s, user_id), is_last=True)
    s.run(delete(User).where(User.id == user_id, User.is_leaving))
    return True


def _forget_usage(s: Session, user_id: str) -> None:
    """Forgets whose it was what a user used, and their budgets. Rows are locked in the order in
    which whoever ends a reply does: quotas, usage, counters of budgets."""
    ids = budgets.hold_of_user(s, s.account_id, user_id)
    usage.forget_user(s, s.account_id, user_id)
    budgets.delete_all(s, s.account_id, ids)
