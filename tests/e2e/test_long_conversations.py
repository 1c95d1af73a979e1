"""Conversations that are longer than the model's window."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from colloquy.api import resources_pb2 as resources
from colloquy_server.database.models import Conversation, Message, Role, State, User, new_id
from colloquy_server.database.repository import history, receipts
from colloquy_server.database.transactions import EVERY_ACCOUNT, Session
from sqlalchemy import event, select

from tests.fakes.provider import Answer
from tests.harness import Caller, Colloquy

MODELS = """
providers:
  double: {{base_url: "{base_url}", api_key_env: DOUBLE_KEY}}
models:
  small: &model
    {{provider: double, input_kinds: [], context_window: 8000, max_output_tokens: 1000,
     input_price: 0, output_price: 0}}
  title-model: *model
default_model: small
title_model: title-model
"""

TURNS = 500
WORDS = "some words that make a turn of about sixty tokens, again and again, so it is. "


class Long(Colloquy):
    models = MODELS


@pytest.fixture(params=["sqlite", "postgres"])
async def colloquy(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Colloquy]:
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else ""
    async with Long(tmp_path, url) as running:
        yield running


class Cost:
    """What reading one context costs the database: statements, and bytes of text that they give."""

    def __init__(self) -> None:
        self.statements = 0
        self.bytes = 0

    def of(self, read: Any) -> Any:
        """Wraps `history.read_for_new` so that it is measured."""

        def measured(s: Any, *arguments: Any) -> Any:
            self.statements = 0
            engine = s.get_bind()

            def count(*_: Any) -> None:
                self.statements += 1

            event.listen(engine, "before_cursor_execute", count)
            try:
                found = read(s, *arguments)
            finally:
                event.remove(engine, "before_cursor_execute", count)
            texts = [m.content for t in found.turns for m in (t.prompt, *t.replies)]
            self.bytes = sum(map(len, texts))
            return found

        return measured


async def fill(colloquy: Colloquy, conversation: resources.Conversation, turns: int) -> None:
    """Stores finished turns as sends would have; sending them all would take minutes."""

    def store(s: Session) -> None:
        row = s.scalars(select(Conversation).where(Conversation.id == conversation.id)).one()
        row.version += 1
        author = s.scalars(select(User.id).where(User.account_id == row.account_id)).first()
        for number in range(turns):
            position = row.last_position + 1
            shared = {
                "account_id": row.account_id,
                "conversation_id": row.id,
                "state": State.COMPLETED,
                "version": row.version,
                "create_time": row.create_time,
                "update_time": row.update_time,
            }
            prompt = Message(
                id=new_id(), position=position, role=Role.USER, author_id=author,
                content=f"{number} {WORDS}{WORDS}", **shared,
            )  # fmt: skip
            reply = Message(
                id=new_id(), position=position + 1, role=Role.ASSISTANT, reply_to=prompt.id,
                content=WORDS, model="small", attempt=1, **shared,
            )  # fmt: skip
            s.add_all([prompt, reply])
            row.message_count += 2
            row.last_position = position + 1
        s.flush()

    await colloquy.app.db.write(EVERY_ACCOUNT, store)


@pytest.mark.timeout(360)
async def test_a_conversation_of_500_turns_goes_on_at_the_same_cost(
    colloquy: Colloquy, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    cost = Cost()
    monkeypatch.setattr(history, "read_for_new", cost.of(history.read_for_new))
    colloquy.provider.default = Answer(pieces=[WORDS], usage=False)
    conversation = await alice.create(system_prompt="Stay on the subject.")

    async def turn(number: int) -> tuple[resources.Message, int, int]:
        reply = await alice.send(conversation.id, f"{number} {WORDS}{WORDS}").reply()
        assert reply.state == resources.Message.STATE_COMPLETED
        return reply, cost.statements, cost.bytes

    first, *_ = await turn(1)
    await fill(colloquy, conversation, 48)
    fiftieth, statements, read = await turn(50)
    await fill(colloquy, conversation, TURNS - 51)
    last, statements_of_last, read_of_last = await turn(TURNS)
    assert statements_of_last <= 2 * statements
    assert read_of_last <= 2 * read

    asked = colloquy.provider.reply_requests[-1].messages
    assert asked[0] == {"role": "system", "content": "Stay on the subject."}
    assert asked[-1]["content"].startswith(f"{TURNS} ")
    receipt = await alice.receipt(last.id)
    assert 50 < len(receipt.message_ids) == len(asked) - 1
    told = [*(left.message_id for left in receipt.left_out), *receipt.message_ids]
    everything = await alice.history(conversation.id)
    assert len(everything) == 2 * TURNS
    assert told == [message.id for message in everything[:-1]]
    assert {left.reason for left in receipt.left_out} == {receipts.OVER_WINDOW}
    assert 5_000 < receipt.estimated_input_tokens < 7_000
    assert not (await alice.receipt(first.id)).left_out
    assert len((await alice.receipt(fiftieth.id)).message_ids) > 50

    # With more left out than an answer takes, the newest are told.
    monkeypatch.setattr(receipts, "MAX_LEFT_OUT", 20)
    receipt = await alice.receipt(last.id)
    assert [left.message_id for left in receipt.left_out] == told[: -len(receipt.message_ids)][-20:]
    assert receipt.message_ids == told[-len(receipt.message_ids) :]
