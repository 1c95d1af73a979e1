"""Commands that are said to the bot: `@Colloquy mode mentions`. Slack has no slash commands in
threads."""

from __future__ import annotations

import html
import re

_COMMAND = re.compile(
    r"help|new|usage|mute|unmute|mode(?: (?:all|mentions|auto))?|channel (?:on|off)"
    r"|prompt(?: reset)?|model(?: (?P<model>[\w./:@+-]+))?",
    re.IGNORECASE,
)
_WITHOUT_MENTION = {"mute", "unmute"}
"""Said as `stop` is: they mean the thread that the bot is in."""


def spoken_command(text: str, bot_user_id: str) -> str:
    """Return the command that a message is and nothing else, as one would type it behind
    /colloquy; empty when it is none."""
    said, calls = re.subn(rf"^\s*<@{re.escape(bot_user_id)}(?:\|[^>]*)?>[:,]?", "", text)
    words = " ".join(html.unescape(said).split()).rstrip(".!")
    if not calls and words.lower() not in _WITHOUT_MENTION:
        return ""
    match = _COMMAND.fullmatch(words)
    if match is None:
        return ""
    return f"model {match['model']}" if match["model"] else words.lower()
