"""The way of events out of the outbox: which are due, who tries them, and what came of it.

An event is claimed for a time, in which nobody else tries it; its owner is known by the count of
its attempts. What is about one conversation is claimed only when all before it was delivered or is
given up: so it arrives in order, whichever process delivers it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final

from sqlalchemy import BigInteger, Integer, bindparam, delete, select, update
from sqlalchemy.orm import aliased

from colloquy_server.database.models import Delivery, Webhook, db_now
from colloquy_server.database.transactions import Session

_SWEPT_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class Claimed:
    """An event that the caller now delivers; `attempts` counts the present attempt. Where it goes
    and what signs it are in no log."""

    id: str
    account_id: str
    webhook_id: str
    event_type: int
    conversation_id: str
    conversation_external_id: str
    data: str
    create_time: int
    attempts: int
    url: str = field(repr=False)
    secret: str = field(repr=False)


_is_live: Final = Delivery.dead_time.is_(None)
_is_due: Final = Delivery.next_attempt_time <= db_now()

_WAITING = select(Webhook.id).where(
    select(Delivery.position).where(Delivery.webhook_id == Webhook.id, _is_live, _is_due).exists()
)


def waiting(s: Session) -> list[str]:
    """The webhooks for which something is due, which may yet stand behind what is not."""
    return s.run(_WAITING).scalars()


_before = aliased(Delivery)
_is_first = ~(
    select(_before.position)
    .where(
        _before.webhook_id == Delivery.webhook_id,
        _before.conversation_id == Delivery.conversation_id,
        _before.position < Delivery.position,
        _before.dead_time.is_(None),
    )
    .exists()
)
_FIRST = (
    select(Delivery.position)
    .where(Delivery.webhook_id == bindparam("webhook"), _is_live, _is_due, _is_first)
    .order_by(Delivery.next_attempt_time, Delivery.position)
    .limit(1)
    .with_for_update(skip_locked=True, of=Delivery)
)
_CLAIM = (
    update(Delivery)
    .where(Delivery.position == bindparam("wanted"))
    .values(attempts=Delivery.attempts + 1, next_attempt_time=db_now() + bindparam("lease"))
    .returning(
        *(getattr(Delivery, each.name) for each in fields(Claimed)[:-2]),
        # SQLite returns columns of the table that is changed alone.
        *(
            select(column).where(Webhook.id == Delivery.webhook_id).scalar_subquery()
            for column in (Webhook.url, Webhook.secret)
        ),
    )
)


def claim(s: Session, webhook_id: str, lease: int) -> Claimed | None:
    """Claims an event of a webhook that is due and the first of its conversation, for `lease`
    microseconds; None when there is none."""
    first = s.run(_FIRST, {"webhook": webhook_id}).scalar_one_or_none()
    if first is None:
        s.undo()
        return None
    claimed = Claimed(*s.run(_CLAIM, {"wanted": first, "lease": lease}).one())
    return claimed if claimed.url else None  # of a webhook that is deleted this moment: swept


_DELIVERED = delete(Delivery).where(Delivery.id == bindparam("wanted"))


def delivered(s: Session, delivery_id: str) -> None:
    """The receiver took an event, whoever owns it by now."""
    s.run(_DELIVERED, {"wanted": delivery_id})


_own = update(Delivery).where(
    Delivery.id == bindparam("wanted"), Delivery.attempts == bindparam("owner"), _is_live
)
_POSTPONE = _own.values(
    next_attempt_time=db_now() + bindparam("wait", type_=BigInteger), last_error=bindparam("why")
)
_GIVE_UP = _own.values(dead_time=db_now(), last_error=bindparam("why"))
_RELEASE = _own.values(next_attempt_time=0)


def postpone(s: Session, claimed: Claimed, error: str, wait: int) -> None:
    """An attempt failed; the next one is in `wait` microseconds."""
    s.run(_POSTPONE, {**_owned(claimed), "why": error, "wait": wait})


def give_up(s: Session, claimed: Claimed, error: str) -> None:
    """The last attempt failed: it is a dead letter."""
    s.run(_GIVE_UP, {**_owned(claimed), "why": error})


def release(s: Session, claimed: Claimed) -> None:
    """An attempt was broken off: another process may try at once."""
    s.run(_RELEASE, _owned(claimed))


def _owned(claimed: Claimed) -> dict[str, Any]:
    return {"wanted": claimed.id, "owner": claimed.attempts}


_OLD = (
    select(Delivery.position)
    .where(
        (Delivery.dead_time < db_now() - bindparam("kept", type_=BigInteger))
        | Delivery.webhook_id.not_in(select(Webhook.id))
    )
    .limit(bindparam("size", type_=Integer))
)


def sweep(s: Session, kept: int) -> bool:
    """Removes some of the dead letters that are older than `kept` microseconds, and of what was
    stored beside the deletion of its webhook; says whether there may be more."""
    found: Sequence[int] = s.run(_OLD, {"kept": kept, "size": _SWEPT_AT_ONCE}).scalars()
    if not found:
        s.undo()
        return False
    s.run(delete(Delivery).where(Delivery.position.in_(found)))
    return len(found) == _SWEPT_AT_ONCE
