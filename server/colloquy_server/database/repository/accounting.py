"""What a transaction adds to usage, and does to budgets: gathered while it runs, and entered behind
all else in it, behind quotas too, so that rows which all of an account need are locked for no
longer than a commit takes, and nobody waits in a circle.

Accounts without budgets pay one statement for each model that a reply used.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, bindparam, select

from colloquy_server.database.models import Feature, Message, Quota, db_now
from colloquy_server.database.repository import budget_counters
from colloquy_server.database.repository.budget_counters import Expected, Wanted
from colloquy_server.database.repository.changes import (
    Fenced,
    Locked,
    hold_account,
    is_generating,
    is_queued,
)
from colloquy_server.database.repository.usage import (
    NOBODY,
    PAYER,
    Payer,
    Pricing,
    Spent,
    day_of,
    enter,
    of_lost,
    with_reply,
)
from colloquy_server.database.repository.users import hold_user
from colloquy_server.database.rows import MESSAGE, MessageRow, message
from colloquy_server.database.transactions import Session


@dataclass(slots=True)
class _Pending:
    """What is left to be entered, at the time `now`, of an account that has these features."""

    account_id: str
    now: int
    features: int
    used: dict[tuple[Payer, str], Spent] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)
    wanted: Wanted | None = None


_KEY = "accounting"


def _pending(s: Session, account_id: str, now: int, features: int) -> _Pending:
    pending: _Pending | None = s.info.get(_KEY)
    if pending is None:
        pending = s.info[_KEY] = _Pending(account_id, now, features)
        s.at_end(_enter, is_last=True)
    return pending


def book(s: Session, locked: Locked, payer: Payer, spent: Iterable[Spent]) -> None:
    """Adds what was used in a conversation that this transaction holds."""
    _add(_pending(s, locked.account_id, locked.now, locked.features), payer, spent)


def end(
    s: Session, locked: Locked, reply: MessageRow, payer: Payer, spent: Sequence[Spent]
) -> None:
    """Adds what a reply used that has begun and ends here, and returns what it reserved."""
    book(s, locked, payer, with_reply(spent, reply.model))
    release(s, locked, [reply.id])


def end_lost(s: Session, locked: Locked, reply: MessageRow, payer: Payer, price: Pricing) -> None:
    """The same of one that is ended over its owner's head, of which nobody knows what it used."""
    end(s, locked, reply, payer, [of_lost(s, reply, reply.content, price)])


def end_all_live(
    s: Session, locked: Locked, which: ColumnElement[bool], price: Pricing
) -> list[str]:
    """The same of all replies that are live of these, which are about to go; returns their ids."""
    found = s.run(select(*MESSAGE, *PAYER).where(which, is_generating)).all()
    for row in found:
        end_lost(s, locked, message(row[:-2]), Payer(*row[-2:]), price)
    return [row[0] for row in found]


def release(s: Session, locked: Locked, reply_ids: Iterable[str]) -> None:
    """Returns what replies reserved that end, whether they began or not."""
    if locked.features & Feature.BUDGETS:
        pending = _pending(s, locked.account_id, locked.now, locked.features)
        pending.ended.extend(reply_ids)


_WAITING = select(Message.id).where(Message.conversation_id == bindparam("conversation"), is_queued)


def release_waiting(s: Session, locked: Locked) -> None:
    """Returns what all replies reserved that wait in a conversation that goes."""
    if locked.features & Feature.BUDGETS:
        release(s, locked, s.run(_WAITING, {"conversation": locked.id}).scalars())


def reserve(s: Session, locked: Locked, wanted: Wanted) -> None:
    """Reserves what a new reply may use. At its end the transaction raises BudgetExceeded if that
    is too much."""
    if locked.features & Feature.BUDGETS:
        _pending(s, locked.account_id, locked.now, locked.features).wanted = wanted


_OWNED = (
    select(*PAYER, Message.account_id, db_now())
    .where(Message.id == bindparam("reply"), Message.epoch == bindparam("owner"), is_generating)
    .with_for_update(of=Message)
)


def reserve_for_fallback(
    s: Session, reply_id: str, epoch: int, model: str, expected: Expected
) -> bool:
    """Reserves what a reply may use of a model that is asked in another's place; says whether the
    budgets of that one allow it: else nothing is reserved. What all else has, the reply reserved
    when it was accepted. Raises Fenced."""
    # Whoever ends the reply waits for its row, and then finds what is reserved here.
    row = s.run(_OWNED, {"reply": reply_id, "owner": epoch}).one_or_none()
    if row is None:
        raise Fenced
    payer, (account_id, now) = Payer(*row[:2]), row[2:]
    if not budget_counters.reserve_for_fallback(
        s, account_id, now, reply_id, payer, model, expected
    ):
        s.undo()
        return False
    return True


_FEATURES = select(Quota.features, db_now()).where(Quota.id == bindparam("whose"))


def book_alone(s: Session, account_id: str, payer: Payer, spent: Spent) -> None:
    """Adds what was used for an account in no conversation that this transaction holds. Raises
    NotFound when the account is gone."""
    hold_account(s, account_id)
    payer = present(s, payer)
    features, now = s.run(_FEATURES, {"whose": account_id}).one()
    _add(_pending(s, account_id, now, features), payer, [spent])


def present(s: Session, payer: Payer) -> Payer:
    """For whom something was begun a while ago: nobody, if they left meanwhile."""
    return payer if not payer.user_id or hold_user(s, payer.user_id) else NOBODY


def _add(pending: _Pending, payer: Payer, spent: Iterable[Spent]) -> None:
    for each in spent:
        before = pending.used.get((payer, each.model))
        pending.used[payer, each.model] = each if before is None else before.plus(each)


def _enter(s: Session) -> None:
    pending: _Pending = s.info.pop(_KEY)
    account_id, now = pending.account_id, pending.now
    for (payer, _), spent in sorted(pending.used.items(), key=lambda each: each[0]):
        enter(s, account_id, day_of(now), payer, spent)
    if pending.features & Feature.BUDGETS:
        budget_counters.settle(
            s, account_id, now, pending.features, pending.used, pending.ended, pending.wanted
        )
