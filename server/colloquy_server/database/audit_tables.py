"""The table of the audit trail."""

from __future__ import annotations

from sqlalchemy import Index
from sqlalchemy.orm import Mapped, mapped_column

from colloquy_server.database.base import Base, Owned
from colloquy_server.database.values import Id, new_id


class AuditEvent(Owned, Base):
    """That somebody did something, or was refused; `account_id` is empty for what is about no
    account. There are ids and names of calls in it, never what was said or what people are called.

    Rows are only added, and removed when they are old: those about an account outlive it.
    """

    __tablename__ = "audit_events"
    __table_args__ = (Index(None, "time", "id"), Index(None, "account_id", "time", "id"))

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    time: Mapped[int]
    actor: Mapped[str] = mapped_column(default="")
    user_id: Mapped[str] = mapped_column(Id, default="")
    api_key_id: Mapped[str] = mapped_column(Id, default="")
    address: Mapped[str] = mapped_column(default="")
    action: Mapped[str]
    target_id: Mapped[str] = mapped_column(default="")
    refusal: Mapped[str] = mapped_column(default="")
