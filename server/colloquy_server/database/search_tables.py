"""The table of what search knows."""

from __future__ import annotations

from sqlalchemy import BigInteger, ForeignKey, Index, Integer
from sqlalchemy.orm import Mapped, mapped_column

from colloquy_server.database.base import Base, Owned
from colloquy_server.database.values import Id


class SearchEntry(Owned, Base):
    """A finished message that search knows. Its terms, if it has any, are in the table
    `search_words`, under the same number: a full-text table on SQLite, a tsvector on Postgres."""

    __tablename__ = "search_entries"
    __table_args__ = (Index(None, "conversation_id"),)

    number: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True
    )
    message_id: Mapped[str] = mapped_column(
        ForeignKey("messages.id", ondelete="CASCADE"), unique=True
    )
    conversation_id: Mapped[str] = mapped_column(Id)
