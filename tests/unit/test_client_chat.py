"""A chat, typed by a test and shown on paper."""

from __future__ import annotations

import asyncio
import io
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from colloquy import AsyncConversationClient
from colloquy.api.conversation_service_pb2 import ConversationEvent
from colloquy.api.resources_pb2 import Message, User
from colloquy.errors import ColloquyError
from colloquy.retry import Timing
from colloquy.terminal.chat_session import COMMANDS, ChatSession
from colloquy.terminal.commands.chat import _resume, last_items
from colloquy.terminal.prompt import Prompt
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output import DummyOutput
from rich.console import Console

from tests.fakes.conversations import FakeConversations, Room, Script, say
from tests.fakes.door import KEY, budget_exceeded
from tests.fakes.serving import serving


class Talk:
    """A chat and both of its ends: the keyboard and the server."""

    def __init__(
        self, fake: FakeConversations, client: AsyncConversationClient, keyboard: PipeInput
    ) -> None:
        self.fake = fake
        self.client = client
        self.keyboard = keyboard
        self.console = Console(file=io.StringIO(), width=100, markup=False, highlight=False)
        self.prompt = Prompt(list(COMMANDS), keyboard, DummyOutput())
        self.chat = ChatSession(client, self.console, self.prompt)

    @property
    def shown(self) -> list[str]:
        """The lines on the screen that are not empty."""
        assert isinstance(self.console.file, io.StringIO)
        lines = self.console.file.getvalue().splitlines()
        return [line.rstrip() for line in lines if line.strip()]

    @property
    def room(self) -> Room:
        """The only conversation."""
        (room,) = self.fake.rooms.values()
        return room

    def said(self) -> list[str]:
        """What users said."""
        return [m.content for m in self.room.messages.values() if m.role == Message.ROLE_USER]

    async def type(self, *lines: str) -> list[str]:
        """Type lines, leave, and return what was shown."""
        for line in lines:
            self.keyboard.send_text(f"{line}\r")
        self.keyboard.send_text("\x04")
        await self.chat.run()
        return self.shown

    async def until(self, what: Callable[[], Any]) -> None:
        """Wait for something that comes by itself; the test's own limit ends it otherwise."""
        while not what():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0)


@pytest.fixture
async def talk() -> AsyncIterator[Talk]:
    fake = FakeConversations()
    fake.title = ""
    with create_pipe_input() as keyboard:
        async with (
            serving(fake) as server,
            AsyncConversationClient(
                server.address, KEY, timing=Timing(random=lambda: 0.0)
            ) as client,
        ):
            yield Talk(fake, client, keyboard)


async def test_what_is_typed_is_answered(talk: Talk) -> None:
    await talk.chat.welcome()
    assert await talk.type("Hello", "Again") == [
        "fake-large answers. /help lists the commands, Ctrl-D leaves.",
        "You said: Hello",
        "You said: Again",
        f"go on with: colloquy chat {talk.room.conversation.id}",
    ]


async def test_a_model_that_is_not_there_does_not_answer(talk: Talk) -> None:
    chat = ChatSession(talk.client, talk.console, talk.prompt, "nope")
    with pytest.raises(ColloquyError, match="nope is not available; these are: fake-large"):
        await chat.welcome()
    assert talk.shown == []


async def test_what_a_budget_refuses_can_be_said_again_with_its_files(
    talk: Talk, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("some notes")
    talk.fake.refusals.append(budget_exceeded())
    shown = await talk.type(f"/attach {tmp_path}/notes.txt", "Hello", "Hello")
    (told,) = [line for line in shown if line.startswith("error: ")]
    assert "This account may use $50.00 a month" in told
    assert talk.said() == ["Hello"]
    prompt, _ = talk.room.messages.values()
    assert [file.filename for file in prompt.attachments] == ["notes.txt"]


async def test_of_a_long_conversation_only_the_end_is_held() -> None:
    class Counted:
        held = most = 0

        def __init__(self) -> None:
            Counted.held += 1
            Counted.most = max(Counted.most, Counted.held)

        def __del__(self) -> None:
            Counted.held -= 1

    async def messages() -> AsyncIterator[Counted]:
        for _ in range(100):
            yield Counted()

    assert len(await last_items(messages(), 20)) == 20
    assert Counted.most <= 22


@pytest.mark.parametrize("leave", ["/quit\r", "\x03", "\x04"])
async def test_leaving_without_a_word_leaves_nothing_behind(talk: Talk, leave: str) -> None:
    talk.keyboard.send_text(leave)
    await talk.chat.run()
    assert talk.fake.rooms == {}
    assert talk.shown == []


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("one\x1b\rtwo\r", "one\ntwo"),
        ("one\\\rtwo\r", "one\ntwo"),
        ("\x1b[200~one\ntwo\n\x1b[201~\r", "one\ntwo"),
        # Typed before the prompt was there, Enter arrives like this.
        ("one\n", "one"),
        ("//etc is a folder\r", "/etc is a folder"),
        ("\r  \rone\r", "one"),
    ],
)
async def test_lines(talk: Talk, typed: str, said: str) -> None:
    talk.keyboard.send_text(f"{typed}\x04")
    await talk.chat.run()
    assert talk.said() == [said]


async def test_the_title_is_told_when_it_is_found(talk: Talk) -> None:
    talk.fake.title = "Greetings\x1b[2J"
    talk.keyboard.send_text("Hello\r")
    chatting = asyncio.create_task(talk.chat.run())
    await talk.until(lambda: "title: Greetings[2J" in talk.shown)
    talk.keyboard.send_text("\x04")
    await chatting


async def test_commands(talk: Talk) -> None:
    shown = await talk.type(
        "/model", "/model fake-small", "/model gpt-99", "/title Mine", "Hello", "/model", "/title"
    )
    assert shown[:-1] == [
        "* fake-large",
        "  fake-small",
        "  no-key  (the server has no key for it)",
        "fake-small answers from now on",
        "error: gpt-99 is not available; these are: fake-large, fake-small",
        "You said: Hello",
        "  fake-large",
        "* fake-small",
        "  no-key  (the server has no key for it)",
        "Mine",
    ]
    assert talk.room.conversation.model == "fake-small"


async def test_commands_in_a_conversation(talk: Talk) -> None:
    await talk.type("Hello", "/title My title", "/model fake-small", "/model gpt-99")
    assert (talk.room.conversation.title, talk.room.conversation.model) == (
        "My title",
        "fake-small",
    )
    assert "error: there is no such model" in talk.shown


async def test_a_command_that_is_none(talk: Talk) -> None:
    shown = await talk.type("/quti", "/help")
    assert shown[0].startswith("there is no command /quti: /help lists them")
    assert [line.split()[0] for line in shown[-7:-1]] == list(COMMANDS)


async def test_a_reply_is_made_again(talk: Talk) -> None:
    talk.fake.scripts.extend([say("first"), say("second")])
    shown = await talk.type("/regenerate", "Hello", "/regenerate")
    assert shown[:-1] == ["there is no reply yet to make again", "first", "second"]
    replies = [m for m in talk.room.messages.values() if m.role == Message.ROLE_ASSISTANT]
    assert [reply.superseded for reply in replies] == [True, False]


async def test_an_error_does_not_end_the_chat(talk: Talk) -> None:
    talk.keyboard.send_text("Hello\r")
    chatting = asyncio.create_task(talk.chat.run())
    await talk.until(lambda: "You said: Hello" in talk.shown)
    await talk.fake.delete(talk.room)
    talk.keyboard.send_text("More\r\x04")
    await chatting
    assert "error: there is no such conversation" in talk.shown
    assert "the conversation was deleted" in talk.shown


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


async def test_ctrl_c_stops_the_reply_and_keeps_the_chat(talk: Talk) -> None:
    talk.fake.scripts.append(Script([["half", "whole"]], gate=asyncio.Event(), before_gate=1))
    talk.keyboard.send_text("Hello\r")
    chatting = asyncio.create_task(talk.chat.run())
    await talk.until(lambda: _told_half(talk))
    interrupt()
    await talk.until(lambda: "[stopped]" in talk.shown)
    talk.keyboard.send_text("Still here?\r\x04")
    await chatting
    assert talk.shown[:3] == ["half", "[stopped]", "You said: Still here?"]


async def test_ctrl_c_twice_leaves_a_reply_that_cannot_be_stopped(
    talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    never = asyncio.Event()

    async def hang(*_: object, **__: object) -> None:
        await never.wait()

    monkeypatch.setattr(talk.client, "cancel_reply", hang)
    gate = asyncio.Event()
    talk.fake.scripts.append(Script([["half ", "whole"]], gate=gate, before_gate=1))
    talk.keyboard.send_text("Hello\r")
    chatting = asyncio.create_task(talk.chat.run())
    await talk.until(lambda: _told_half(talk))
    interrupt()
    await asyncio.sleep(0)
    interrupt()
    await talk.until(lambda: "left; the reply is shown when it is done" in talk.shown)
    gate.set()
    await talk.until(lambda: "half whole" in talk.shown)
    talk.keyboard.send_text("\x04")
    await chatting


def _told_half(talk: Talk) -> bool:
    """Whether the reply has begun, for the server and for the chat."""
    if not talk.fake.rooms:
        return False
    told = any(event.delta.text.startswith("half") for event in talk.room.log)
    return told and talk.chat._busy


async def test_what_others_say_is_shown_once(talk: Talk) -> None:
    talk.keyboard.send_text("Hello\r")
    chatting = asyncio.create_task(talk.chat.run())
    await talk.until(lambda: "You said: Hello" in talk.shown)
    other = Message(
        id="other",
        role=Message.ROLE_USER,
        author=User(display_name="Ada"),
        content="Me too",
        state=Message.STATE_COMPLETED,
    )
    await talk.fake.tell(talk.room, message=other)
    await talk.fake.tell(talk.room, message=other)
    await talk.until(lambda: "Me too" in talk.shown)
    talk.keyboard.send_text("\x04")
    await chatting
    assert talk.shown[:-1] == ["You said: Hello", "Ada", "Me too"]


async def test_what_others_say_does_not_come_between(talk: Talk) -> None:
    gate = asyncio.Event()
    talk.fake.scripts.append(Script([["half ", "whole"]], gate=gate, before_gate=1))
    talk.keyboard.send_text("Hello\r")
    chatting = asyncio.create_task(talk.chat.run())
    await talk.until(lambda: _told_half(talk))
    other = Message(id="other", role=Message.ROLE_USER, content="Me too")
    other.state = Message.STATE_COMPLETED
    await talk.fake.tell(talk.room, message=other)
    await talk.until(lambda: talk.chat._deferred)
    gate.set()
    await talk.until(lambda: "Me too" in talk.shown)
    talk.keyboard.send_text("\x04")
    await chatting
    assert talk.shown[:-1] == ["half whole", "user", "Me too"]


async def test_a_conversation_is_entered_again(talk: Talk) -> None:
    conversation = await talk.client.create_conversation(title="Before")
    for number in range(12):
        await talk.client.ask(conversation.id, f"question {number}")
    talk.fake.scripts.append(say("another answer"))
    await _resume(talk.client, talk.chat, conversation.id)
    shown = await talk.type("More", "/regenerate")
    id_ = conversation.id
    assert shown[:4] == ["Before", id_, "fake-large", f"… earlier messages: show {id_}"]
    assert shown[4:8] == ["You", "question 2", "fake-large", "You said: question 2"]
    assert shown[-3:] == ["another answer", "You said: More", f"go on with: colloquy chat {id_}"]


async def test_a_reply_under_way_is_shown_when_it_is_done(talk: Talk) -> None:
    gate = asyncio.Event()
    talk.fake.scripts.append(Script([["half ", "whole"]], gate=gate, before_gate=1))
    conversation = await talk.client.create_conversation()
    async with talk.client.send(conversation.id, "Hello") as reply:
        await anext(reply)
    await _resume(talk.client, talk.chat, conversation.id)
    chatting = asyncio.create_task(talk.chat.run())
    assert talk.shown[-1] == "fake-large is writing; it is shown when it is done"
    gate.set()
    await talk.until(lambda: "half whole" in talk.shown)
    talk.keyboard.send_text("\x04")
    await chatting


async def test_heartbeats_are_nothing_to_tell(talk: Talk) -> None:
    await talk.chat._on_event(ConversationEvent(heartbeat=ConversationEvent.Heartbeat()))
    assert talk.shown == []


async def test_a_file_goes_with_what_is_said_next(talk: Talk, tmp_path: Path) -> None:
    path = tmp_path / "a table.csv"
    path.write_text("1,2")
    shown = await talk.type(f"/attach '{path}'", "/attach", "Look", "Again", "/attach")
    first, second = (m for m in talk.room.messages.values() if m.role == Message.ROLE_USER)
    assert [file.filename for file in first.attachments] == ["a table.csv"]
    assert not second.attachments
    assert shown.count("with the next message: a table.csv (text/csv, 3 B)") == 2
    assert "no file yet: /attach FILE" in shown


async def test_a_file_that_is_not_there_is_told_of(talk: Talk) -> None:
    shown = await talk.type("/attach /no/such/file", "Hello")
    assert any("No such file" in line for line in shown)
    assert talk.said() == ["Hello"]
