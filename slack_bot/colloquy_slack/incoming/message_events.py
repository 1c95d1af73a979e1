"""What an event of Slack asks for: decided from the event alone, without a network."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

_SUBTYPES = {"", "file_share", "thread_broadcast"}
"""Subtypes of messages that people write. A message with files has one: it must not be dropped."""

_STOP_WORDS = {"stop", "/stop", "🛑"}
STOP_REACTIONS = {"octagonal_sign", "stop_sign"}


@dataclass(frozen=True, slots=True)
class Said:
    """A message that a person wrote."""

    channel_id: str
    ts: str
    user_id: str
    text: str
    thread_ts: str = ""
    is_direct: bool = False
    is_mention: bool = False
    files: list[dict[str, Any]] = field(default_factory=list)

    @property
    def is_stop(self) -> bool:
        """Whether it is nothing but the word that stops a reply."""
        words = self.text.rpartition(">")[2] if self.is_mention else self.text
        return words.strip().rstrip(".!").lower() in _STOP_WORDS and not self.files


@dataclass(frozen=True, slots=True)
class Edited:
    """A person changed a message; `said` is the message as it now reads."""

    said: Said
    edited_ts: str


@dataclass(frozen=True, slots=True)
class Deleted:
    """A person deleted a message; `said` is what it was, None when Slack does not tell."""

    channel_id: str
    ts: str
    said: Said | None = None


Incoming = Said | Edited | Deleted


def read(event: dict[str, Any], bot_user_id: str) -> Incoming | None:
    """Return what a `message` or `app_mention` event tells; None when it is not for the bot."""
    subtype = event.get("subtype") or ""
    channel_id = str(event.get("channel") or "")
    if subtype == "message_deleted":
        before = event.get("previous_message") or {}
        ts = str(event.get("deleted_ts") or "")
        return None if _is_bot(before) else _deleted(ts, before, channel_id, event, bot_user_id)
    if subtype == "message_changed":
        return _edited(event, channel_id, bot_user_id)
    if subtype not in _SUBTYPES or _is_bot(event) or event.get("user") == bot_user_id:
        return None
    return _said(event, channel_id, event, bot_user_id)


def _edited(event: dict[str, Any], channel_id: str, bot_user_id: str) -> Edited | Deleted | None:
    """Slack also says `message_changed` for replies in a thread and for previews of links."""
    now, before = event.get("message") or {}, event.get("previous_message") or {}
    if _is_bot(before) or now.get("text") == before.get("text"):
        return None
    if now.get("subtype") == "tombstone":
        # What is left of a deleted message that has replies.
        return _deleted(str(now.get("ts") or ""), before, channel_id, event, bot_user_id)
    edited_ts = str((now.get("edited") or {}).get("ts") or event.get("ts") or "")
    said = _said(now, channel_id, event, bot_user_id)
    return Edited(said, edited_ts) if said else None


def _deleted(
    ts: str, before: dict[str, Any], channel_id: str, event: dict[str, Any], bot_user_id: str
) -> Deleted:
    return Deleted(channel_id, ts, _said(before, channel_id, event, bot_user_id))


def _said(
    message: dict[str, Any], channel_id: str, event: dict[str, Any], bot_user_id: str
) -> Said | None:
    ts, user_id = str(message.get("ts") or ""), str(message.get("user") or "")
    if not (channel_id and ts and user_id):
        return None
    text = str(message.get("text") or "")
    return Said(
        channel_id=channel_id,
        ts=ts,
        user_id=user_id,
        text=text,
        thread_ts=str(message.get("thread_ts") or ""),
        is_direct=event.get("channel_type") == "im" or channel_id.startswith("D"),
        is_mention=f"<@{bot_user_id}>" in text or f"<@{bot_user_id}|" in text,
        files=list(message.get("files") or []),
    )


def _is_bot(message: dict[str, Any]) -> bool:
    return bool(message.get("bot_id") or message.get("bot_profile"))
