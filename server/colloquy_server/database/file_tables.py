"""The tables of files: their bytes, names and texts, and the messages that have them."""

from __future__ import annotations

from sqlalchemy import ForeignKey, ForeignKeyConstraint, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from colloquy_server.database.base import Base, Owned
from colloquy_server.database.values import Id, new_id


class Blob(Owned, Base):
    """The bytes of a file, kept once an account; `key` is where the store has them.

    It is there before its bytes are: `is_stored` says that they are whole. `touch_time` is when an
    upload last brought them.
    """

    __tablename__ = "blobs"
    # The largest file of an account.
    __table_args__ = (Index(None, "account_id", "byte_size"),)

    account_id: Mapped[str] = mapped_column(Id, primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    key: Mapped[str] = mapped_column(unique=True)
    byte_size: Mapped[int]
    is_stored: Mapped[bool] = mapped_column(default=False)
    touch_time: Mapped[int]
    # The key that brought it first, if that has quotas.
    api_key_id: Mapped[str | None] = mapped_column(Id)


class Removal(Base):
    """An object of the store that nothing needs any more. The row goes when the object has gone."""

    __tablename__ = "removals"

    key: Mapped[str] = mapped_column(primary_key=True)


class Attachment(Owned, Base):
    """A file as it was uploaded: bytes under a name. `kind` is Attachment.Kind of the API.

    `uploader_id` is a user: of a service's key the account's default one. `touch_time` is when it
    was last uploaded or put in a message. `width` and `height` are a picture's, in pixels; 0 when
    they are not known.
    """

    __tablename__ = "attachments"
    __table_args__ = (
        # Each has their own: nobody learns from an upload that somebody else has the same file.
        UniqueConstraint("account_id", "sha256", "uploader_id", "filename"),
        ForeignKeyConstraint(["account_id", "sha256"], ["blobs.account_id", "blobs.sha256"]),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    sha256: Mapped[str] = mapped_column(String(64))
    filename: Mapped[str]
    uploader_id: Mapped[str] = mapped_column(Id)
    content_type: Mapped[str]
    kind: Mapped[int]
    byte_size: Mapped[int]
    width: Mapped[int] = mapped_column(default=0)
    height: Mapped[int] = mapped_column(default=0)
    create_time: Mapped[int]
    touch_time: Mapped[int]


class MessageAttachment(Owned, Base):
    """That a message has a file, and in which place."""

    __tablename__ = "message_attachments"
    __table_args__ = (Index(None, "attachment_id"),)

    message_id: Mapped[str] = mapped_column(
        ForeignKey("messages.id", ondelete="CASCADE"), primary_key=True
    )
    position: Mapped[int] = mapped_column(primary_key=True)
    attachment_id: Mapped[str] = mapped_column(ForeignKey("attachments.id"))


class Extraction(Owned, Base):
    """What was extracted from a file's bytes, once for all: the text of a document or a recording,
    or in `problem` why there is none. `content_type` is its type with the form in which the server
    keeps it."""

    __tablename__ = "readings"
    __table_args__ = (
        ForeignKeyConstraint(
            ["account_id", "sha256"], ["blobs.account_id", "blobs.sha256"], ondelete="CASCADE"
        ),
    )

    account_id: Mapped[str] = mapped_column(Id, primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    content_type: Mapped[str] = mapped_column(primary_key=True)
    content: Mapped[str] = mapped_column(default="")
    problem: Mapped[str] = mapped_column(default="")
