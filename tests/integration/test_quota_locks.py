"""Quotas on Postgres, where transactions run beside each other: who takes the last place has it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TypeVar

import pytest
from colloquy_server.database.engine import sync_engine
from colloquy_server.database.models import MICROS
from colloquy_server.database.repository import access, attachments, conversations, quotas, sending
from colloquy_server.database.repository.changes import Lease
from colloquy_server.database.repository.quotas import NO_LIMITS, Charge, Limits
from colloquy_server.database.repository.sending import OnBusy, Prompt
from colloquy_server.database.repository.users import Author
from colloquy_server.database.transactions import EVERY_ACCOUNT, Session, commit
from colloquy_server.errors import QuotaExceeded
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from tests.fakes.choices import own_model

T = TypeVar("T")

KEY = "01890000-0000-7000-8000-000000000000"


def _new(s: Session, account_id: str, charge: Charge) -> str:
    new = conversations.NewConversation("T", "", None, None, "h")
    return conversations.create(s, account_id, new, lambda: "model", charge).id


def _conversation(s: Session, account_id: str, _id: str, charge: Charge) -> None:
    _new(s, account_id, charge)


def _file(s: Session, account_id: str, id_: str, charge: Charge) -> None:
    """Other bytes for another conversation."""
    file = attachments.NewFile(hashlib.sha256(id_.encode()).hexdigest(), 1, "x", "text/plain", 1)
    attachments.begin(s, account_id, file, attachments.new_key(account_id, file), charge)


def _reply(s: Session, account_id: str, id_: str, charge: Charge) -> None:
    """In another conversation each time, so that none waits for the lock of that."""
    prompt = Prompt(id_, "Hi", Author(), None, OnBusy.ENQUEUE)
    sending.send(s, account_id, prompt, own_model, Lease(MICROS, 0), 100, charge)


LIMITS = Limits(file_bytes=1, conversations=3, queued_replies=1)


@pytest.mark.parametrize("whose", ["account", "default", "key"])
@pytest.mark.parametrize("make", [_conversation, _file, _reply])
def test_who_takes_the_last_place_has_it_and_others_wait_to_know(
    postgres_url: str, make: Callable[[Session, str, str, Charge], None], whose: str
) -> None:
    engine = sync_engine(postgres_url)

    def run(scope: str, fn: Callable[[Session], T]) -> T:
        with engine.connect() as connection:
            return commit(connection, scope, fn)

    limits = LIMITS if whose == "account" else NO_LIMITS
    account_id = run(EVERY_ACCOUNT, lambda s: access.create_account(s, "A", None, limits=limits).id)
    charge = Charge(default=LIMITS if whose == "default" else NO_LIMITS)
    if whose == "key":
        run(EVERY_ACCOUNT, lambda s: quotas.make(s, account_id, KEY, LIMITS))
        charge = Charge(KEY)
    ids = [run(account_id, lambda s: _new(s, account_id, charge)) for _ in range(2)]
    first, second = (Session(engine.connect(), account_id) for _ in range(2))
    make(first, account_id, ids[0], charge)
    first.complete()
    second.execute(text("SET LOCAL lock_timeout = '50ms'"))
    with pytest.raises(OperationalError, match="lock timeout"):
        make(second, account_id, ids[1], charge)
        second.complete()
    second.connection().rollback()
    first.connection().commit()
    third = Session(second.connection(), account_id)
    with pytest.raises(QuotaExceeded):
        make(third, account_id, ids[1], charge)
        third.complete()
    third.connection().rollback()
    for session in (first, second):
        session.close()
        session.get_bind().close()  # type: ignore[union-attr]
    engine.dispose()
