"""Text between people and models: mentions that notify nobody, and Slack's mrkdwn as plain text."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping

BREAK = "\u200b"
"""Put behind the `@` or `<` of a mention in a model's text, which then mentions nobody."""

# Of the second kind Slack acts on words only, so that code, where it does not, is copied as it is;
# nor is the scope of a package a mention (`@here/maps`).
_ANGLED_MENTION = re.compile(
    r"<(?=!(?:channel|here|everyone|group|subteam)\b|@[UWB][A-Z0-9])", re.IGNORECASE
)
_MENTION = re.compile(
    _ANGLED_MENTION.pattern + r"|(?<![\w@])@(?=(?:channel|here|everyone|group)\b(?!/\w))",
    re.IGNORECASE,
)
# Blocks, closed or to the end of the text, and spans within a paragraph.
_CODE = re.compile(
    r"^[ \t>]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)?(?P<fence>`{3,}|~{3,})[^\n]*"
    r"(?:\n.*?(?:^[ \t>]*(?P=fence)[`~]*[ \t]*$|\Z)|\Z)"
    r"|(?<!`)(?P<ticks>`+)(?!`)(?:(?!\n[ \t]*\n).)+?(?<!`)(?P=ticks)(?!`)",
    re.MULTILINE | re.DOTALL,
)
_ANGLED = re.compile(r"<([^<>\n]+)>")
_USER = re.compile(r"<@([UW][A-Z0-9]+)(?:\|[^>]*)?>")
_NAMELESS = re.compile(r"<(?:#|!subteam\^)([A-Z0-9]+)(?:\|)?>")


def neutralise(text: str) -> str:
    """Return a text in which no mention of a group or user is left for Slack to act on."""
    pieces, end = [], 0
    for code in _CODE.finditer(text):
        pieces += [
            _MENTION.sub(_broken, text[end : code.start()]),
            _ANGLED_MENTION.sub(_broken, code[0]),
        ]
        end = code.end()
    return "".join([*pieces, _MENTION.sub(_broken, text[end:])])


def escape(text: str) -> str:
    """Return a text as Slack's mrkdwn wants it, without mentions, for places that show mrkdwn."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return neutralise(escaped)


def mentioned_users(text: str) -> list[str]:
    """Return the ids of the users that a message mentions, each once."""
    return list(dict.fromkeys(_USER.findall(text)))


def nameless(text: str) -> list[str]:
    """Return the ids of the channels and groups that a message names by nothing else, each
    once."""
    return list(dict.fromkeys(_NAMELESS.findall(text)))


def to_plain_text(text: str, names: Mapping[str, str], bot_user_id: str) -> str:
    """Return what a person wrote, with names for ids, and without the bot's name where it only
    calls the bot: at the beginning."""
    without = re.sub(rf"^(?:\s*<@{re.escape(bot_user_id)}(?:\|[^>]*)?>[:,]?)+", "", text)
    return html.unescape(_ANGLED.sub(lambda match: _readable(match[1], names), without)).strip()


def _broken(match: re.Match[str]) -> str:
    return match[0] + BREAK


def _readable(inside: str, names: Mapping[str, str]) -> str:
    target, _, label = inside.partition("|")
    if target.startswith("@"):
        return f"@{names.get(target[1:]) or label or target[1:]}"
    if target.startswith("#"):
        return f"#{label or names.get(target[1:]) or target[1:]}"
    if target.startswith("!subteam^"):
        return label or f"@{names.get(target[9:]) or target[9:]}"
    if target.startswith("!"):
        return label or f"@{target[1:].partition('^')[0]}"
    if not label or label == target.removeprefix("mailto:"):
        return target.removeprefix("mailto:")
    return f"{label} ({target})"
