"""Text between people and models: mentions that notify nobody, and Slack's mrkdwn as plain text."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping

BREAK = "\u200b"
"""Put behind the `@` or `<` of a mention in a model's text, which then mentions nobody."""

_MENTION = re.compile(
    r"<(?=!(?:channel|here|everyone|group|subteam)\b|@[UWB][A-Z0-9])"
    r"|(?<![\w@])@(?=(?:channel|here|everyone|group)\b)",
    re.IGNORECASE,
)
_ANGLED = re.compile(r"<([^<>\n]+)>")
_USER = re.compile(r"<@([UW][A-Z0-9]+)(?:\|[^>]*)?>")


def neutralise(text: str) -> str:
    """Return a text in which no mention of a group or user is left for Slack to act on."""
    return _MENTION.sub(lambda match: match[0] + BREAK, text)


def escape(text: str) -> str:
    """Return a text as Slack's mrkdwn wants it, without mentions, for places that show mrkdwn."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return neutralise(escaped)


def mentioned_users(text: str) -> list[str]:
    """Return the ids of the users that a message mentions, each once."""
    return list(dict.fromkeys(_USER.findall(text)))


def to_plain_text(text: str, names: Mapping[str, str], bot_user_id: str) -> str:
    """Return what a person wrote, with names for ids and without the call of the bot's name."""
    without = re.sub(rf"<@{re.escape(bot_user_id)}(?:\|[^>]*)?>[:,]?", "", text)
    return html.unescape(_ANGLED.sub(lambda match: _readable(match[1], names), without)).strip()


def _readable(inside: str, names: Mapping[str, str]) -> str:
    target, _, label = inside.partition("|")
    if target.startswith("@"):
        return f"@{names.get(target[1:]) or label or target[1:]}"
    if target.startswith("#"):
        return f"#{label or target[1:]}"
    if target.startswith("!"):
        return label or f"@{target[1:].partition('^')[0]}"
    if not label or label == target.removeprefix("mailto:"):
        return target.removeprefix("mailto:")
    return f"{label} ({target})"
