"""Titles that the server owes: which, and who makes them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import Integer, bindparam, or_, select, update

from colloquy_server.database.models import (
    MICROS,
    Conversation,
    Message,
    Role,
    State,
    db_now,
)
from colloquy_server.database.repository import accounting
from colloquy_server.database.repository.changes import Change, conversation, is_kept, lock
from colloquy_server.database.repository.outbox import record_change
from colloquy_server.database.repository.usage import NOBODY, PAYER, Payer, Spent
from colloquy_server.database.transactions import Session
from colloquy_server.database.values import EventType

TITLE_TRIES = 3
"""How often the title model is asked for one conversation before it stays without a title."""


_FAR_AHEAD = 600 * MICROS
"""Nobody works on a title whose lease lasts so much longer than one that is claimed now: the clock
was set back."""

_is_over = or_(
    Conversation.title_lease_until < db_now(),
    Conversation.title_lease_until > db_now() + bindparam("ttl") + _FAR_AHEAD,
)

_OWED = (
    select(Conversation.account_id, Conversation.id)
    .where(Conversation.title_owed > 0, _is_over)
    .order_by(Conversation.activity_time)
    .limit(bindparam("size", type_=Integer))
)


def owed(s: Session, limit: int, ttl: int) -> list[tuple[str, str]]:
    """(account_id, conversation_id) of titles that are owed and that no process works on, where
    leases last `ttl` microseconds."""
    return [(row[0], row[1]) for row in s.run(_OWED, {"size": limit, "ttl": ttl})]


_CLAIM = (
    update(Conversation)
    .where(
        Conversation.id == bindparam("wanted"),
        Conversation.title_owed > 0,
        _is_over,
    )
    .values(
        title_owed=Conversation.title_owed - 1,
        title_lease_until=db_now() + bindparam("ttl"),
        title_asks=Conversation.title_asks + 1,
    )
    .returning(Conversation.title_asks, Conversation.title_asks_booked)
)
_FIRST_REPLY = (
    select(Message.reply_to, Message.content, *PAYER)
    .where(
        Message.conversation_id == bindparam("wanted"),
        Message.role == Role.ASSISTANT,
        Message.state == State.COMPLETED,
        is_kept,
    )
    .order_by(Message.position)
    .limit(1)
)
_PROMPT = select(Message.content).where(Message.id == bindparam("prompt"))


@dataclass(frozen=True, slots=True)
class Exchange:
    """What a title is made of: the texts of the first finished exchange."""

    prompt_id: str
    prompt: str
    reply: str
    payer: Payer = NOBODY
    """For whom the exchange was, and the title is."""
    ask: int = 0
    """Which time it is that the conversation's title is asked for; who asks later is the one who
    stores it."""
    cut_off: int = 0
    """How many earlier times ended with their process, and nobody knows what they used."""


def claim(s: Session, conversation_id: str, ttl: int) -> Exchange | None:
    """Claims a title that is owed, for `ttl` microseconds, and returns what it is made of; None
    when nothing is owed any more."""
    claimed = s.run(_CLAIM, {"wanted": conversation_id, "ttl": ttl}).one_or_none()
    if claimed is None:
        return None
    ask, booked = claimed
    reply = s.run(_FIRST_REPLY, {"wanted": conversation_id}).one_or_none()
    if reply is None:
        s.run(_BOOKED, {"wanted": conversation_id, "ask": ask})
        return None
    prompt = s.run(_PROMPT, {"prompt": reply[0]}).scalar_one()
    return Exchange(reply[0], prompt, reply[1], Payer(*reply[2:]), ask, ask - booked - 1)


_ASKS = (
    select(Conversation.title_asks).where(Conversation.id == bindparam("wanted")).with_for_update()
)
_BOOKED = (
    update(Conversation)
    .where(Conversation.id == bindparam("wanted"))
    .values(title_asks_booked=bindparam("ask"))
)


def book(
    s: Session, account_id: str, conversation_id: str, exchange: Exchange, spent: Sequence[Spent]
) -> None:
    """Adds what was used for a title that was not stored; nothing where somebody asked later, who
    has estimated that. Raises NotFound when the account is gone."""
    ask = s.run(_ASKS, {"wanted": conversation_id}).scalar_one_or_none()
    if ask is not None and ask != exchange.ask:
        return
    s.run(_BOOKED, {"wanted": conversation_id, "ask": exchange.ask})
    for each in spent:
        accounting.book_alone(s, account_id, exchange.payer, each)


_RENEW = (
    update(Conversation)
    .where(
        Conversation.id.in_(bindparam("conversations", expanding=True)),
        Conversation.title_lease_until > 0,
    )
    .values(title_lease_until=db_now() + bindparam("ttl"))
)


def renew(s: Session, conversation_ids: Collection[str], ttl: int) -> None:
    """Renews the leases of titles that are being made, for `ttl` microseconds from now."""
    s.run(_RENEW, {"conversations": list(conversation_ids), "ttl": ttl})


_SET = (
    update(Conversation)
    .where(Conversation.id == bindparam("wanted"), Conversation.title_asks == bindparam("ask"))
    .values(
        title=bindparam("new_title"),
        title_of=bindparam("prompt"),
        title_owed=0,
        title_lease_until=0,
        title_asks_booked=bindparam("ask"),
        update_time=bindparam("now"),
        info_version=bindparam("new_version"),
    )
)


_STANDS = select(Message.id).where(Message.id == bindparam("prompt"), is_kept)


def set_title(
    s: Session, conversation_id: str, title: str, exchange: Exchange, spent: Sequence[Spent]
) -> Change | None:
    """Stores a title that the model made of an exchange, with what that used, unless there is one
    by now, the prompt is deleted, or somebody asked later: then nothing is stored. Raises
    NotFound."""
    locked = lock(s, conversation_id)
    stands = s.run(_STANDS, {"prompt": exchange.prompt_id}).one_or_none() is not None
    values = {
        "wanted": conversation_id,
        "ask": exchange.ask,
        "new_title": title,
        "prompt": exchange.prompt_id,
        "now": locked.now,
        "new_version": locked.version,
    }
    if locked.is_titled or not stands or s.run(_SET, values).rowcount == 0:
        s.undo()
        return None
    accounting.book(s, locked, accounting.present(s, exchange.payer), spent)
    record_change(s, locked, EventType.CONVERSATION_TITLED)
    return Change(conversation_id, locked.version, conversation=conversation(s, conversation_id))
