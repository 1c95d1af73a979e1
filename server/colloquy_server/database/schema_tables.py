"""The table in which the schema tells of itself."""

from __future__ import annotations

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from colloquy_server.database.base import Base


class SchemaFloor(Base):
    """One row: the oldest revision whose servers may serve from this schema.

    A migration that only adds leaves it alone. One that takes away what an older server uses sets
    it to the revision of the first servers that do without, and its way back sets it to what it
    was.
    """

    __tablename__ = "schema_floors"

    revision: Mapped[str] = mapped_column(String(32), primary_key=True)
