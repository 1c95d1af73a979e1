"""Streams break in every way that they can; whoever reads sees each piece once."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from colloquy import AsyncConversationClient, ConversationClient, Transcript
from colloquy.api.conversation_service_pb2 import ConversationEvent, ConversationsEvent
from colloquy.api.resources_pb2 import Conversation, Error, Message, User
from colloquy.errors import (
    AlreadyExists,
    ColloquyError,
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    Unauthenticated,
    Unavailable,
)
from colloquy.retry import Timing
from google.rpc import status_pb2

from tests.fakes.conversations import FakeConversations, Script
from tests.fakes.door import GONE, KEY, status
from tests.fakes.serving import Serving, ThreadedServing, serving

PIECES = [["One ", "two 🙂"], ["Four", " five", " six"]]
WHOLE = "Four five six"
# accepted, two deltas, the new attempt, three deltas, the final message.
EVENTS = 8

BREAKS = [
    GONE,
    status(grpc.StatusCode.CANCELLED, message="a proxy closed it"),
    status(grpc.StatusCode.INTERNAL, message="RST_STREAM"),
]


@pytest.fixture
def fake() -> FakeConversations:
    return FakeConversations()


@pytest.fixture
async def server(fake: FakeConversations) -> AsyncIterator[Serving]:
    async with serving(fake) as running:
        yield running


@pytest.fixture
async def client(server: Serving) -> AsyncIterator[AsyncConversationClient]:
    async with AsyncConversationClient(
        server.address, KEY, sleep=without_waiting, timing=Timing(random=lambda: 0.0)
    ) as made:
        yield made


async def without_waiting(seconds: float) -> None:
    await asyncio.sleep(0)


def check(seen: list[ConversationEvent]) -> None:
    """Each piece came once, and together they are the reply."""
    assert [event.HasField("accepted") for event in seen].count(True) == 1
    finals = [e for e in seen if e.message.state == Message.STATE_COMPLETED]
    assert len(finals) == 1
    assert seen[-1] == finals[0]
    # Also when a repeated send attaches to a reply that is under way.
    attempt, text = seen[0].accepted.reply.attempt, seen[0].accepted.reply.content
    assert text == ""
    for event in seen[1:-1]:
        if event.HasField("message"):
            assert event.message.attempt > attempt
            attempt, text = event.message.attempt, event.message.content
            assert text == ""
        else:
            assert (event.delta.attempt, event.delta.offset) == (attempt, len(text))
            text += event.delta.text
    assert text == finals[0].message.content == WHOLE


def written_stepwise(fake: FakeConversations) -> None:
    """Have the reply of `PIECES` written."""
    fake.scripts.append(Script(PIECES))


@pytest.mark.parametrize("resync", [False, True])
@pytest.mark.parametrize("second", range(EVENTS + 1))
@pytest.mark.parametrize("first", range(EVENTS))
async def test_two_breaks_anywhere(
    fake: FakeConversations,
    client: AsyncConversationClient,
    first: int,
    second: int,
    resync: bool,
) -> None:
    written_stepwise(fake)
    fake.resync = resync
    fake.breaks.extend([(first, GONE), (second, GONE)])
    conversation = await client.create_conversation()
    check([event async for event in client.send(conversation.id, "Count")])
    sends = [request for name, request in fake.calls if name == "SendMessage"]
    assert len({request.request_id for request in sends}) == 1
    assert len(fake.rooms[conversation.id].messages) == 2


@pytest.mark.parametrize("answer", BREAKS, ids=lambda answer: grpc_name(answer))
async def test_a_break_after_each_event(
    fake: FakeConversations, client: AsyncConversationClient, answer: status_pb2.Status
) -> None:
    written_stepwise(fake)
    fake.breaks.extend([(1, answer)] * (EVENTS - 1))
    conversation = await client.create_conversation()
    check([event async for event in client.send(conversation.id, "Count")])


def grpc_name(answer: status_pb2.Status) -> str:
    return next(code.name for code in grpc.StatusCode if code.value[0] == answer.code)


@pytest.mark.parametrize("events", range(1, EVENTS))
async def test_a_server_that_restarts_on_its_port(
    fake: FakeConversations, server: Serving, events: int
) -> None:
    written_stepwise(fake)
    # A real wait between the tries: the channel has to notice that the server is back.
    async with AsyncConversationClient(server.address, KEY) as client:
        conversation = await client.create_conversation()
        seen = []
        async for event in client.send(conversation.id, "Count"):
            seen.append(event)
            if len(seen) == events:
                await server.stop()
                await server.start()
        check(seen)


async def test_a_server_that_is_away_for_a_while(fake: FakeConversations, server: Serving) -> None:
    """However often it is not there: what was accepted is never given up."""
    written_stepwise(fake)
    fake.breaks.append((2, GONE))
    tries = 0

    async def come_back_late(seconds: float) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            await server.stop()
        if tries == 30:
            await server.start()
        if tries > 30:
            await asyncio.sleep(0.01)

    async with AsyncConversationClient(
        server.address, KEY, patience=0.01, sleep=come_back_late
    ) as client:
        conversation = await client.create_conversation()
        check([event async for event in client.send(conversation.id, "Count")])
    assert tries >= 30


async def test_a_server_that_never_comes_is_given_up(server: Serving) -> None:
    await server.stop()
    async with AsyncConversationClient(server.address, KEY, patience=0.2) as client:
        with pytest.raises(Unavailable):
            await client.list_models()
        with pytest.raises(Unavailable):
            await client.ask("c", "Hi")
        with pytest.raises(Unavailable):
            await anext(client.watch("c"))


async def test_a_failed_reply_is_a_message(
    fake: FakeConversations, client: AsyncConversationClient
) -> None:
    error = Error(message="the provider is not there")
    fake.scripts.append(Script([["Half"]], Message.STATE_FAILED, error))
    conversation = await client.create_conversation()
    reply = await client.ask(conversation.id, "Hi")
    assert (reply.state, reply.content) == (Message.STATE_FAILED, "Half")
    assert reply.error == error


@pytest.mark.parametrize("first", range(EVENTS - 1))
async def test_a_reply_made_again_survives_breaks(
    fake: FakeConversations, client: AsyncConversationClient, first: int
) -> None:
    conversation = await client.create_conversation()
    before = await client.ask(conversation.id, "Count")
    written_stepwise(fake)
    fake.breaks.append((first, GONE))
    check([event async for event in client.regenerate(before.id)])
    assert len(fake.rooms[conversation.id].messages) == 3


async def test_a_repeated_request_attaches_from_another_process(
    fake: FakeConversations, client: AsyncConversationClient
) -> None:
    gate = asyncio.Event()
    fake.scripts.append(Script([["Hello", " you"]], gate=gate, before_gate=1))
    conversation = await client.create_conversation()
    async with client.send(conversation.id, "Hi", request_id="mine") as reply:
        async for event in reply:
            if event.HasField("delta"):
                break
    again = client.send(conversation.id, "Hi", request_id="mine")
    first = await anext(again)
    assert first.accepted.reply.content == ""
    assert (await anext(again)).delta.text == "Hello"
    assert again.prompt is not None
    assert again.prompt.content == "Hi"
    gate.set()
    assert (await again.result()).content == "Hello you"
    with pytest.raises(AlreadyExists) as raised:
        await client.ask(conversation.id, "Something else", request_id="mine")
    assert raised.value.reason == "REQUEST_ID_REUSED"


async def test_a_watcher_sees_each_piece_once_over_breaks(
    fake: FakeConversations, client: AsyncConversationClient
) -> None:
    conversation = await client.create_conversation()
    fake.breaks.extend([(n % 3 + 1, GONE) for n in range(6)])
    transcript, seen = Transcript(), []
    watching = client.watch(conversation.id)
    first = await anext(watching)
    transcript.apply(first)
    written_stepwise(fake)
    sending = asyncio.create_task(client.ask(conversation.id, "Count"))
    async for event in watching:
        transcript.apply(event)
        seen.append(event)
        if event.conversation.title:
            await sending
            await client.delete_conversation(conversation.id)
    assert transcript.deleted
    assert [held.text for held in transcript.messages.values()] == ["Count", WHOLE]
    assert transcript.conversation is not None
    assert transcript.conversation.title == "A made-up title"
    assert len({event.SerializeToString(deterministic=True) for event in seen}) == len(seen)


async def test_a_watcher_goes_on_from_a_token_it_kept(
    fake: FakeConversations, client: AsyncConversationClient
) -> None:
    conversation = await client.create_conversation()
    tokens = [event.resume_token async for event in client.send(conversation.id, "Hi")]
    await client.delete_conversation(conversation.id)
    fake.rooms[conversation.id].deleted = False
    for token in tokens:
        seen = [event async for event in client.watch(conversation.id, token)]
        assert seen[-1].HasField("deleted")
        assert [e.message.content for e in seen if e.HasField("message")][-1:] in (
            ["You said: Hi"],
            [],
        )


async def test_breaking_off_ends_the_call(
    fake: FakeConversations, client: AsyncConversationClient
) -> None:
    fake.scripts.append(Script([["a", "b"]], gate=asyncio.Event(), before_gate=1))
    conversation = await client.create_conversation()
    async for event in client.send(conversation.id, "Hi"):
        if event.HasField("delta"):
            break
    await until(lambda: fake.open_streams == 0)
    async with client.watch(conversation.id) as events:
        await anext(events)
        assert fake.open_streams == 1
    await until(lambda: fake.open_streams == 0)


async def test_cancelling_the_task_ends_the_call(
    fake: FakeConversations, client: AsyncConversationClient
) -> None:
    fake.scripts.append(Script([["a", "b"]], gate=asyncio.Event(), before_gate=1))
    conversation = await client.create_conversation()
    task = asyncio.create_task(client.ask(conversation.id, "Hi"))
    await until(lambda: fake.open_streams == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: fake.open_streams == 0)


async def test_closing_the_client_under_a_reader_is_an_error(
    fake: FakeConversations, server: Serving
) -> None:
    client = AsyncConversationClient(server.address, KEY)
    conversation = await client.create_conversation()
    events = client.watch(conversation.id)
    await anext(events)
    reading = asyncio.create_task(anext(events))
    await until(lambda: fake.open_streams == 1)
    await client.close()
    with pytest.raises(ColloquyError, match="closed"):
        await reading


async def test_a_silent_server_is_left(fake: FakeConversations, server: Serving) -> None:
    gate = asyncio.Event()
    fake.scripts.append(Script([["a", "b"]], gate=gate, before_gate=1))

    async def open_gate(seconds: float) -> None:
        gate.set()

    async with AsyncConversationClient(
        server.address, KEY, silence=0.05, sleep=open_gate
    ) as client:
        conversation = await client.create_conversation()
        assert (await client.ask(conversation.id, "Hi")).content == "ab"
    assert [name for name, _ in fake.calls].count("WatchConversation") == 1


async def test_a_timeout_ends_the_wait_and_not_the_reply(
    fake: FakeConversations, client: AsyncConversationClient
) -> None:
    gate = asyncio.Event()
    fake.scripts.append(Script([["a", "b"]], gate=gate, before_gate=1))
    conversation = await client.create_conversation()
    reply = client.send(conversation.id, "Hi", timeout=0.05)
    with pytest.raises(DeadlineExceeded):
        await reply.result()
    gate.set()
    again = client.send(conversation.id, "Hi", request_id=reply.request_id)
    assert (await again.result()).content == "ab"


async def test_a_cancelled_reply_ends_the_stream(
    fake: FakeConversations, client: AsyncConversationClient
) -> None:
    fake.scripts.append(Script([["a", "b"]], gate=asyncio.Event(), before_gate=1))
    conversation = await client.create_conversation()
    reply = client.send(conversation.id, "Hi")
    assert (
        await client.cancel_reply(conversation_id=conversation.id, request_id=reply.request_id)
        is None
    )
    async for event in reply:
        if event.HasField("delta"):
            await client.cancel_reply(conversation_id=conversation.id, request_id=reply.request_id)
    assert reply.reply is not None
    assert (reply.reply.state, reply.reply.content) == (Message.STATE_CANCELLED, "a")


async def test_refusals_are_raised_with_their_details(
    fake: FakeConversations, client: AsyncConversationClient, server: Serving
) -> None:
    with pytest.raises(NotFound) as missing:
        await client.ask("nothing", "Hi")
    assert missing.value.reason == "CONVERSATION_NOT_FOUND"
    with pytest.raises(InvalidArgument) as unknown:
        await client.create_conversation(model="gpt-99")
    assert unknown.value.fields == {"model": "is not in the catalogue"}
    async with AsyncConversationClient(server.address, "wrong") as stranger:
        with pytest.raises(Unauthenticated):
            await stranger.list_models()


async def test_reads_are_repeated_and_pages_joined(
    fake: FakeConversations, client: AsyncConversationClient
) -> None:
    for _ in range(120):
        await client.create_conversation()
    fake.failures.extend([GONE, GONE])
    assert len([c.id async for c in client.conversations()]) == 120
    conversation = await client.create_conversation()
    reply = await client.ask(conversation.id, "Hi")
    assert [m.content async for m in client.messages(conversation.id)] == ["Hi", "You said: Hi"]
    assert [hit.message.id async for hit in client.search("You said")] == [reply.id]
    page = await client.list_conversations(page_size=3)
    assert (len(page.conversations), page.next_page_token) == (3, "3")


async def test_a_call_that_might_be_done_twice_is_not_repeated(
    fake: FakeConversations, client: AsyncConversationClient
) -> None:
    conversation = await client.create_conversation()
    fake.failures.append(GONE)
    with pytest.raises(Unavailable):
        await client.delete_conversation(conversation.id)
    assert [name for name, _ in fake.calls].count("DeleteConversation") == 1


async def test_files_go_up_and_come_down(
    client: AsyncConversationClient, fake: FakeConversations, tmp_path: Path
) -> None:
    body = bytes(range(256)) * 5000
    (tmp_path / "up.bin").write_bytes(body)
    fake.files.failures.append(GONE)
    attachment = await client.upload(tmp_path / "up.bin")
    assert (attachment.filename, attachment.byte_size) == ("up.bin", len(body))
    fake.files.breaks.append((5, GONE))
    assert await client.download(attachment.id, tmp_path / "down.bin") == attachment
    assert (tmp_path / "down.bin").read_bytes() == body
    held = io.BytesIO()
    await client.download(attachment.id, held)
    assert held.getvalue() == body
    with pytest.raises(NotFound):
        await client.download("nothing", tmp_path / "nothing.bin")
    names = {path.name for path in tmp_path.iterdir()}  # noqa: ASYNC240 - nobody else waits
    assert names == {"up.bin", "down.bin"}


async def test_what_the_callers_own_progress_raises_is_raised(
    client: AsyncConversationClient, server: Serving
) -> None:
    def progress(done: int, total: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await client.upload(io.BytesIO(b"words"), progress=progress)

    def upload() -> None:
        with ConversationClient(server.address, KEY) as sync_client:
            sync_client.upload(io.BytesIO(b"words"), progress=progress)

    with pytest.raises(ZeroDivisionError):
        await asyncio.to_thread(upload)


@pytest.mark.parametrize("answer", BREAKS, ids=lambda answer: grpc_name(answer))
def test_the_sync_client_resumes_over_real_breaks(answer: status_pb2.Status) -> None:
    with ThreadedServing() as server:
        for first in range(1, EVENTS):
            server.fake.scripts.append(Script(PIECES))
            server.fake.breaks.extend([(first, answer), (1, answer), (1, answer)])
            with ConversationClient(
                server.address, KEY, timing=Timing(random=lambda: 0.0)
            ) as client:
                conversation = client.create_conversation()
                check(list(client.send(conversation.id, "Count")))


def test_the_sync_client_moves_files(tmp_path: Path) -> None:
    body = bytes(range(256)) * 5000
    (tmp_path / "up.bin").write_bytes(body)
    with ThreadedServing() as server, ConversationClient(server.address, KEY) as client:
        server.fake.files.failures.append(GONE)
        attachment = client.upload(tmp_path / "up.bin")
        server.fake.files.breaks.append((5, GONE))
        assert client.download(attachment.id, tmp_path / "down.bin") == attachment
    assert (tmp_path / "down.bin").read_bytes() == body


def test_the_sync_client_ends_its_calls() -> None:
    with ThreadedServing() as server, ConversationClient(server.address, KEY) as client:
        conversation = client.create_conversation()
        for _ in client.watch(conversation.id):
            break

        async def ended() -> None:
            await until(lambda: server.fake.open_streams == 0)

        server.run(ended)


async def until(what: Callable[[], Any]) -> None:
    """Let others go on until something has come; the test's own limit ends it otherwise."""
    while not what():  # noqa: ASYNC110 - what is waited for has no event
        await asyncio.sleep(0)


def changed(id_: str, token: str) -> ConversationsEvent:
    return ConversationsEvent(resume_token=token, conversation=Conversation(id=id_))


async def test_all_conversations_are_watched_through_breaks(
    fake: FakeConversations, client: AsyncConversationClient
) -> None:
    fake.told.extend(
        [[changed("a", "1")], [], [changed("b", "2"), changed("c", "3")], [changed("d", "4")]]
    )
    seen = []
    async with client.watch_conversations() as events:
        async for event in events:
            seen.append(event.conversation.id)
            if event.resume_token == "4":
                break
    assert seen == ["a", "b", "c", "d"]
    assert fake.tokens == ["", "1", "1", "3"]


def test_all_conversations_are_watched_without_asyncio() -> None:
    with ThreadedServing() as server:
        server.fake.told.extend([[changed("a", "1")], [changed("b", "2")]])
        server.fake.people.extend(User(display_name=name) for name in ("Anna", "Bo"))
        with ConversationClient(server.address, KEY) as client:
            with client.watch_conversations("0") as events:
                assert [next(events).conversation.id for _ in range(2)] == ["a", "b"]
            assert server.fake.tokens == ["0", "1"]
            assert [user.display_name for user in client.users("A")] == ["Anna"]
            assert client.mark_read("c", "m").id == "c"
