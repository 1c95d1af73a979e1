"""Receipts: what a reply's model was given, and what was left out of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import orjson
from sqlalchemy import Row, func, select
from sqlalchemy.orm import aliased

from colloquy_server.database.models import Message, Receipt, Role
from colloquy_server.database.repository import messages
from colloquy_server.database.repository.changes import is_kept
from colloquy_server.database.rows import MessageRow
from colloquy_server.database.transactions import Session

MAX_LEFT_OUT = 5_000
"""Messages that a receipt names as left out, the newest: with more, an answer would not fit in the
4 MiB that gRPC clients take."""

_READ_AT_ONCE = 1_000
"""Positions in one statement: SQLite takes some 32,000 values."""

OVER_WINDOW = "older than what fits in the model's window"


@dataclass(slots=True)
class Given:
    """What a model was given: places of messages, which stay what they are.

    `floor` is the place of the oldest turn that was given; everything before it was left out.
    """

    floor: int
    positions: list[int] = field(default_factory=list)
    earlier: tuple[tuple[int, int], ...] = ()
    """More places, in ranges."""
    withheld: list[tuple[int, str]] = field(default_factory=list)
    files: list[tuple[int, str, str]] = field(default_factory=list)
    """Files that were left out: the place of their message, their id, and why."""
    estimated_tokens: int = 0

    def ranges(self) -> list[tuple[int, int]]:
        """All places, as ranges in their order."""
        return _merged([*self.earlier, *((place, place) for place in self.positions)])

    def dump(self) -> str:
        """As the table keeps it; places are kept as ranges, as there may be thousands."""
        return orjson.dumps(
            {
                "floor": self.floor,
                "given": self.ranges(),
                "unsaid": self.withheld,
                "files": self.files,
                "tokens": self.estimated_tokens,
            }
        ).decode()


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


def message(s: Session, message_id: str) -> tuple[MessageRow, ContextReceipt | None]:
    """A message with its receipt. Raises NotFound."""
    found = messages.get(s, message_id)
    s.admit()
    return found, receipt(s, found) if found.role == Role.ASSISTANT else None


def receipt(s: Session, message: MessageRow) -> ContextReceipt | None:
    """What a reply's model was given; None when that is not known."""
    body = s.scalars(select(Receipt.body).where(Receipt.message_id == message.id)).one_or_none()
    if body is None:
        return None
    stored = orjson.loads(body)
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
            statement.where(
                Message.conversation_id == conversation_id, Message.position.in_(batch), is_kept
            )
        )


def _older(s: Session, message: MessageRow, floor: int) -> list[_Placed]:
    """What was before a message and has its place below `floor`; of more than MAX_LEFT_OUT at
    least the newest."""
    below = (
        _PLACED.outerjoin(_its_prompt, _its_prompt.id == Message.reply_to)
        .where(
            Message.conversation_id == message.conversation_id, Message.position < floor, is_kept
        )
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
            is_kept,
        )
        .order_by(_its_prompt.position.desc(), Message.position.desc())
        .limit(MAX_LEFT_OUT)
    )
    return [*older, *s.execute(late)]


def _merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges, first and last included, in their order and joined where one follows another."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = merged[-1][0], max(last, merged[-1][1])
        else:
            merged.append((first, last))
    return merged
