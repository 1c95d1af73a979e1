"""Which messages are for the bot, and which conversation each belongs to.

Functions of a Session: it depends on what was stored before, and what they decide they store.
"""

from __future__ import annotations

import enum
from dataclasses import asdict, dataclass, replace

from sqlalchemy.orm import Session

from colloquy_slack.database import inbox, outbox, preferences, thread_messages
from colloquy_slack.database.inbox import NewRequest
from colloquy_slack.database.models import Kind, Mode, State
from colloquy_slack.external_ids import Place, channel_external_id, thread_external_id
from colloquy_slack.incoming.message_events import MessageDeleted, UserMessage


class Owed(enum.Enum):
    """What the author of a message is told in private."""

    NOTHING_TO_STOP = enum.auto()
    COMMAND = enum.auto()
    """The outcome of the message's command, which is yet to be done."""
    MUTED = enum.auto()
    """The bot is muted where it was called."""


@dataclass(frozen=True, slots=True)
class Response:
    """What is owed to the author of a message that asks the model nothing."""

    owed: Owed
    request: NewRequest
    command: str = ""


def store_message(s: Session, team_id: str, message: UserMessage, now: float) -> Response | None:
    """Store a message if it is for the bot. Returns what is owed to its author at once, the first
    time that the message comes."""
    is_reply = bool(message.thread_ts) and not message.is_direct
    thread_ts = message.thread_ts or message.ts
    if is_reply or message.is_mention:
        thread_messages.lock_thread(s, team_id, thread_ts)
    new = None if message.is_bot else _request_of(s, team_id, message, now)
    if new is None:
        if is_reply:
            _keep(s, team_id, message, now)
        return None
    if is_reply:
        _note_who_is_called(s, team_id, message)
    if message.command:
        if is_reply:
            thread_messages.withhold(s, team_id, asdict(message), now)
        return _owe(s, Owed.COMMAND, new, message.command)
    is_left_alone = _is_left_alone(s, team_id, message)
    if message.is_stop:
        if _stops(s, message, new):
            return None
        # With nothing to stop, people who talk with each other say it to each other.
        if message.is_mention or not is_left_alone:
            is_new = inbox.store(s, replace(new, state=State.DONE)) is not None
            return Response(Owed.NOTHING_TO_STOP, new) if is_new else None
    if is_left_alone:
        if is_reply:
            _keep(s, team_id, message, now)
        return _owe(s, Owed.MUTED, new) if message.is_mention else None
    _ask(s, team_id, message, new, now)
    return None


def _stops(s: Session, message: UserMessage, new: NewRequest) -> bool:
    """Stop what the message means, if anything is being answered there."""
    # A message that is in no thread begins one: it means all replies that grow in the channel.
    begins = not message.thread_ts and (message.is_direct or message.is_mention)
    return inbox.store_stop(s, new, None if begins else new.thread_ts)


def _ask(s: Session, team_id: str, message: UserMessage, new: NewRequest, now: float) -> None:
    """Store a message for the model, and after one that calls the bot into a thread what came
    before it and was said after it."""
    if inbox.store(s, new) is None:
        # A mention comes as two events, and one of them may leave its files out.
        inbox.add_files(s, new)
    elif message.is_mention:
        for said in thread_messages.pop_after(
            s, team_id, message.channel_id, message.thread_ts or message.ts, message.ts, now
        ):
            store_message(s, team_id, UserMessage(**said), now)


def _owe(s: Session, owed: Owed, new: NewRequest, command: str = "") -> Response | None:
    """Store a message that is not for the model, and return what is owed when it is new."""
    # Without a conversation: nobody is engaged by it.
    is_new = inbox.store(s, replace(new, text="", external_id="", state=State.DONE)) is not None
    return Response(owed, new, command) if is_new else None


def _note_who_is_called(s: Session, team_id: str, message: UserMessage) -> None:
    """Remember the last message of a thread that calls a person by name, and the last that calls
    the bot: Slack delivers in no order."""
    if not (message.is_mention or message.is_aside):
        return
    where = (team_id, message.channel_id, message.thread_ts)
    known = preferences.thread_preferences(s, *where)
    if message.is_mention:
        preferences.set_thread(s, *where, called_ts=max(known.called_ts, message.ts))
    else:
        preferences.set_thread(s, *where, aside_ts=max(known.aside_ts, message.ts))


def _is_left_alone(s: Session, team_id: str, message: UserMessage) -> bool:
    """Whether a message that comes where the bot answers is between people."""
    if message.is_direct:
        return False
    channel = preferences.channel_preferences(s, team_id, message.channel_id)
    thread = preferences.thread_preferences(
        s, team_id, message.channel_id, message.thread_ts or message.ts
    )
    mode = thread.mode or channel.mode
    if mode is Mode.MUTED or message.is_mention:
        return mode is Mode.MUTED
    if message.is_aside or mode is Mode.MENTIONS:
        return True
    # Who was called by name is talked with, until somebody calls the bot again.
    is_aside = thread.called_ts < thread.aside_ts < message.ts
    return is_aside and mode is Mode.AUTO and not channel.answers_all


def store_edit(s: Session, team_id: str, message: UserMessage) -> None:
    """Store what a message that was not for the bot now says."""
    thread_messages.replace(s, team_id, asdict(message))


def store_deletion(s: Session, team_id: str, deleted: MessageDeleted, now: float) -> None:
    """Store that a message was deleted, also when Slack says so before it delivers the message."""
    thread_messages.delete_one(s, team_id, deleted.channel_id, deleted.ts)
    is_known = inbox.mark_deleted(s, team_id, deleted.channel_id, deleted.ts)
    if is_known or deleted.message is None:
        return
    new = _request_of(s, team_id, deleted.message, now)
    if new is not None:
        inbox.store_deleted(s, new)


def store_repetition(
    s: Session, team_id: str, row_id: int, user_id: str, action_ts: str, now: float
) -> bool:
    """Have a reply regenerated, or a request that was refused tried again. Returns False when that
    has to wait until the request is done."""
    row = inbox.get(s, team_id, row_id)
    if row is None or row.is_deleted:
        return True
    if not row.reply_id:
        return inbox.retry(row)
    if not inbox.is_regenerating(s, team_id, row.reply_id):
        new = NewRequest(
            team_id=team_id,
            channel_id=row.channel_id,
            ts=f"{action_ts}/again",
            thread_ts=row.thread_ts,
            external_id=row.external_id,
            user_id=user_id,
            received_at=now,
            kind=Kind.REGENERATE,
            is_direct=row.is_direct,
            target_reply_id=row.reply_id,
            conversation_id=row.conversation_id,
            content="",
        )
        inbox.store(s, new)
    return True


def _keep(s: Session, team_id: str, message: UserMessage, now: float) -> None:
    """Keep what is said in a thread, for the next request there."""
    thread = thread_external_id(Place(team_id, message.channel_id, message.thread_ts))
    is_engaged = inbox.is_engaged(s, team_id, thread)
    thread_messages.store(s, team_id, asdict(message), now, is_engaged=is_engaged)


def _request_of(s: Session, team_id: str, message: UserMessage, now: float) -> NewRequest | None:
    """Return what a message asks for; None when it is not for the bot."""
    thread_ts = message.thread_ts or message.ts
    external_id = thread_external_id(Place(team_id, message.channel_id, thread_ts))
    preferred = preferences.channel_preferences(s, team_id, message.channel_id)
    if preferred.answers_all and not message.is_direct:
        # The answer comes where the question is: in its thread, or in the channel.
        thread_ts = message.thread_ts
        external_id = channel_external_id(team_id, message.channel_id, preferred.chapter)
    elif not (message.is_direct or message.is_mention):
        if not message.thread_ts:
            return None
        if not inbox.is_engaged(s, team_id, external_id):
            # Under an answer in the channel itself, the channel's conversation goes on.
            above = outbox.request_of_post(s, team_id, message.channel_id, message.thread_ts)
            if above is None:
                return None
            external_id = above.external_id
    return NewRequest(
        team_id=team_id,
        channel_id=message.channel_id,
        ts=message.ts,
        thread_ts=thread_ts,
        external_id=external_id,
        user_id=message.user_id,
        received_at=now,
        is_direct=message.is_direct,
        text=message.text,
        files=message.files,
    )
