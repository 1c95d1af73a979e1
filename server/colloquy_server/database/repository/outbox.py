"""Events to the outside, stored in the transaction that makes them: one for each webhook of the
account that wants it. What is stored is delivered (`deliveries.py`), however the process ends.

Whoever records looks first whether the account has webhooks (`Feature.WEBHOOKS` in what the lock of
a conversation returns), so that others pay nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Insert,
    Text,
    bindparam,
    func,
    insert,
    literal,
    null,
    select,
)

from colloquy_server.database.models import (
    Conversation,
    Delivery,
    State,
    Webhook,
    db_now,
)
from colloquy_server.database.repository.changes import Locked
from colloquy_server.database.rows import MessageRow
from colloquy_server.database.transactions import Session
from colloquy_server.database.values import EventType, Feature, random_id

_TYPES: Final = {kind.event: kind for kind in EventType}


def _record() -> Insert:
    account_id = bindparam("owner_account_id", type_=Text)
    conversation_id = bindparam("conversation", type_=Text)
    external_id = (
        select(func.coalesce(Conversation.external_id, Conversation.own_external_id))
        .where(Conversation.id == conversation_id, Conversation.account_id == account_id)
        .scalar_subquery()
    )
    values: Mapping[str, ColumnElement[Any]] = {
        "id": random_id(),
        "account_id": Webhook.account_id.expression,
        "webhook_id": Webhook.id.expression,
        "event_type": bindparam("kind", type_=BigInteger),
        "conversation_id": conversation_id,
        "conversation_external_id": func.coalesce(external_id, ""),
        "data": bindparam("said", type_=Text),
        "create_time": db_now(),
        "attempts": literal(0),
        "next_attempt_time": literal(0),
        "dead_time": null(),
        "last_error": literal(""),
    }
    is_wanted = Webhook.event_types.bitwise_and(bindparam("bit", type_=BigInteger)) != 0
    chosen = select(*(value.label(name) for name, value in values.items()))
    return insert(Delivery).from_select(
        [*values], chosen.where(Webhook.account_id == account_id, is_wanted)
    )


_RECORD = _record()


def record(
    s: Session, account_id: str, event: str, conversation_id: str, data: Mapping[str, object]
) -> None:
    """Stores an event, like "reply.completed", for each webhook of the account that wants it.

    `data` is what is told beside the ids of account and conversation: nothing that was said.
    """
    kind = _TYPES[event]
    s.send(
        _RECORD,
        {
            "owner_account_id": account_id,
            "conversation": conversation_id,
            "kind": int(kind),
            "bit": 1 << kind,
            "said": orjson.dumps(data).decode(),
        },
    )
    s.has_events = True


_ENDS: Final = {
    State.COMPLETED: EventType.REPLY_COMPLETED,
    State.FAILED: EventType.REPLY_FAILED,
    State.CANCELLED: EventType.REPLY_CANCELLED,
}


def record_end(s: Session, locked: Locked, reply: MessageRow) -> None:
    """Stores that a reply of a locked conversation has ended, if somebody is to be told."""
    if not locked.features & Feature.WEBHOOKS:
        return
    state = State(reply.state)
    data = {
        "message_id": reply.id,
        "reply_to": reply.reply_to,
        "state": state.name,
        "model": reply.model,
        "requested_model": reply.asked_for,
        "finish_reason": reply.finish_reason,
        "error_reason": reply.error_reason,
        "usage": {
            "input_tokens": reply.input_tokens,
            "output_tokens": reply.output_tokens,
            "cost_usd": reply.cost_usd,
        },
    }
    record(s, locked.account_id, _ENDS[state].event, locked.id, data)


def record_change(s: Session, locked: Locked, kind: EventType) -> None:
    """Stores what happened to a locked conversation, if somebody is to be told."""
    if locked.features & Feature.WEBHOOKS:
        record(s, locked.account_id, kind.event, locked.id, {})
