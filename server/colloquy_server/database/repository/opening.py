"""The beginning of a send: a conversation is locked, and all that has to be known is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    and_,
    bindparam,
    false,
    func,
    literal_column,
    select,
    update,
)

from colloquy_server.database.marks import next_mark
from colloquy_server.database.models import (
    CancelWish,
    Conversation,
    Membership,
    Message,
    Quota,
    User,
    db_now,
)
from colloquy_server.database.repository.cancellation import use_up_wish
from colloquy_server.database.repository.changes import (
    Lease,
    Locked,
    features_of_account,
    has_title,
    is_generating,
    is_queued,
    require_seen,
)
from colloquy_server.database.repository.users import Author
from colloquy_server.database.rows import USER, UserRow
from colloquy_server.database.scope import of_account
from colloquy_server.database.transactions import Session
from colloquy_server.errors import NotFound


@dataclass(frozen=True, slots=True)
class Opened:
    """A conversation into which something is being sent, and all that has to be known for it."""

    locked: Locked
    model: str
    system_prompt: str
    is_known: bool
    """Whether its request came before."""
    is_unwanted: bool
    """Whether its request was cancelled before it came."""
    live: int
    waiting: int
    live_of_account: int
    author: UserRow | None
    """Who says it, if that is somebody known."""
    takes_part: bool
    """Whether the author is a participant."""
    max_queued_replies: int
    """How many may wait in the account, by its own quotas; 0 when they do not say."""

    @property
    def is_busy(self) -> bool:
        """Whether something is live or waits in the conversation."""
        return self.live + self.waiting > 0

    def may_start(self, lease: Lease | None) -> bool:
        """Whether what is sent starts at once, for who asks with this lease."""
        if self.is_unwanted or self.is_busy or lease is None:
            return False
        return self.live_of_account < lease.per_account


# The conversation's row is locked, and takes in at once what this transaction adds to it: what
# speaks against it undoes all of it.
_OPEN = (
    update(Conversation)
    .where(Conversation.id == bindparam("wanted"))
    .values(
        version=Conversation.version + 1,
        message_count=Conversation.message_count + bindparam("added"),
        last_position=Conversation.last_position + bindparam("added"),
        last_message_time=db_now(),
        activity_time=db_now(),
        archived=false(),
        change_mark=next_mark(Conversation.account_id),
    )
    .returning(
        Conversation.id,
        Conversation.account_id,
        Conversation.version,
        Conversation.activity_time,
        Conversation.last_position,
        has_title,
        Conversation.change_mark,
        features_of_account,
        Conversation.model,
        Conversation.system_prompt,
    )
)


def _facts(author: ColumnElement[bool]) -> Select[Any]:
    """All else that a send has to know, as one statement: each costs a way to the database."""
    in_conversation = Message.conversation_id == bindparam("wanted")
    counted = (in_conversation, is_generating), (in_conversation, is_queued), (is_generating,)
    return select(
        select(Message.id)
        .where(of_account(Message), in_conversation, Message.request_id == bindparam("request"))
        .scalar_subquery(),
        select(CancelWish.expire_time)
        .where(
            of_account(CancelWish),
            CancelWish.conversation_id == bindparam("wanted"),
            CancelWish.request_id == bindparam("request"),
        )
        .scalar_subquery(),
        *(
            select(func.count())
            .select_from(Message)
            .where(of_account(Message), *conditions)
            .scalar_subquery()
            for conditions in counted
        ),
        select(Membership.position)
        .where(
            of_account(Membership),
            of_account(User),
            Membership.conversation_id == bindparam("wanted"),
            Membership.user_id == User.id,
            Membership.is_removed.is_(False),
        )
        .correlate(User)
        .scalar_subquery(),
        select(Quota.max_queued_replies)
        .where(of_account(Quota), Quota.id == bindparam("owner"))
        .scalar_subquery(),
        *USER,
    ).select_from(
        select(literal_column("1").label("one"))
        .subquery()
        .outerjoin(User, and_(of_account(User), User.is_leaving.is_(False), author))
    )


_FACTS_BY_ID = _facts(User.id == bindparam("author"))
_FACTS_BY_EXTERNAL_ID = _facts(User.external_id == bindparam("author"))


def open_for(
    s: Session, conversation_id: str, added: int, request_id: str | None, author: Author
) -> Opened:
    """Locks a conversation for `added` new messages, which are counted in already. Raises
    NotFound."""
    s.admit()
    opened = s.send(_OPEN, {"wanted": conversation_id, "added": added})
    require_seen(s, conversation_id)
    facts = s.run(
        _FACTS_BY_ID if author.id else _FACTS_BY_EXTERNAL_ID,
        {
            "wanted": conversation_id,
            "request": request_id,
            "author": author.id or author.external_id,
            "owner": s.account_id,
        },
    )
    row = opened().one_or_none()
    if row is None:
        raise NotFound("CONVERSATION")
    *of_lock, model, system_prompt = row
    locked = Locked(*of_lock)
    request, wish, live, waiting, live_of_account, joined, max_queued, *user = facts.one()
    if wish is not None:
        use_up_wish(s, locked, request_id or "")
    return Opened(
        locked,
        model,
        system_prompt,
        is_known=request is not None,
        is_unwanted=wish is not None and wish >= locked.now,
        live=live,
        waiting=waiting,
        live_of_account=live_of_account,
        author=UserRow._make(user) if user[0] is not None else None,
        takes_part=joined is not None,
        max_queued_replies=max_queued or 0,
    )
