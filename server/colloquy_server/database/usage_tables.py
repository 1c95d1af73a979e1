"""The tables of what is used, and of how much may be.

What is counted stands in whole numbers: replies, tokens, and billionths of a US dollar. Columns of
a key are never null, but empty, so that a row with one is found again.
"""

from __future__ import annotations

from sqlalchemy import Float, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from colloquy_server.database.base import Base, Owned
from colloquy_server.database.values import Id, new_id


class UsageDay(Owned, Base):
    """What one user used with one key of one model on a day, in UTC: `day` counts from 1970.

    `user_id` is empty for what nobody asked for and for who has left, `api_key_id` where there was
    no key. `estimated_tokens` are those among the others that no provider told.
    """

    __tablename__ = "usage_days"
    # What one user used: for their budgets, and for themselves.
    __table_args__ = (Index(None, "account_id", "user_id", "day"),)

    account_id: Mapped[str] = mapped_column(Id, primary_key=True)
    day: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(Id, primary_key=True)
    api_key_id: Mapped[str] = mapped_column(Id, primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    replies: Mapped[int]
    input_tokens: Mapped[int]
    cached_tokens: Mapped[int]
    output_tokens: Mapped[int]
    cost_nanos: Mapped[int]
    estimated_tokens: Mapped[int]


class Budget(Owned, Base):
    """How much may be used in a day or a month: by an account, or only by one user, with one key or
    of one model in it. `period` and `unit` are those of the API."""

    __tablename__ = "budgets"
    __table_args__ = (
        UniqueConstraint("account_id", "user_id", "api_key_id", "model", "period", "unit"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    user_id: Mapped[str] = mapped_column(Id)
    api_key_id: Mapped[str] = mapped_column(Id)
    model: Mapped[str]
    period: Mapped[int]
    unit: Mapped[int]
    # As it was set, in the API's unit.
    max_amount: Mapped[float] = mapped_column(Float(53))


class BudgetPeriod(Owned, Base):
    """How far a budget is used in the day or month that begins on the day `start`: `used` by what
    has ended, `reserved` for what has not. `told` has a bit for each event that was told.

    It may outlive its budget for a moment: who ends a reply does not wait for who takes a budget
    away.
    """

    __tablename__ = "budget_periods"
    __table_args__ = (Index(None, "account_id"),)

    budget_id: Mapped[str] = mapped_column(Id, primary_key=True)
    start: Mapped[int] = mapped_column(primary_key=True)
    used: Mapped[int]
    reserved: Mapped[int]
    told: Mapped[int]


class Reservation(Owned, Base):
    """What a reply that has not ended reserved of a budget, in the period in which it did."""

    __tablename__ = "reservations"
    __table_args__ = (Index(None, "account_id"), Index(None, "budget_id", "start"))

    message_id: Mapped[str] = mapped_column(Id, primary_key=True)
    budget_id: Mapped[str] = mapped_column(Id, primary_key=True)
    start: Mapped[int]
    amount: Mapped[int]
