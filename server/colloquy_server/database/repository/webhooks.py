"""Webhooks: where events of accounts are posted to, and what could not be delivered there."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from sqlalchemy import Integer, bindparam, delete, func, select

from colloquy_server.database.models import Delivery, Feature, Quota, Webhook, new_id
from colloquy_server.database.repository.access import get_account
from colloquy_server.database.repository.changes import hold_account, now
from colloquy_server.database.repository.quotas import set_feature
from colloquy_server.database.transactions import Session
from colloquy_server.database.values import EventType
from colloquy_server.errors import InvalidField, NotFound

MAX_WEBHOOKS = 20
"""Of an account: each event is stored for each of them."""

EVERY_EVENT: Final = sum(1 << kind for kind in EventType)


def create(
    s: Session, account_id: str, url: str, event_types: Collection[EventType], secret: str
) -> Webhook:
    """Makes a webhook, which from now on is told what is of these types, or all. Raises NotFound,
    and InvalidField when the account has as many as it may."""
    hold_account(s, account_id)
    # Its quota's row is held by whoever makes or deletes a webhook of the account.
    set_feature(s, account_id, Feature.WEBHOOKS)
    count = select(func.count()).select_from(Webhook).where(Webhook.account_id == account_id)
    if s.run(count).scalar_one() >= MAX_WEBHOOKS:
        raise InvalidField({"account_id": f"has {MAX_WEBHOOKS} webhooks, which is the most"})
    webhook = Webhook(
        id=new_id(),
        account_id=account_id,
        url=url,
        event_types=sum(1 << kind for kind in set(event_types)) or EVERY_EVENT,
        secret=secret,
        create_time=now(s),
    )
    s.add(webhook)
    s.flush()
    return webhook


def page(s: Session, account_id: str, *, limit: int, after: str) -> list[Webhook]:
    """An account's webhooks, oldest first, behind the id `after`. Raises NotFound."""
    get_account(s, account_id)
    query = select(Webhook).where(Webhook.account_id == account_id, Webhook.id > after)
    return list(s.scalars(query.order_by(Webhook.id).limit(limit)))


def remove(s: Session, webhook_id: str) -> Webhook:
    """Deletes a webhook with all that is on its way there. Raises NotFound."""
    webhook = s.get(Webhook, webhook_id)
    if webhook is None:
        raise NotFound("WEBHOOK")
    s.run(select(Quota.id).where(Quota.id == webhook.account_id).with_for_update())
    if not s.run(delete(Webhook).where(Webhook.id == webhook_id).returning(Webhook.id)).all():
        raise NotFound("WEBHOOK")  # somebody else has, this moment
    s.run(delete(Delivery).where(Delivery.webhook_id == webhook_id))
    others = select(Webhook.id).where(Webhook.account_id == webhook.account_id).limit(1)
    if s.run(others).one_or_none() is None:
        set_feature(s, webhook.account_id, Feature.WEBHOOKS, has=False)
    return webhook


# --- dead letters ---------------------------------------------------------------------------------

_DEAD = (
    select(Delivery)
    .where(
        Delivery.account_id == bindparam("whose"),
        Delivery.dead_time.is_not(None),
        Delivery.position > bindparam("after"),
    )
    .order_by(Delivery.position)
    .limit(bindparam("size", type_=Integer))
)


def dead_letters(s: Session, account_id: str, *, limit: int, after: int) -> list[Delivery]:
    """What an account's webhooks did not take, oldest first, behind the position `after`. Raises
    NotFound."""
    get_account(s, account_id)
    return list(s.scalars(_DEAD, {"whose": account_id, "after": after, "size": limit}))


def retry(s: Session, delivery_id: str) -> Delivery:
    """Puts a dead letter back to its place in the outbox, with the same id. Raises NotFound."""
    query = select(Delivery).where(Delivery.id == delivery_id, Delivery.dead_time.is_not(None))
    delivery = s.scalars(query.with_for_update()).one_or_none()
    if delivery is None:
        raise NotFound("DELIVERY")
    delivery.dead_time = None
    delivery.attempts = delivery.next_attempt_time = 0
    s.flush()
    s.has_events = True
    return delivery
