"""What a receipt says, however long its conversation is and in whatever order its replies came."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest
from colloquy_server.database import transactions
from colloquy_server.database.engine import sync_engine
from colloquy_server.database.models import (
    Account,
    Conversation,
    Message,
    Receipt,
    Role,
    State,
    new_id,
)
from colloquy_server.database.repository import messages, receipts
from colloquy_server.database.repository.receipts import ContextReceipt, Given, LeftOut
from sqlalchemy import Engine, event
from sqlalchemy.orm import Session

from tests.migrated import make_database

ENDS = (State.COMPLETED, State.COMPLETED, State.FAILED, State.CANCELLED)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = sync_engine(database_url)
    yield engine
    engine.dispose()


@dataclass
class Talk:
    """A conversation that is made up: all its messages, in the order of their positions."""

    session: Session
    conversation: Conversation
    messages: list[Message] = field(default_factory=list)

    @classmethod
    def begin(cls, session: Session) -> Talk:
        account = Account(id=new_id(), name="", default_user_id="", create_time=0)
        session.add(account)
        session.flush()
        conversation = Conversation(
            id=new_id(), account_id=account.id, model="", create_time=0, update_time=0,
            activity_time=0,
        )  # fmt: skip
        session.add(conversation)
        session.flush()
        return cls(session, conversation)

    def add(self, prompt: Message | None = None, state: State = State.COMPLETED) -> Message:
        """A reply to the prompt, or else a new prompt."""
        message = Message(
            id=new_id(),
            account_id=self.conversation.account_id,
            conversation_id=self.conversation.id,
            position=len(self.messages) + 1,
            role=Role.ASSISTANT if prompt else Role.USER,
            reply_to=prompt.id if prompt else None,
            state=state,
            version=1,
            create_time=0,
            update_time=0,
        )
        self.messages.append(message)
        return message

    def write_down(self, reply: Message, given: Given) -> None:
        """Stores a receipt."""
        self.session.add(
            Receipt(account_id=reply.account_id, message_id=reply.id, body=given.dump())
        )


def place_of(message: Message, by_id: dict[str, Message]) -> int:
    """The position of the prompt that a message is, or replies to."""
    return by_id[message.reply_to].position if message.reply_to else message.position


def expected(talk: Talk, reply: Message, given: Given) -> ContextReceipt:
    """What a receipt says, found in all messages that there are."""
    by_id = {message.id: message for message in talk.messages}
    before = [message for message in talk.messages if message.position < reply.position]
    far = [message for message in before if message.position < given.floor]
    near = [message for message in before if message.position >= given.floor]
    told = [*far[-receipts.MAX_LEFT_OUT :], *near]
    told.sort(key=lambda message: (place_of(message, by_id), message.position))
    ids = {message.position: message.id for message in told}
    older = [message.id for message in told if place_of(message, by_id) < given.floor]
    left_out = [
        LeftOut(message_id, "", receipts.OVER_WINDOW)
        for message_id in older[-receipts.MAX_LEFT_OUT :]
    ]
    left_out += [LeftOut(ids[p], "", why) for p, why in given.withheld if p in ids]
    left_out += [LeftOut(ids[p], file, why) for p, file, why in given.files if p in ids]
    message_ids = [message.id for message in told if message.position in given.positions]
    return ContextReceipt(message_ids, left_out, given.estimated_tokens)


def given_to(talk: Talk, reply: Message, chance: Random) -> Given:
    """What the model of a reply may have been given: turns from some prompt up to its own."""
    prompts = [message for message in talk.messages if message.role == Role.USER]
    last = next(n for n, prompt in enumerate(prompts) if prompt.id == reply.reply_to)
    turns = prompts[chance.randint(max(0, last - 12), last) : last + 1]
    given = Given(turns[0].position, estimated_tokens=chance.randrange(1000))
    for prompt in turns:
        given.positions.append(prompt.position)
        if chance.random() < 0.3:
            given.files.append((prompt.position, new_id(), "no room"))
        if prompt is turns[-1]:
            break
        for other in talk.messages:
            if other.reply_to != prompt.id:
                continue
            # A reply that waited long may have been given ones that were begun after it.
            if other.state == State.FAILED or chance.random() < 0.2:
                given.withheld.append((other.position, "superseded by a later reply"))
            elif other.position < reply.position or chance.random() < 0.5:
                given.positions.append(other.position)
    return given


@pytest.mark.parametrize("most", [3, 10, 5000])
def test_a_receipt_names_what_the_model_was_given_and_what_not(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(receipts, "MAX_LEFT_OUT", most)
    monkeypatch.setattr(receipts, "_READ_AT_ONCE", 7)
    for number in range(8):
        chance = Random(number)
        with Session(engine) as plain, plain.begin():
            talk = Talk.begin(plain)
            for _ in range(40):
                prompts = [message for message in talk.messages if message.role == Role.USER]
                if not prompts or chance.random() < 0.6:
                    talk.add(talk.add(), chance.choice(ENDS))
                else:  # one is regenerated, however old it is
                    talk.add(chance.choice([*prompts, *prompts[-3:]]), chance.choice(ENDS))
            plain.add_all(talk.messages)
            plain.flush()
            replies = [message for message in talk.messages if message.role == Role.ASSISTANT]
            written = {reply.id: given_to(talk, reply, chance) for reply in replies}
            for reply in replies:
                talk.write_down(reply, written[reply.id])
            plain.flush()
            account_id = talk.conversation.account_id
            with transactions.Session(plain.connection(), account_id) as session:
                for reply in replies:
                    told = receipts.receipt(session, messages.get(session, reply.id))
                    assert told == expected(talk, reply, written[reply.id]), (number, reply.id)


def steps_of_a_receipt(folder: Path, older: int, later: int, *, is_regenerated: bool) -> int:
    """What SQLite does, in thousands of its instructions, to read a receipt that names the last
    50 of so many older turns; `later` ones came between the prompt and its reply. Another reply
    came late to a prompt that is left out if one `is_regenerated`."""
    url = f"sqlite:///{folder}/{older}-{later}-{is_regenerated}.db"
    make_database(url)
    engine = sync_engine(url)
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    @event.listens_for(engine, "connect")
    def _listen(connection: sqlite3.Connection, _record: object) -> None:
        connection.set_progress_handler(count, 1000)

    with Session(engine) as plain, plain.begin():
        talk = Talk.begin(plain)
        for _ in range(older):
            talk.add(talk.add())
        floor = talk.messages[-100].position
        if is_regenerated:  # a prompt that is older than what was given
            talk.add(talk.messages[floor - 11])
        asked = talk.add()
        for _ in range(later):
            talk.add(talk.add())
        reply = talk.add(asked)
        plain.add_all(talk.messages)
        plain.flush()
        given = Given(floor, [*range(floor, floor + 100), asked.position])
        talk.write_down(reply, given)
        plain.flush()
        with transactions.Session(plain.connection(), talk.conversation.account_id) as session:
            row = messages.get(session, reply.id)
            steps = 0
            told = receipts.receipt(session, row)
            taken = steps
        assert told == expected(talk, reply, given)
    engine.dispose()
    return taken


@pytest.mark.parametrize("is_regenerated", [False, True])
def test_a_receipt_costs_what_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_regenerated: bool
) -> None:
    """Not what the conversation has before and after it."""
    monkeypatch.setattr(receipts, "MAX_LEFT_OUT", 20)
    short = steps_of_a_receipt(tmp_path, 100, 10, is_regenerated=is_regenerated)
    for older, later in ((1000, 10), (100, 1000), (1000, 1000)):
        long = steps_of_a_receipt(tmp_path, older, later, is_regenerated=is_regenerated)
        assert long <= short + 2, (older, later)
