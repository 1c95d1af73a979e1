"""What a reply looks like in Slack at a moment: the messages that show it, as blocks."""

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
from colloquy_slack.outgoing.split import LIMIT, Part, split

MANY = 4
"""An answer of more messages than this is attached whole, as a file."""

MOST = 40
"""No more messages than this are posted: the rest is in the file only."""

_MRKDWN_LIMIT = 5_000
"""As split.LIMIT, for mrkdwn: Slack takes some 13,000 in all, and escapes count as sent."""

METADATA_TYPE = "colloquy_reply"

_FEEDBACK_BLOCK = "context_actions"

_NOTIFICATION = 150
"""Characters of the text that a notification shows."""

_BRIEF = 400
"""Characters of an error or a note. Escaped they are six times as many at most: a block's text
takes 3,000."""

_NOTES = 10

Block = dict[str, Any]


class Phase(enum.Enum):
    """How far a reply is, as people see it."""

    THINKING = enum.auto()
    QUEUED = enum.auto()
    WAITING = enum.auto()
    OFFLINE = enum.auto()
    STOPPING = enum.auto()
    WRITING = enum.auto()
    COMPLETED = enum.auto()
    CANCELLED = enum.auto()
    FAILED = enum.auto()


# What stands in place of a text that is not there.
_WORDS = {
    Phase.THINKING: "Thinking…",
    Phase.QUEUED: "Queued: I will answer when the reply before this one is finished.",
    Phase.WAITING: "In line: I have much to answer at the moment. Your answer comes here.",
    Phase.OFFLINE: (
        "I cannot reach my server at the moment. Your message is kept, and I will answer here as"
        " soon as the server is back."
    ),
    Phase.STOPPING: "Stopping…",
    Phase.WRITING: "Thinking…",
    Phase.COMPLETED: "(The answer has no text.)",
    Phase.CANCELLED: "Stopped.",
}
_FINAL = {Phase.COMPLETED, Phase.CANCELLED, Phase.FAILED}


class Look(enum.IntEnum):
    """How text is sent. Where Slack refuses one, the next is taken."""

    MARKDOWN = 0
    MRKDWN = 1
    FILE_ONLY = 2


@dataclass(frozen=True, slots=True)
class Form:
    """How messages are sent: Slack may refuse the look of a text, or the block with the thumbs."""

    look: Look = Look.MARKDOWN
    has_feedback: bool = True

    def after(self, refused: Shown) -> Form | None:
        """Return the form to try after Slack refused a message, None when there is none."""
        if any(block["type"] == _FEEDBACK_BLOCK for block in refused.blocks):
            return Form(self.look, has_feedback=False)
        return None if self.look is Look.FILE_ONLY else Form(Look(self.look + 1))


@dataclass(frozen=True, slots=True)
class View:
    """What there is to show of a reply."""

    phase: Phase = Phase.THINKING
    text: str = ""
    model: str = ""
    error: str = ""
    notes: tuple[str, ...] = ()
    # Whether the answer may be asked for again with a button.
    is_repeatable: bool = True

    @property
    def is_final(self) -> bool:
        """Whether nothing more will come."""
        return self.phase in _FINAL


@dataclass(frozen=True, slots=True)
class Shown:
    """One message of Slack: its blocks, the text for notifications, and what was added to it."""

    text: str
    blocks: Sequence[Block]
    part: Part

    @property
    def digest(self) -> str:
        """Tells whether two messages look the same."""
        told = json.dumps([self.text, self.blocks], sort_keys=True)
        return hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()


def messages(view: View, value: str, form: Form = Form(), most: int | None = MOST) -> list[Shown]:
    """Return the messages that show a view, at least one and `most` at most.

    `value` is what the buttons carry.
    """
    limit = _MRKDWN_LIMIT if form.look is Look.MRKDWN else LIMIT
    parts = split(view.text, is_final=view.is_final, limit=limit)
    is_cut = most is not None and len(parts) > most
    last = len(parts[:most]) - 1
    shown = []
    for number, part in enumerate(parts[:most]):
        blocks = _body(part.of(view.text), form.look)
        notification = escape(view.text[part.start : part.start + _NOTIFICATION].strip())
        if number == last:
            blocks = [*(blocks or _words(view)), *_ending(view, value, is_cut, form.has_feedback)]
            notification = notification or _WORDS.get(view.phase) or _brief(view.error)
        shown.append(Shown(notification or " ", blocks or [_context("(blank)")], part))
    return shown


def needs_file(view: View, form: Form) -> bool:
    """Whether the whole text is attached as a file."""
    return view.is_final and (form.look is Look.FILE_ONLY or len(split(view.text)) > MANY)


def metadata(request_id: str, reply_id: str, number: int, part: Part | None) -> dict[str, Any]:
    """Return what lets a message be found again, and its text be told from what was added."""
    payload: dict[str, Any] = {"request": request_id, "reply": reply_id, "part": number}
    if part is not None:
        payload |= {"before": len(part.prefix), "after": len(part.suffix)}
    return {"event_type": METADATA_TYPE, "event_payload": payload}


def _body(text: str, look: Look) -> list[Block]:
    if not text.strip():
        return []
    if look is Look.MARKDOWN:
        return [{"type": "markdown", "text": neutralise(text)}]
    if look is Look.MRKDWN:
        return [_section(piece) for piece in sections(text)]
    return [_context("_Slack cannot show this part of the answer: it is in the file below._")]


def _words(view: View) -> list[Block]:
    words = _WORDS.get(view.phase)
    return [_section(f"_{words}_")] if words else []


def _ending(view: View, value: str, is_cut: bool, has_feedback: bool) -> list[Block]:
    blocks: list[Block] = []
    if view.phase is Phase.FAILED:
        blocks.append(_section(f":warning: {_brief(view.error)}"))
    if is_cut and view.is_final:
        blocks.append(_context("_The answer is longer than this: all of it is in the file below._"))
    blocks += [_context(_brief(note)) for note in view.notes[:_NOTES]]
    if view.is_final:
        footer = [_brief(view.model)] if view.model else []
        if view.phase is Phase.CANCELLED and view.text:
            footer.append("stopped")
        if footer:
            blocks.append(_context(" · ".join(footer)))
    if view.phase is Phase.COMPLETED and has_feedback:
        blocks.append(_feedback(value))
    return [*blocks, *_buttons(view, value)]


def _buttons(view: View, value: str) -> list[Block]:
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


def _brief(words: str) -> str:
    return escape(words if len(words) <= _BRIEF else f"{words[:_BRIEF]}…")


def _context(words: str) -> Block:
    return {"type": "context", "elements": [{"type": "mrkdwn", "text": words}]}


def _section(words: str) -> Block:
    return {"type": "section", "text": {"type": "mrkdwn", "text": words}, "expand": True}


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
