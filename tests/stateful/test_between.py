"""What comes between two statements of one transaction, on Postgres: checkpoints and renewals do
not take the conversation's row, and so wait for nobody who has it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from colloquy_server.database.models import Message
from colloquy_server.database.repository import cancellation, leases
from colloquy_server.database.repository.leases import Checkpoint
from colloquy_server.database.transactions import EVERY_ACCOUNT, Session, commit
from sqlalchemy import event, select

from tests.stateful.machine import ReplyMachine

PATIENCE = 0.5
"""Seconds after which a transaction that has not ended is taken to wait for another one."""


@pytest.fixture
def database() -> str:
    return "postgres"


@pytest.fixture
def state(machine: type[ReplyMachine]) -> Any:
    state = machine()
    state.begin(processes=2, per_account=2, absent=set())
    state.send(0, 0, "Hi", "", 1, has_place=True, listens=False, pace="at once")
    state.text_comes(0, "x", is_shown=True, is_twice=False, pace="at once")
    yield state
    state.close()


def checkpoint_between(
    state: ReplyMachine, text: Checkpoint, run: Callable[[Session], object]
) -> None:
    """Has the owner save its text while another transaction has read the reply and is about to
    change it; the text that was saved must stay."""
    fenced: list[set[str]] = []
    other = threading.Thread(
        target=lambda: fenced.append(state.db.run(EVERY_ACCOUNT, leases.save_checkpoints, [text]))
    )

    def between(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        if other.ident is None and statement.startswith("SELECT messages"):
            other.start()
            other.join(PATIENCE)

    event.listen(state.engine, "after_cursor_execute", between)
    with state.engine.connect() as connection:
        commit(connection, state.account_id, run)
    other.join()
    event.remove(state.engine, "after_cursor_execute", between)
    with state.engine.connect() as connection:
        content = connection.execute(
            select(Message.content).where(Message.id == text.message_id)
        ).scalar_one()
    assert fenced == [{text.message_id}] or content == text.content


def test_a_takeover_that_ends_a_reply_loses_no_checkpoint(state: ReplyMachine) -> None:
    """Of an owner whose lease is over, and that nobody has fenced yet."""
    (reply,) = state.model.replies
    (text,) = state.checkpoints_of(state.processes[0])
    state.cancel(1, 0, "at once")
    state.lease_ends(0)
    checkpoint_between(
        state,
        text,
        lambda s: leases.take_over(s, reply.conversation, reply.id, state.lease),
    )


def test_a_forced_cancel_loses_no_checkpoint(state: ReplyMachine) -> None:
    (reply,) = state.model.replies
    (text,) = state.checkpoints_of(state.processes[0])
    state.cancel(1, 0, "at once")
    checkpoint_between(
        state,
        text,
        lambda s: cancellation.force_cancel(s, reply.conversation, reply.id, None, "", 0),
    )
