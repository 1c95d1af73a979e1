"""Conversations whose time has come: which they are, and their end.

One ends at its own `expire_time`, or, where its account keeps conversations for some days only, so
long after the last message. Looking for them changes nothing, and several processes may find the
same ones: each is looked at once more under its lock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import BigInteger, Integer, Text, bindparam, select

from colloquy_server.database.models import Account, Conversation
from colloquy_server.database.repository import audit, conversations
from colloquy_server.database.repository.audit import Event
from colloquy_server.database.repository.changes import lock, now
from colloquy_server.database.repository.deletion import Deletion
from colloquy_server.database.repository.usage import Pricing, unpriced
from colloquy_server.database.transactions import Session
from colloquy_server.database.values import DAY

ACTION = "ExpireConversation"
"""What the audit trail calls the end of a conversation whose time has come."""

_ACCOUNTS_AT_ONCE = 100


class Due(NamedTuple):
    """A conversation whose time seems to have come."""

    account_id: str
    id: str


@dataclass(frozen=True, slots=True)
class Inactive:
    """Conversations of some accounts that nobody has written in for too long; `last_account` is
    that behind which there are more accounts, empty when these were the last ones."""

    due: list[Due]
    last_account: str
    has_more: bool
    """Whether there may be more in the same accounts."""


_EXPIRED = (
    select(Conversation.account_id, Conversation.id)
    .where(
        Conversation.expire_time.is_not(None),
        Conversation.expire_time <= bindparam("now", type_=BigInteger),
    )
    .order_by(Conversation.expire_time)
    .limit(bindparam("size", type_=Integer))
)
_KEEPING = (
    select(Account.id, Account.retention_days)
    .where(Account.retention_days > 0, Account.id > bindparam("after", type_=Text))
    .order_by(Account.id)
    .limit(bindparam("size", type_=Integer))
)
_INACTIVE = (
    select(Conversation.account_id, Conversation.id)
    .where(
        Conversation.account_id == bindparam("owner"),
        Conversation.activity_time <= bindparam("until", type_=BigInteger),
    )
    .order_by(Conversation.activity_time)
    .limit(bindparam("size", type_=Integer))
)
_END = (
    select(Conversation.expire_time, Conversation.activity_time, Account.retention_days)
    .outerjoin(Account, Account.id == Conversation.account_id)
    .where(Conversation.id == bindparam("wanted"))
)


def expired(s: Session, limit: int) -> list[Due]:
    """Conversations whose own time has come, the earliest first."""
    # The clock is read before: no index serves for what is another time for each row.
    return [Due._make(row) for row in s.run(_EXPIRED, {"now": now(s), "size": limit})]


def inactive(s: Session, after: str, limit: int) -> Inactive:
    """Conversations that are older than their accounts keep them: of the next accounts behind the
    id `after`, of each at most so many, those first that nobody has written in for longest."""
    accounts = s.run(_KEEPING, {"after": after, "size": _ACCOUNTS_AT_ONCE}).all()
    time = now(s)
    # Asked for one by one, as each has its own time; together on the way.
    asked = [
        s.send(_INACTIVE, {"owner": owner, "until": time - days * DAY, "size": limit})
        for owner, days in accounts
    ]
    found = [[Due._make(row) for row in rows()] for rows in asked]
    return Inactive(
        [due for of_account in found for due in of_account],
        accounts[-1][0] if len(accounts) == _ACCOUNTS_AT_ONCE else "",
        any(len(of_account) == limit for of_account in found),
    )


def expire(s: Session, conversation_id: str, price: Pricing = unpriced) -> Deletion | None:
    """Deletes a conversation whose time has come, as `conversations.delete`; None when that is not
    so, or not any more. Raises NotFound."""
    locked = lock(s, conversation_id)
    expire_time, activity_time, days = s.run(_END, {"wanted": conversation_id}).one()
    is_expired = expire_time is not None and expire_time <= locked.now
    if not is_expired and not (days and activity_time + days * DAY <= locked.now):
        s.undo()
        return None
    change, live = conversations.delete(s, conversation_id, price)
    event = Event(ACTION, account_id=locked.account_id, actor="server", target_id=conversation_id)
    audit.add(s, [event])
    return Deletion(change, live)
