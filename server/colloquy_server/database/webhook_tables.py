"""The tables of events that are told to the outside."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Index, Integer, text
from sqlalchemy.orm import Mapped, mapped_column

from colloquy_server.database.base import Base, Owned
from colloquy_server.database.values import Id, new_id

_IS_LIVE: Any = {
    "sqlite_where": text("dead_time IS NULL"),
    "postgresql_where": text("dead_time IS NULL"),
}


class Webhook(Owned, Base):
    """Where events of an account are posted to. `event_types` has a bit for each `EventType` that
    is told; `secret` signs what is posted, so it cannot be kept as a hash."""

    __tablename__ = "webhooks"
    __table_args__ = (Index(None, "account_id"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    url: Mapped[str]
    event_types: Mapped[int]
    secret: Mapped[str]
    create_time: Mapped[int]


class Delivery(Owned, Base):
    """An event on its way to a webhook: the outbox. The row goes when its receiver took it.

    What is about one conversation is delivered in the order of `position`. Whoever tries it claims
    it by moving `next_attempt_time` to when the claim is over, and `attempts` on, by which an owner
    is known. One that is given up has a `dead_time`. There are ids and numbers in it, nothing of
    what was said. No foreign key holds a webhook while a reply ends: what is stored beside the
    deletion of its webhook is swept.
    """

    __tablename__ = "deliveries"
    __table_args__ = (
        Index(None, "account_id"),
        Index("ix_deliveries_due", "webhook_id", "next_attempt_time", "position", **_IS_LIVE),
        Index("ix_deliveries_order", "webhook_id", "conversation_id", "position", **_IS_LIVE),
        Index(
            "ix_deliveries_dead",
            "account_id",
            "position",
            sqlite_where=text("dead_time IS NOT NULL"),
            postgresql_where=text("dead_time IS NOT NULL"),
        ),
    )

    position: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True
    )
    id: Mapped[str] = mapped_column(Id, unique=True)
    webhook_id: Mapped[str] = mapped_column(Id)
    event_type: Mapped[int]
    conversation_id: Mapped[str] = mapped_column(Id)
    # What its caller calls the conversation, kept for when that is deleted.
    conversation_external_id: Mapped[str]
    data: Mapped[str]
    create_time: Mapped[int]
    attempts: Mapped[int]
    next_attempt_time: Mapped[int]
    dead_time: Mapped[int | None]
    last_error: Mapped[str]
