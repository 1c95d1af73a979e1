"""What a reply's model may know: a conversation, read from its newest turn back as far as it is
wanted; and the receipt of what it was given."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeAlias

from sqlalchemy import Integer, Row, bindparam, func, select
from sqlalchemy.orm import Session, aliased

from colloquy_server.database.models import Conversation, Message, Receipt, Role, State
from colloquy_server.database.repository import attachments, messages

_FIRST_PAGE = 8
_MAX_PAGE = 64
"""Turns that are read at a time: few, then more, as long messages soon fill a window."""

MAX_LEFT_OUT = 5_000
"""Messages that a receipt names as left out, the newest: with more, an answer would not fit in the
4 MiB that gRPC clients take."""

_READ_AT_ONCE = 1_000
"""Positions in one statement: SQLite takes some 32,000 values."""

OVER_WINDOW = "older than what fits in the model's window"


@dataclass(frozen=True, slots=True)
class Turn:
    """A user's message with the replies to it that the model may know, and the places of those
    that it may not, each with the reason."""

    prompt: Message
    replies: list[Message] = field(default_factory=list)
    withheld: list[tuple[int, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class History:
    """A system prompt, and turns from the newest back."""

    system_prompt: str
    turns: list[Turn]


# Statements of every reply are built once: building one takes longer than running it.
_prompt = aliased(Message)
_ASKED = (
    select(Message.conversation_id, Conversation.system_prompt, _prompt.position)
    .join(Conversation, Conversation.id == Message.conversation_id)
    .join(_prompt, _prompt.id == Message.reply_to)
    .where(Message.id == bindparam("reply_id"))
)
_PROMPTS = (
    select(Message)
    .where(
        Message.conversation_id == bindparam("conversation_id"),
        Message.role == Role.USER,
        Message.position < bindparam("before"),
    )
    .order_by(Message.position.desc())
    .limit(bindparam("size", type_=Integer))
)
_REPLIES = select(
    Message.id,
    Message.reply_to,
    Message.position,
    Message.state,
    Message.superseded,
    (Message.content != "").label("has_text"),
).where(Message.reply_to.in_(bindparam("prompts", expanding=True)))
_SAID = (
    select(Message)
    .where(Message.id.in_(bindparam("said", expanding=True)))
    .order_by(Message.position)
)


def read(s: Session, reply_id: str, room: int, cost: Callable[[Turn], int]) -> History:
    """The turns up to the prompt that a reply answers, newest first, until what they cost by
    `cost` exceeds the room.

    Replies that are superseded, failed or empty are withheld; cancelled ones with text are not.
    """
    conversation_id, system_prompt, last = s.execute(_ASKED, {"reply_id": reply_id}).one()
    history = History(system_prompt, [])
    before, size = last + 1, _FIRST_PAGE
    while True:
        page = _page(s, conversation_id, before, size, newest=last)
        for turn in page:
            history.turns.append(turn)
            room -= cost(turn)
            if room < 0:
                return history
        if len(page) < size:
            return history
        before, size = page[-1].prompt.position, min(size * 2, _MAX_PAGE)


def _page(s: Session, conversation_id: str, before: int, size: int, newest: int) -> list[Turn]:
    values = {"conversation_id": conversation_id, "before": before, "size": size}
    prompts = list(s.scalars(_PROMPTS, values))
    attachments.load(s, prompts)
    turns = {prompt.id: Turn(prompt) for prompt in prompts}
    # To the newest prompt there is no reply yet that the model may know.
    answered = [prompt.id for prompt in prompts if prompt.position != newest]
    if not answered:
        return list(turns.values())
    said = []
    for reply in s.execute(_REPLIES, {"prompts": answered}):
        reason = _why_withheld(reply.state, reply.superseded, reply.has_text)
        if reason:
            turns[reply.reply_to].withheld.append((reply.position, reason))
        else:
            said.append(reply.id)
    for message in s.scalars(_SAID, {"said": said}) if said else ():
        assert message.reply_to
        turns[message.reply_to].replies.append(message)
    return list(turns.values())


def _why_withheld(state: int, superseded: bool, has_text: bool) -> str:
    """Why a reply is not shown to a model; empty when it is."""
    if superseded:
        return "superseded by a later reply"
    if state == State.FAILED:
        return "the reply failed"
    if state not in (State.COMPLETED, State.CANCELLED):
        return "not finished"
    return "" if has_text else "no text"


# --- receipts -------------------------------------------------------------------------------------


@dataclass(slots=True)
class Given:
    """What a model was given: places of messages, which stay what they are.

    `floor` is the place of the oldest turn that was given; everything before it was left out.
    """

    floor: int
    positions: list[int] = field(default_factory=list)
    withheld: list[tuple[int, str]] = field(default_factory=list)
    files: list[tuple[int, str, str]] = field(default_factory=list)
    """Files that were left out: the place of their message, their id, and why."""
    estimated_tokens: int = 0

    def dump(self) -> str:
        """As the table keeps it; places are kept as ranges, as there may be thousands."""
        return json.dumps(
            {
                "floor": self.floor,
                "given": _ranges(self.positions),
                "unsaid": self.withheld,
                "files": self.files,
                "tokens": self.estimated_tokens,
            },
            separators=(",", ":"),
        )


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A message, or one of its files, that a model was not given."""

    message_id: str
    attachment_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class ContextReceipt:
    """A receipt with the messages' ids, in the order in which the model was given them."""

    message_ids: list[str]
    left_out: list[LeftOut]
    estimated_tokens: int


def message(s: Session, message_id: str) -> tuple[Message, ContextReceipt | None]:
    """A message with its receipt. Raises NotFound."""
    found = messages.get(s, message_id)
    return found, receipt(s, found) if found.role == Role.ASSISTANT else None


def receipt(s: Session, message: Message) -> ContextReceipt | None:
    """What a reply's model was given; None when that is not known."""
    body = s.scalars(select(Receipt.body).where(Receipt.message_id == message.id)).one_or_none()
    if body is None:
        return None
    stored = json.loads(body)
    given = {p for first, last in stored["given"] for p in range(first, last + 1)}
    named = {*given, *(p for p, _ in stored["unsaid"]), *(p for p, _, _ in stored["files"])}
    before = sorted(p for p in named if p < message.position)
    near = sorted(_at(s, message.conversation_id, before), key=_in_order)
    ids = {row.position: row.id for row in near}
    older = sorted(_older(s, message, stored["floor"]), key=_in_order)[-MAX_LEFT_OUT:]
    left_out = [LeftOut(row.id, "", OVER_WINDOW) for row in older]
    left_out += [LeftOut(ids[p], "", why) for p, why in stored["unsaid"] if p in ids]
    left_out += [LeftOut(ids[p], file, why) for p, file, why in stored["files"] if p in ids]
    return ContextReceipt(
        [row.id for row in near if row.position in given], left_out, stored["tokens"]
    )


_its_prompt = aliased(Message)
_PLACED = select(
    Message.id,
    Message.position,
    func.coalesce(_its_prompt.position, Message.position).label("place"),
)
"""Messages with their places: that of a reply is its prompt's, however late it came."""


_Placed: TypeAlias = Row[str, int, int]


def _in_order(row: _Placed) -> tuple[int, int]:
    return row.place, row.position


def _at(s: Session, conversation_id: str, positions: Sequence[int]) -> Iterator[_Placed]:
    """The messages at these positions."""
    # Not by ranges: with an OR of them SQLite looks through the whole conversation.
    statement = _PLACED.outerjoin(_its_prompt, _its_prompt.id == Message.reply_to)
    for begin in range(0, len(positions), _READ_AT_ONCE):
        batch = positions[begin : begin + _READ_AT_ONCE]
        yield from s.execute(
            statement.where(Message.conversation_id == conversation_id, Message.position.in_(batch))
        )


def _older(s: Session, message: Message, floor: int) -> list[_Placed]:
    """What was before a message and has its place below `floor`; of more than MAX_LEFT_OUT at
    least the newest."""
    below = (
        _PLACED.outerjoin(_its_prompt, _its_prompt.id == Message.reply_to)
        .where(Message.conversation_id == message.conversation_id, Message.position < floor)
        .order_by(Message.position.desc())
        .limit(MAX_LEFT_OUT)
    )
    older = list(s.execute(below))
    if not older:
        return older
    # Replies that came after the floor to prompts from before it. Those to prompts from before
    # `first` would not be told: MAX_LEFT_OUT are newer, or there are none.
    first = min(row.place for row in older)
    # A database begins with the table of which it is told the conversation: the shorter way.
    few = Message if message.position - floor < floor - first else _its_prompt
    late = (
        _PLACED.join(_its_prompt, _its_prompt.id == Message.reply_to)
        .where(
            few.conversation_id == message.conversation_id,
            Message.position.between(floor, message.position - 1),
            _its_prompt.position.between(first, floor - 1),
        )
        .order_by(_its_prompt.position.desc(), Message.position.desc())
        .limit(MAX_LEFT_OUT)
    )
    return [*older, *s.execute(late)]


def _ranges(positions: Iterable[int]) -> list[tuple[int, int]]:
    """Numbers as ranges, first and last included."""
    ordered = sorted(positions)
    if not ordered:
        return []
    ends = [left for left, right in pairwise(ordered) if right != left + 1]
    starts = [right for left, right in pairwise(ordered) if right != left + 1]
    return list(zip([ordered[0], *starts], [*ends, ordered[-1]], strict=True))
