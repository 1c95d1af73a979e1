"""The bot's own tables. Conversations are kept by the server; here is what is on its way."""

from __future__ import annotations

import enum
from typing import Any

from sqlalchemy import JSON, Enum, Float, ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """What all tables share."""


class Kind(enum.StrEnum):
    """What is asked for."""

    MESSAGE = "message"
    REGENERATE = "regenerate"


class State(enum.StrEnum):
    """How far a request has come."""

    OFFERED = "offered"
    """Stored, for when its author says that it is to be answered."""
    NEW = "new"
    """Stored; the server may or may not have it."""
    OPEN = "open"
    """The server accepted it; its reply is being delivered."""
    DONE = "done"
    """All that there is to see is in Slack."""


def _enum_column(of: type[enum.StrEnum]) -> Enum:
    """A column of a StrEnum's values, as plain text."""
    return Enum(of, native_enum=False, length=16, values_callable=lambda kind: [*kind])


class Mode(enum.StrEnum):
    """Which messages without a mention the bot answers in a thread that it is in."""

    UNSET = ""
    """What holds in the channel, for a thread; AUTO, for a channel."""
    AUTO = "auto"
    """All, until one person calls another by name; from then on those that mention the bot."""
    ALL = "all"
    """All, but those that call somebody else by name."""
    MENTIONS = "mentions"
    """None: only what mentions the bot."""
    MUTED = "muted"
    """None, and none that mention it either."""


class Request(Base):
    """The inbox: a message for the server, and the reply that it owes to Slack."""

    __tablename__ = "slack_requests"
    __table_args__ = (
        UniqueConstraint("team_id", "channel_id", "ts"),
        Index("ix_slack_requests_work", "state", "team_id"),
        Index("ix_slack_requests_conversation", "team_id", "external_id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    team_id: Mapped[str] = mapped_column(String(32))
    channel_id: Mapped[str] = mapped_column(String(32))
    # The message's own ts; for what a click asks for, one made from the click.
    ts: Mapped[str] = mapped_column(String(100))
    kind: Mapped[Kind] = mapped_column(_enum_column(Kind))
    state: Mapped[State] = mapped_column(_enum_column(State))
    # Where the reply goes: a thread, or with an empty thread_ts the channel.
    thread_ts: Mapped[str] = mapped_column(String(32))
    external_id: Mapped[str] = mapped_column(String(255))
    user_id: Mapped[str] = mapped_column(String(32))
    is_direct: Mapped[bool]
    text: Mapped[str] = mapped_column(Text)
    files: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    # The reply to make again, of a regeneration.
    target_reply_id: Mapped[str] = mapped_column(String(64))
    # When it came: seconds since 1970.
    received_at: Mapped[float] = mapped_column(Float)
    # Somebody wants it stopped, perhaps before the server has it.
    is_stopped: Mapped[bool]
    # Its message was deleted: what was not sent is not sent, what was not posted is not posted.
    is_deleted: Mapped[bool]

    # What the server gets, fixed before the first try so that each try says the same.
    content: Mapped[str | None] = mapped_column(Text)
    attachment_ids: Mapped[list[str]] = mapped_column(JSON)
    author: Mapped[dict[str, str]] = mapped_column(JSON)
    # What the people should know of it: a file that could not be read.
    notes: Mapped[list[str]] = mapped_column(JSON)

    conversation_id: Mapped[str] = mapped_column(String(64))
    reply_id: Mapped[str] = mapped_column(String(64))


class Post(Base):
    """The outbox: one message in Slack of a reply. Stored before it is posted."""

    __tablename__ = "slack_posts"

    request_row: Mapped[int] = mapped_column(
        ForeignKey("slack_requests.id", ondelete="CASCADE"), primary_key=True
    )
    # Messages count from 0; the whole text as a file is FILE.
    number: Mapped[int] = mapped_column(primary_key=True)
    # Empty while it is not known whether the post arrived.
    ts: Mapped[str] = mapped_column(String(32))
    # Of the file: its id at Slack, known before it is shared.
    file_id: Mapped[str] = mapped_column(String(32))


class ThreadMessage(Base):
    """A message in a thread that was not for the bot: its next request there brings it along.

    In a thread that the bot is not in, it is kept for minutes: Slack may deliver the call later.
    """

    __tablename__ = "slack_overheard"
    __table_args__ = (
        Index("ix_slack_overheard_expires", "expires_at"),
        Index("ix_slack_overheard_thread", "team_id", "channel_id", "thread_ts"),
    )

    team_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    channel_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    ts: Mapped[str] = mapped_column(String(32), primary_key=True)
    thread_ts: Mapped[str] = mapped_column(String(32))
    # The message, a message_events.UserMessage; empty once it was given.
    said: Mapped[dict[str, Any]] = mapped_column(JSON)
    received_at: Mapped[float] = mapped_column(Float)
    # Seconds since 1970, as above.
    expires_at: Mapped[float] = mapped_column(Float)
    # A request brought it along. Slack may deliver it once more.
    is_given: Mapped[bool]


class ThreadRead(Base):
    """How far a thread that the bot is in was given to the server."""

    __tablename__ = "slack_thread_reads"

    team_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    channel_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    thread_ts: Mapped[str] = mapped_column(String(32), primary_key=True)
    # The ts up to which all was read in Slack: what Slack delivers of it later is known.
    read_until: Mapped[str] = mapped_column(String(32))
    # The ts up to which what was said was given, as far as it was known.
    given_until: Mapped[str] = mapped_column(String(32))
    # False: Slack let only a part be read, and the rest is to be read with the next request.
    is_complete: Mapped[bool]


class Listening(Base):
    """Since when Slack's events are taken in without a gap, by whichever process. One row."""

    __tablename__ = "slack_listening"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    # Seconds since 1970; and when a process last took events in.
    since: Mapped[float] = mapped_column(Float)
    seen_at: Mapped[float] = mapped_column(Float)


class Channel(Base):
    """What was set for a channel."""

    __tablename__ = "slack_channels"

    team_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    channel_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    # Every message is answered, as one conversation.
    answers_all: Mapped[bool]
    # How often /colloquy new began another conversation.
    chapter: Mapped[int]
    # Empty: not set.
    model: Mapped[str] = mapped_column(String(255))
    # Holds in its threads that have no mode of their own.
    mode: Mapped[Mode] = mapped_column(_enum_column(Mode))
    # What models are told in place of the bot's own instructions; empty: those.
    prompt: Mapped[str] = mapped_column(Text)


class WatchedChannel(Base):
    """A private channel that the bot is in, or one that may have become one."""

    __tablename__ = "slack_watched_channels"
    __table_args__ = (Index("ix_slack_watched_channels_due", "team_id", "due_at"),)

    team_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    channel_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    # When to look who is in it: seconds since 1970; null: when it is told of.
    due_at: Mapped[float | None] = mapped_column(Float)
    # False: its conversations were never held for private.
    is_private: Mapped[bool]


class Thread(Base):
    """What was set for a thread, and whom people in it talk to."""

    __tablename__ = "slack_threads"

    team_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    channel_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    thread_ts: Mapped[str] = mapped_column(String(32), primary_key=True)
    mode: Mapped[Mode] = mapped_column(_enum_column(Mode))
    # The last messages that called a person, and that called the bot; empty: none.
    aside_ts: Mapped[str] = mapped_column(String(32))
    called_ts: Mapped[str] = mapped_column(String(32))


class Person(Base):
    """What a person set."""

    __tablename__ = "slack_people"

    team_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    user_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    model: Mapped[str] = mapped_column(String(255))


class Lease(Base):
    """Which process serves a workspace, and until when unless it says so again."""

    __tablename__ = "slack_leases"

    team_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    owner: Mapped[str] = mapped_column(String(64))
    # Seconds since 1970.
    expires_at: Mapped[float] = mapped_column(Float)


class Account(Base):
    """The server's account of a workspace, with its key, encrypted."""

    __tablename__ = "slack_accounts"

    team_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    account_id: Mapped[str] = mapped_column(String(64))
    api_key_id: Mapped[str] = mapped_column(String(64))
    encrypted_key: Mapped[str] = mapped_column(Text)


class Departure(Base):
    """A workspace that took the app away, whose conversations the server still has."""

    __tablename__ = "slack_departures"

    team_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    account_id: Mapped[str] = mapped_column(String(64))
    # Seconds since 1970.
    left_at: Mapped[float] = mapped_column(Float)


class Notice(Base):
    """Something that was told to whoever installed the app: it is told once."""

    __tablename__ = "slack_notices"

    team_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    # What it is about: a hash.
    notice: Mapped[str] = mapped_column(String(64), primary_key=True)


class RetiredKey(Base):
    """A key of the server that has no workspace any more, until it has revoked itself."""

    __tablename__ = "slack_retired_keys"

    api_key_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    encrypted_key: Mapped[str] = mapped_column(Text)
    """Empty when it was retired by a version that did not keep it."""
