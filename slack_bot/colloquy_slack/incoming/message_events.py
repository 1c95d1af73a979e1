"""Parses Slack's message events: what a person wrote, edited or deleted."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from colloquy_slack import message_text
from colloquy_slack.incoming.spoken_commands import spoken_command

_SUBTYPES = {"", "file_share", "thread_broadcast", "me_message"}
"""Subtypes of messages that people write. A message with files has one: it must not be dropped."""

_BOT_SUBTYPES = {*_SUBTYPES, "bot_message"}
"""Subtypes of messages that apps write."""

CONVERSIONS = {"channel_convert_to_private", "channel_convert_to_public"}
"""Subtypes of the messages with which Slack says that a channel's kind was changed."""

_SLACKBOT = "USLACKBOT"
"""Slack's own user, in whose name reminders and automatic answers come."""

_CALL = re.compile(r"<@[UW][A-Z0-9]+(?:\|[^>]*)?>|<!(?:here|channel|everyone|subteam\^)")
"""A mention of a person or of a group."""

_STOP_WORDS = {"stop", "/stop", "🛑"}
STOP_REACTIONS = {"octagonal_sign", "stop_sign"}


@dataclass(frozen=True, slots=True)
class UserMessage:
    """A message that a person wrote, or another app, which is never answered. Its fields are
    stored: they keep their names."""

    channel_id: str
    ts: str
    user_id: str
    text: str
    thread_ts: str = ""
    is_direct: bool = False
    is_mention: bool = False
    files: list[dict[str, Any]] = field(default_factory=list)
    is_bot: bool = False
    bot_name: str = ""
    # It calls a person or a group by name, and not the bot.
    is_aside: bool = False
    # What it tells the bot to do, see spoken_commands; empty: it is an ordinary message.
    command: str = ""

    @property
    def is_stop(self) -> bool:
        """Whether it is nothing but the word that stops a reply."""
        text = self.text.rpartition(">")[2] if self.is_mention else self.text
        return text.strip().rstrip(".!").lower() in _STOP_WORDS and not self.files


@dataclass(frozen=True, slots=True)
class MessageEdited:
    """A person edited a message, which now reads as `message`."""

    message: UserMessage
    edited_ts: str


@dataclass(frozen=True, slots=True)
class MessageDeleted:
    """A person deleted a message; `message` is what it was, None when Slack does not tell."""

    channel_id: str
    ts: str
    message: UserMessage | None = None


MessageEvent = UserMessage | MessageEdited | MessageDeleted


def parse(event: dict[str, Any], bot_user_id: str) -> MessageEvent | None:
    """Return what a `message` or `app_mention` event tells; None when nobody else did anything.

    What another app writes is told only in threads: there it belongs to what people talk about.
    """
    subtype = event.get("subtype") or ""
    channel_id = str(event.get("channel") or "")
    if subtype == "message_deleted":
        before = event.get("previous_message") or {}
        ts = str(event.get("deleted_ts") or "")
        if before.get("user") == bot_user_id:
            return None
        return _deleted(ts, before, channel_id, event, bot_user_id)
    if subtype == "message_changed":
        return _edited(event, channel_id, bot_user_id)
    if event.get("user") == bot_user_id:
        return None
    if _is_bot(event):
        is_told = subtype in _BOT_SUBTYPES and event.get("thread_ts")
        return _bot_message(event, channel_id) if is_told else None
    if subtype not in _SUBTYPES:
        return None
    return _user_message(event, channel_id, event, bot_user_id)


def _edited(
    event: dict[str, Any], channel_id: str, bot_user_id: str
) -> MessageEdited | MessageDeleted | None:
    """Slack also says `message_changed` for replies in a thread and for previews of links."""
    now, before = event.get("message") or {}, event.get("previous_message") or {}
    if _is_bot(before) or _written(now) == _written(before):
        return None
    if now.get("subtype") == "tombstone":
        # What is left of a deleted message that has replies.
        return _deleted(str(now.get("ts") or ""), before, channel_id, event, bot_user_id)
    if (now.get("subtype") or "") not in _SUBTYPES:
        return None
    edited_ts = str((now.get("edited") or {}).get("ts") or event.get("ts") or "")
    message = _user_message(now, channel_id, event, bot_user_id)
    return MessageEdited(message, edited_ts) if message else None


def _deleted(
    ts: str, before: dict[str, Any], channel_id: str, event: dict[str, Any], bot_user_id: str
) -> MessageDeleted:
    if _is_bot(before):
        return MessageDeleted(channel_id, ts)
    return MessageDeleted(channel_id, ts, _user_message(before, channel_id, event, bot_user_id))


def _user_message(
    message: dict[str, Any], channel_id: str, event: dict[str, Any], bot_user_id: str
) -> UserMessage | None:
    ts, user_id = str(message.get("ts") or ""), str(message.get("user") or "")
    if not (channel_id and ts and user_id):
        return None
    # What is forwarded, quoted or code calls nobody.
    words = message_text.calling_words(message)
    is_mention = f"<@{bot_user_id}>" in words or f"<@{bot_user_id}|" in words
    files = message_text.files_of(message)
    return UserMessage(
        channel_id=channel_id,
        ts=ts,
        user_id=user_id,
        text=message_text.text_of(message),
        thread_ts=str(message.get("thread_ts") or ""),
        is_direct=event.get("channel_type") == "im" or channel_id.startswith("D"),
        is_mention=is_mention,
        files=files,
        is_aside=not is_mention and bool(_CALL.search(words)),
        command="" if files else spoken_command(message_text.own_words(message), bot_user_id),
    )


def _bot_message(message: dict[str, Any], channel_id: str) -> UserMessage | None:
    ts = str(message.get("ts") or "")
    if not (channel_id and ts):
        return None
    return UserMessage(
        channel_id=channel_id,
        ts=ts,
        user_id=str(message.get("user") or ""),
        text=message_text.text_of(message),
        thread_ts=str(message.get("thread_ts") or ""),
        files=message_text.files_of(message),
        is_bot=True,
        bot_name=message_text.bot_name(message),
    )


def _written(message: dict[str, Any]) -> str:
    return message_text.written_text(message)


def _is_bot(message: dict[str, Any]) -> bool:
    is_slackbot = message.get("user") == _SLACKBOT
    return bool(message.get("bot_id") or message.get("bot_profile") or is_slackbot)
