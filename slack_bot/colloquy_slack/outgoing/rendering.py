"""Renders a reply as messages of Slack: their blocks, buttons and metadata."""

from __future__ import annotations

import enum
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from colloquy_slack.action_ids import FEEDBACK, REGENERATE, STOP, TRY_AGAIN
from colloquy_slack.mentions import escape, neutralise
from colloquy_slack.outgoing.mrkdwn import sections
from colloquy_slack.outgoing.plain_words import plain_words
from colloquy_slack.outgoing.reply_view import Phase, ReplyView
from colloquy_slack.outgoing.split import LIMIT, Part, split

ATTACH_ABOVE = 4
"""An answer of more messages than this is attached whole, as a file."""

MAX_MESSAGES = 40
"""No more messages than this are posted: the rest is in the file only."""

_MRKDWN_LIMIT = 5_000
"""As split.LIMIT, for mrkdwn: Slack takes some 13,000 in all, and escapes count as sent."""

METADATA_TYPE = "colloquy_reply"

_FEEDBACK_BLOCK = "context_actions"

_NOTIFICATION = 150
"""Characters of the text that a notification shows."""

_NOTIFICATION_SOURCE = 600
"""Characters of Markdown that these are made of."""

_MAX_NOTE = 400
"""Characters of an error or a note. Escaped they are six times as many at most: a block's text
takes 3,000."""

_MAX_NOTES = 10

Block = dict[str, Any]


# What stands in place of a text that is not there.
_PLACEHOLDERS = {
    Phase.THINKING: "Thinking…",
    Phase.QUEUED: "Queued: I will answer when the reply before this one is finished.",
    Phase.WAITING: "In line: I have much to answer at the moment. Your answer comes here.",
    Phase.OFFLINE: (
        "I cannot reach my server at the moment. Your message is kept, and I will answer here as"
        " soon as the server is back."
    ),
    Phase.STOPPING: "Stopping…",
    Phase.GENERATING: "Thinking…",
    Phase.COMPLETED: "(The answer has no text.)",
    Phase.CANCELLED: "Stopped.",
}


class TextFormat(enum.IntEnum):
    """How text is sent. Where Slack refuses one, the next is taken."""

    MARKDOWN = 0
    MRKDWN = 1
    FILE_ONLY = 2


@dataclass(frozen=True, slots=True)
class MessageFormat:
    """How messages are sent: Slack may refuse the format of the text, or the block with the
    thumbs."""

    text_format: TextFormat = TextFormat.MARKDOWN
    has_feedback: bool = True

    def after(self, refused: RenderedMessage) -> MessageFormat | None:
        """Return the format to try after Slack refused a message, None when there is none."""
        if any(block["type"] == _FEEDBACK_BLOCK for block in refused.blocks):
            return MessageFormat(self.text_format, has_feedback=False)
        return (
            None
            if self.text_format is TextFormat.FILE_ONLY
            else MessageFormat(TextFormat(self.text_format + 1))
        )


@dataclass(frozen=True, slots=True)
class RenderedMessage:
    """One message of Slack: its blocks, the text for notifications, and what was added to it."""

    text: str
    blocks: Sequence[Block]
    part: Part

    @property
    def digest(self) -> str:
        """Tells whether two messages look the same."""
        content = json.dumps([self.text, self.blocks], sort_keys=True)
        return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()


def render(
    view: ReplyView,
    value: str,
    message_format: MessageFormat = MessageFormat(),
    max_messages: int | None = MAX_MESSAGES,
) -> list[RenderedMessage]:
    """Return the messages that show a view, at least one and `max_messages` at most.

    `value` is what the buttons carry.
    """
    limit = _MRKDWN_LIMIT if message_format.text_format is TextFormat.MRKDWN else LIMIT
    parts = split(view.text, is_final=view.is_final, limit=limit)
    is_cut = max_messages is not None and len(parts) > max_messages
    last = len(parts[:max_messages]) - 1
    rendered = []
    for number, part in enumerate(parts[:max_messages]):
        blocks = _body(part.of(view.text), message_format.text_format)
        notification = _notification(view.text[part.start : part.end])
        if number == last:
            blocks = [
                *(blocks or _placeholder(view)),
                *_footer(view, value, is_cut, message_format.has_feedback),
            ]
            notification = notification or _PLACEHOLDERS.get(view.phase) or _truncated(view.error)
        rendered.append(RenderedMessage(notification or " ", blocks or [_context("(blank)")], part))
    return rendered


def _notification(text: str) -> str:
    """Return the words that a text begins with, as notifications show them."""
    words = plain_words(text[:_NOTIFICATION_SOURCE])
    return escape(words if len(words) <= _NOTIFICATION else f"{words[:_NOTIFICATION].rstrip()}…")


def needs_file(view: ReplyView, message_format: MessageFormat) -> bool:
    """Whether the whole text is attached as a file."""
    return view.is_final and (
        message_format.text_format is TextFormat.FILE_ONLY or len(split(view.text)) > ATTACH_ABOVE
    )


def metadata(request_id: str, reply_id: str, number: int, part: Part | None) -> dict[str, Any]:
    """Return what lets a message be found again, and its text be told from what was added."""
    payload: dict[str, Any] = {"request": request_id, "reply": reply_id, "part": number}
    if part is not None:
        payload |= {"before": len(part.prefix), "after": len(part.suffix)}
    return {"event_type": METADATA_TYPE, "event_payload": payload}


def _body(text: str, text_format: TextFormat) -> list[Block]:
    if not text.strip():
        return []
    if text_format is TextFormat.MARKDOWN:
        return [{"type": "markdown", "text": neutralise(text)}]
    if text_format is TextFormat.MRKDWN:
        return [_section(piece) for piece in sections(text)]
    return [_context("_Slack cannot show this part of the answer: it is in the file below._")]


def _placeholder(view: ReplyView) -> list[Block]:
    text = _PLACEHOLDERS.get(view.phase)
    return [_section(f"_{text}_")] if text else []


def _footer(view: ReplyView, value: str, is_cut: bool, has_feedback: bool) -> list[Block]:
    blocks: list[Block] = []
    if view.phase is Phase.FAILED:
        blocks.append(_section(f":warning: {_truncated(view.error)}"))
    if is_cut and view.is_final:
        blocks.append(_context("_The answer is longer than this: all of it is in the file below._"))
    blocks += [_context(_truncated(note)) for note in view.notes[:_MAX_NOTES]]
    if view.is_final:
        footer = [_truncated(view.model)] if view.model else []
        if view.phase is Phase.CANCELLED and view.text:
            footer.append("stopped")
        if view.web_link:
            footer.append(f"<{view.web_link}|Open on the web>")
        if footer:
            blocks.append(_context(" · ".join(footer)))
    if view.phase is Phase.COMPLETED and has_feedback:
        blocks.append(_feedback(value))
    return [*blocks, *_buttons(view, value)]


def _buttons(view: ReplyView, value: str) -> list[Block]:
    if view.phase is Phase.STOPPING:
        return []
    if not view.is_final:
        return [_actions(_button(STOP, "Stop", value, style="danger"))]
    if not view.is_repeatable:
        return []
    if view.phase is Phase.FAILED:
        return [_actions(_button(TRY_AGAIN, "Try again", value, style="primary"))]
    return [_actions(_button(REGENERATE, "Regenerate", value))]


def _feedback(value: str) -> Block:
    def thumb(text: str, rating: str, label: str) -> Block:
        return {
            "text": {"type": "plain_text", "text": text},
            "value": f"{rating}:{value}",
            "accessibility_label": label,
        }

    return {
        "type": _FEEDBACK_BLOCK,
        "elements": [
            {
                "type": "feedback_buttons",
                "action_id": FEEDBACK,
                "positive_button": thumb("👍", "good", "This answer is good"),
                "negative_button": thumb("👎", "bad", "This answer is bad"),
            }
        ],
    }


def _truncated(text: str) -> str:
    return escape(text if len(text) <= _MAX_NOTE else f"{text[:_MAX_NOTE]}…")


def _context(text: str) -> Block:
    return {"type": "context", "elements": [{"type": "mrkdwn", "text": text}]}


def _section(text: str) -> Block:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}, "expand": True}


def _actions(*buttons: Block) -> Block:
    return {"type": "actions", "elements": list(buttons)}


def _button(action_id: str, label: str, value: str, **more: str) -> Block:
    return {
        "type": "button",
        "action_id": action_id,
        "text": {"type": "plain_text", "text": label},
        "value": value,
        **more,
    }
