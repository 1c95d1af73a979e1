"""What all tables are made of."""

from __future__ import annotations

from typing import ClassVar

from sqlalchemy import BigInteger, MetaData, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from colloquy_server.database.values import Id


class Base(DeclarativeBase):
    """All tables. Constraints have names, so that migrations can change them on any database."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar = {int: BigInteger, str: Text}


class Owned:
    """What belongs to one account. `Database` adds the account to every query of these tables."""

    account_id: Mapped[str] = mapped_column(Id)
