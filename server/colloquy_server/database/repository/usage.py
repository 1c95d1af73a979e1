"""What is used: entered by day, in the transaction that ends what used it, and read from there.

Tokens that a provider told stand as it told them. Where its answer was cut off, and it told
nothing, an estimate stands for them: of a reply whose owner died by the texts that are stored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Insert,
    bindparam,
    delete,
    func,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import aliased

from colloquy_server.database.models import (
    MICROS,
    ApiKey,
    Conversation,
    Message,
    State,
    UsageDay,
)
from colloquy_server.database.repository.changes import is_kept
from colloquy_server.database.rows import MessageRow
from colloquy_server.database.scope import of_account
from colloquy_server.database.transactions import Session
from colloquy_server.database.values import Id, octet_length

NANOS: Final = 1_000_000_000
"""Costs are counted in billionths of a US dollar: a token of the cheapest models costs some ten."""

_DAY = 86_400 * MICROS

_BYTES_PER_TOKEN = 4
_PER_MESSAGE = 8
"""As `context/token_estimates.py` has them."""


class Payer(NamedTuple):
    """For whom something is used: a user and a key, each empty where there is none."""

    user_id: str = ""
    api_key_id: str = ""


NOBODY = Payer()


@dataclass(frozen=True, slots=True)
class Spent:
    """What was used of a model; `cached_tokens` are among those of the input, `estimated_tokens`
    those of all that no provider told."""

    model: str
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    cost_nanos: int = 0
    estimated_tokens: int = 0
    replies: int = 0

    def plus(self, other: Spent) -> Spent:
        """Both together, of one model."""
        return Spent(self.model, *(getattr(self, n) + getattr(other, n) for n in COUNTED))


COUNTED = (
    "input_tokens",
    "cached_tokens",
    "output_tokens",
    "cost_nanos",
    "estimated_tokens",
    "replies",
)
"""The columns of `usage_days` that are sums."""

Pricing = Callable[[Spent], Spent]
"""Completes an estimate with its price, and keeps it within what its model can take."""


def unpriced(spent: Spent) -> Spent:
    """Leaves an estimate as it is: for models that cost nothing."""
    return spent


def estimate(model: str, input_tokens: int, text: str) -> Spent:
    """An estimate for an answer that was cut off, unpriced: `text` is what came of it."""
    output = len(text.encode()) // _BYTES_PER_TOKEN
    return Spent(
        model,
        input_tokens=input_tokens,
        output_tokens=output,
        estimated_tokens=input_tokens + output,
    )


def day_of(time: int) -> int:
    """The day in UTC of a time in microseconds, counted from 1970."""
    return time // _DAY


# As text, because SQLAlchemy leaves the names of tables out of what SQLite's RETURNING says, in
# nested SELECTs too, where a column then is another table's.
_AUTHOR: Final[ColumnElement[str | None]] = literal_column(
    "(SELECT asked.author_id FROM messages AS asked"
    " WHERE asked.id = messages.reply_to AND asked.account_id = messages.account_id)",
    Id,
)
PAYER = (
    func.coalesce(Message.asked_by, _AUTHOR, ""),
    func.coalesce(Message.api_key_id, ""),
)
"""Of a reply: for whom it is. Columns beside those of a message."""


# --- entering -------------------------------------------------------------------------------------


def enter(s: Session, account_id: str, day: int, payer: Payer, spent: Spent) -> None:
    """Adds to what was used on a day. The row is locked until the commit: whoever adds to several
    does so in the order of their keys (day, payer, model), so that nobody waits in a circle."""
    values = {name: getattr(spent, name) for name in COUNTED}
    key = {"account_id": account_id, "day": day, "model": spent.model, **payer._asdict()}
    s.send(_enter(s.is_sqlite), {**key, **values})


@cache
def _enter(is_sqlite: bool) -> Insert:
    insert: Any = (sqlite if is_sqlite else postgresql).insert(UsageDay)
    added = {name: getattr(UsageDay, name) + insert.excluded[name] for name in COUNTED}
    upsert: Insert = insert.on_conflict_do_update(
        index_elements=["account_id", "day", "user_id", "api_key_id", "model"], set_=added
    )
    return upsert


# --- replies whose owner died ---------------------------------------------------------------------

_asked = aliased(Message)
_SAID = select(
    func.count(),
    func.coalesce(func.sum(octet_length(Message.content)), 0),
    select(octet_length(Conversation.system_prompt))
    .where(of_account(Conversation), Conversation.id == bindparam("conversation"))
    .scalar_subquery(),
).where(
    Message.conversation_id == bindparam("conversation"),
    Message.position
    <= select(_asked.position)
    .where(of_account(_asked), _asked.id == bindparam("prompt"))
    .scalar_subquery(),
    Message.state.in_([State.COMPLETED, State.CANCELLED]),
    Message.superseded.is_(False),
    is_kept,
)


def of_lost(s: Session, reply: MessageRow, text: str, price: Pricing) -> Spent:
    """What an attempt used of which nobody knows more than its text: its owner died, or it was
    ended over its owner's head. What its model was asked is estimated by the stored texts."""
    values = {"conversation": reply.conversation_id, "prompt": reply.reply_to}
    count, size, system = s.run(_SAID, values).one()
    asked = (int(size) + (system or 0)) // _BYTES_PER_TOKEN + count * _PER_MESSAGE
    return price(estimate(reply.model, asked, text))


# --- people who leave -----------------------------------------------------------------------------

_CLEAR = (
    update(Message)
    .where(Message.asked_by == bindparam("left"), Message.asked_by.is_not(None))
    .values(asked_by=None, api_key_id=None)
)
_ROWS = ("day", "api_key_id", "model", *COUNTED)
_IN_ORDER = (
    select(UsageDay.model)
    .where(UsageDay.user_id == bindparam("left"))
    .order_by(UsageDay.day, UsageDay.api_key_id, UsageDay.model)
    .with_for_update()
)
_TAKE = (
    delete(UsageDay)
    .where(UsageDay.user_id == bindparam("left"))
    .returning(*(getattr(UsageDay, name) for name in _ROWS))
)
_KEYS = select(ApiKey.id).where(ApiKey.id.in_(bindparam("keys", expanding=True)))


def forget_user(s: Session, account_id: str, user_id: str) -> None:
    """Leaves of what a user used only that it was: nobody's from now on, and with no key of theirs,
    which are gone. Nothing that they asked for may come any more but what has begun."""
    s.run(_CLEAR, {"left": user_id})  # waits for what ends just now, and is entered for them
    s.run(_IN_ORDER, {"left": user_id})  # as whoever enters them does
    rows = s.run(_TAKE, {"left": user_id}).all()
    kept = set(s.run(_KEYS, {"keys": list({row[1] for row in rows if row[1]})}).scalars())
    merged: dict[tuple[int, Payer, str], Spent] = {}
    for day, key_id, model, *counted in rows:
        key = day, Payer("", key_id if key_id in kept else ""), model
        before = merged.get(key)
        spent = Spent(model, **dict(zip(COUNTED, counted, strict=True)))
        merged[key] = spent if before is None else before.plus(spent)
    for (day, payer, _), spent in sorted(merged.items(), key=lambda each: each[0]):
        enter(s, account_id, day, payer, spent)


def with_reply(spent: Sequence[Spent], model: str) -> list[Spent]:
    """What a reply that has ended used, and with it the reply itself, of the model that answered
    last."""
    found = {each.model: each for each in spent}
    last = found.get(model, Spent(model))
    found[model] = replace(last, replies=last.replies + 1)
    return list(found.values())
