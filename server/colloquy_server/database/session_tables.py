"""The tables of people who come by a browser: their sessions, and the other names of users."""

from __future__ import annotations

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from colloquy_server.database.base import Base, Owned
from colloquy_server.database.values import Id, new_id


class UserAlias(Owned, Base):
    """Another name of a user: an external_id under which they came later, or their e-mail address.

    A name is one user's alone. An external_id stands here only while no user has it for their own.
    """

    __tablename__ = "user_aliases"
    __table_args__ = (Index(None, "user_id"),)

    account_id: Mapped[str] = mapped_column(Id, primary_key=True)
    kind: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))


class BrowserSession(Owned, Base):
    """A browser in which somebody is signed in. Only the SHA-256 of its cookie is kept.

    One that stands on a key (`api_key_id`) ends with it. `expire_time` moves on with its use.
    """

    __tablename__ = "sessions"
    __table_args__ = (Index(None, "account_id", "user_id"), Index(None, "user_id"))

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    api_key_id: Mapped[str | None] = mapped_column(Id)
    method: Mapped[int]
    role: Mapped[int]
    secret_hash: Mapped[str] = mapped_column(String(64), unique=True)
    user_agent: Mapped[str] = mapped_column(default="")
    create_time: Mapped[int]
    last_used_time: Mapped[int]
    expire_time: Mapped[int]
    revoke_time: Mapped[int | None]


class SignInLink(Owned, Base):
    """A one-time link with which a browser is signed in, as its user, in this role. The row goes
    with its use. Only the SHA-256 of its code is kept."""

    __tablename__ = "sign_in_links"
    __table_args__ = (Index(None, "account_id"), Index(None, "user_id"))

    code_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    api_key_id: Mapped[str] = mapped_column(Id)
    role: Mapped[int]
    expire_time: Mapped[int]
