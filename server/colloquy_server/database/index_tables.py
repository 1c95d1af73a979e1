"""Tables of the index of conversations: what one is to each person, and what is gone from it."""

from __future__ import annotations

from sqlalchemy import ForeignKey, ForeignKeyConstraint, Index
from sqlalchemy.orm import Mapped, mapped_column

from colloquy_server.database.base import Base, Owned
from colloquy_server.database.values import Id


class PersonalState(Owned, Base):
    """What a conversation is to one user: whether they keep it in view, and the position up to
    which they have read it. Without a row it is neither."""

    __tablename__ = "personal_states"
    __table_args__ = (
        ForeignKeyConstraint(
            ["conversation_id", "account_id"],
            ["conversations.id", "conversations.account_id"],
            ondelete="CASCADE",
        ),
        Index(None, "user_id"),
        Index(None, "account_id", "change_mark"),
    )

    conversation_id: Mapped[str] = mapped_column(Id, primary_key=True)
    user_id: Mapped[str] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), primary_key=True
    )
    pinned: Mapped[bool] = mapped_column(default=False)
    read_position: Mapped[int] = mapped_column(default=0)
    change_mark: Mapped[int]


class ConversationRemoval(Owned, Base):
    """That a conversation was deleted, or is hidden from somebody who saw it: without it, whoever
    comes back would not hear that it is gone. It is kept for some days.

    It may be told to all of the account if `was_open`, else to `user_id` alone, if that is not
    empty, and always to who sees all of the account. Nobody else learns that there was one.
    """

    __tablename__ = "conversation_removals"
    __table_args__ = (Index(None, "account_id", "change_mark"), Index(None, "create_time"))

    conversation_id: Mapped[str] = mapped_column(Id, primary_key=True)
    user_id: Mapped[str] = mapped_column(Id, primary_key=True)
    was_open: Mapped[bool] = mapped_column(primary_key=True)
    change_mark: Mapped[int] = mapped_column(primary_key=True)
    create_time: Mapped[int]
