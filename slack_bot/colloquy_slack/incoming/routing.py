"""Which messages are for the bot, and which conversation each belongs to.

Functions of a Session: it depends on what was stored before, and what they decide they store.
"""

from __future__ import annotations

from dataclasses import asdict, replace

from sqlalchemy.orm import Session

from colloquy_slack.database import inbox, outbox, preferences, thread_messages
from colloquy_slack.database.inbox import NewRequest
from colloquy_slack.database.models import Kind, State
from colloquy_slack.external_ids import Place, channel_external_id, thread_external_id
from colloquy_slack.incoming.message_events import MessageDeleted, UserMessage


def store_message(s: Session, team_id: str, message: UserMessage, now: float) -> NewRequest | None:
    """Store a message if it is for the bot. Returns one that would stop a reply when there is none
    to stop."""
    is_reply = bool(message.thread_ts) and not message.is_direct
    thread_ts = message.thread_ts or message.ts
    if is_reply or message.is_mention:
        thread_messages.lock_thread(s, team_id, thread_ts)
    new = None if message.is_bot else _request_of(s, team_id, message, now)
    if new is None:
        if is_reply:
            _keep(s, team_id, message, now)
        return None
    if not message.is_stop:
        if inbox.store(s, new) is not None and message.is_mention:
            for said in thread_messages.pop_after(
                s, team_id, message.channel_id, thread_ts, message.ts, now
            ):
                store_message(s, team_id, UserMessage(**said), now)
        return None
    # A message that is in no thread begins one: it means all replies that grow in the channel.
    begins = not message.thread_ts and (message.is_direct or message.is_mention)
    if inbox.store_stop(s, new, None if begins else new.thread_ts):
        return None
    is_new = inbox.store(s, replace(new, state=State.DONE)) is not None
    return new if is_new else None


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
    if row is None:
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
