"""The client library with the real server, over a wire that is cut."""

from __future__ import annotations

import asyncio
import functools
import io
import os
import signal
import sys
from pathlib import Path

import pytest
from colloquy import AsyncConversationClient, ConversationClient, Transcript
from colloquy.api.conversation_service_pb2 import ConversationEvent
from colloquy.api.resources_pb2 import Message, Rating
from colloquy.errors import InvalidArgument, NotFound, Unauthenticated
from colloquy.retry import Timing

from tests.fakes.provider import Answer
from tests.fakes.wire import Wire
from tests.fleets import ALONE, ANY
from tests.harness import ADMIN_KEY, Caller, Colloquy, ServerProcess, eventually, settle
from tests.readme import block, commands

# The wire is cut much more often than any network breaks; nobody waits for it.
HASTY = Timing(random=lambda: 0.0)


def address(colloquy: Colloquy, number: int = 0) -> str:
    return f"127.0.0.1:{colloquy.apps[number].port}"


def check(events: list[ConversationEvent], content: str) -> None:
    """Each piece came once, and joined they are the text."""
    assert [event.WhichOneof("event") for event in events].count("accepted") == 1
    finals = [e for e in events if e.message.state == Message.STATE_COMPLETED]
    assert len(finals) == 1
    assert events[-1] == finals[0]
    attempt, text = 0, ""
    for event in events[1:-1]:
        if event.HasField("message"):
            assert event.message.attempt >= attempt
            if event.message.attempt > attempt:
                assert event.message.content == ""
                attempt, text = event.message.attempt, ""
        else:
            attempt = attempt or event.delta.attempt
            assert (event.delta.attempt, event.delta.offset) == (attempt, len(text))
            text += event.delta.text
    assert text == finals[0].message.content == content


# A reply has three events at least, however many tokens are told at once.
@pytest.mark.parametrize("every", [1, 2, 3])
async def test_each_piece_comes_once_over_a_wire_that_is_cut(
    colloquy: Colloquy, alice: Caller, every: int
) -> None:
    conversation = await alice.create(title="Cut")
    colloquy.provider.script(Answer(tokens=60, rate=200))
    async with (
        Wire(address(colloquy)) as wire,
        AsyncConversationClient(wire.address, alice.key, timing=HASTY) as client,
    ):
        events: list[ConversationEvent] = []
        async for event in client.send(conversation.id, "Hello"):
            events.append(event)
            if len(events) % every == 0 and wire.cuts < 5:
                wire.cut()
        assert wire.cuts
    check(events, colloquy.provider.reply_requests[0].text)
    assert len(colloquy.provider.reply_requests) == 1
    assert (await alice.message(events[-1].message.id)).content == events[-1].message.content


async def test_a_watcher_over_a_wire_that_is_cut_ends_with_what_is_stored(
    colloquy: Colloquy, alice: Caller
) -> None:
    conversation = await alice.create()
    transcript = Transcript()
    async with (
        Wire(address(colloquy, -1)) as wire,
        AsyncConversationClient(wire.address, alice.key, timing=HASTY) as watcher,
        AsyncConversationClient(address(colloquy), alice.key) as client,
    ):
        watching = watcher.watch(conversation.id)
        transcript.apply(await anext(watching))
        colloquy.provider.script(*[Answer(tokens=30, rate=200)] * 3)

        async def talk() -> None:
            for number in range(3):
                await client.ask(conversation.id, f"question {number}")
            await client.update_conversation(conversation.id, title="The end")

        talking = asyncio.create_task(talk())
        count = 0
        async for event in watching:
            transcript.apply(event)
            count += 1
            if count % 7 == 0:
                wire.cut()
            if event.conversation.title == "The end":
                break
        await talking
    stored = {message.id: message.content for message in await alice.history(conversation.id)}
    assert {name: held.text for name, held in transcript.messages.items()} == stored


@ANY
async def test_a_reply_is_followed_over_the_death_of_its_server(
    colloquy: Colloquy, alice: Caller
) -> None:
    await colloquy.stop()
    process = ServerProcess(colloquy, LEASE_TTL="1.5")
    await process.start()
    colloquy.provider.script(
        Answer(tokens=400, gate_after=30, gate=asyncio.Event()), Answer(tokens=50)
    )
    async with AsyncConversationClient(process.address, alice.key) as client:
        conversation = await client.create_conversation(title="Kill")
        events: list[ConversationEvent] = []
        async for event in client.send(conversation.id, "Hello"):
            events.append(event)
            if event.delta.attempt == 1 and event.delta.offset == 0:
                await process.end(signal.SIGKILL)
                await process.start()
        check(events, colloquy.provider.reply_requests[-1].text)
        assert events[-1].message.attempt == 2
        await process.end(signal.SIGTERM)


@ALONE
async def test_a_reply_is_cancelled_by_its_request_and_made_again(
    colloquy: Colloquy, alice: Caller
) -> None:
    colloquy.provider.script(Answer(tokens=20, gate_after=5, gate=asyncio.Event()))
    async with AsyncConversationClient(address(colloquy), alice.key) as client:
        conversation = await client.create_conversation(title="Cancel")
        reply = client.send(conversation.id, "Hello")
        async for event in reply:
            if event.HasField("delta"):
                await client.cancel_reply(
                    conversation_id=conversation.id, request_id=reply.request_id
                )
        assert reply.reply is not None
        assert reply.reply.state == Message.STATE_CANCELLED
        again = await client.regenerate(reply.reply.id).result()
        assert again.state == Message.STATE_COMPLETED
        rated = await client.rate_reply(again.id, Rating.RATING_GOOD, comment="better")
        assert rated.rating == Rating.RATING_GOOD

        async def is_found() -> bool:
            hits = client.search(again.content.split()[0])
            return again.id in [hit.message.id async for hit in hits]

        assert await eventually(is_found, True)
        history = [message async for message in client.messages(conversation.id)]
        assert [m.superseded for m in history] == [False, True, False]
        assert [c.id async for c in client.conversations()] == [conversation.id]


@ANY
async def test_errors_of_the_real_server_are_understood(colloquy: Colloquy, alice: Caller) -> None:
    async with AsyncConversationClient(address(colloquy), alice.key) as client:
        with pytest.raises(InvalidArgument) as bad:
            await client.ask("no-id", "Hello")
        assert bad.value.reason == "INVALID_FIELD"
        assert list(bad.value.fields) == ["conversation_id"]
        with pytest.raises(NotFound) as missing:
            await client.get_conversation("01a20472-4ff9-70da-9007-29f2915b7c2a")
        assert missing.value.reason == "CONVERSATION_NOT_FOUND"
        conversation = await client.create_conversation()
        events = client.watch(conversation.id)
        await anext(events)
        await client.delete_conversation(conversation.id)
        assert [event.WhichOneof("event") async for event in events] == ["deleted"]
    async with AsyncConversationClient(address(colloquy), "colloquy_wrong") as stranger:
        with pytest.raises(Unauthenticated):
            await stranger.ask(conversation.id, "Hello")


@ALONE
async def test_files_go_up_and_come_down(colloquy: Colloquy, alice: Caller, tmp_path: Path) -> None:
    body = "".join(f"line {number}\n" for number in range(100_000)).encode()
    (tmp_path / "up.txt").write_bytes(body)
    async with AsyncConversationClient(address(colloquy), alice.key) as client:
        attachment = await client.upload(tmp_path / "up.txt")
        assert (attachment.filename, attachment.byte_size) == ("up.txt", len(body))
        assert await client.download(attachment.id, tmp_path / "down.txt") == attachment
        assert (tmp_path / "down.txt").read_bytes() == body
        assert await client.get_attachment(attachment.id) == attachment


@ANY
async def test_a_file_that_is_refused_in_the_middle_tells_why(
    colloquy: Colloquy, alice: Caller, tmp_path: Path
) -> None:
    await colloquy.restart(max_attachment_bytes=1_000_000)
    with (tmp_path / "large.txt").open("wb") as file:
        for _ in range(64):
            file.write(b"a line of text\n" * 20_000)
    async with AsyncConversationClient(address(colloquy), alice.key) as client:
        for _ in range(5):
            with pytest.raises(InvalidArgument) as refused:
                await client.upload(tmp_path / "large.txt")
            assert refused.value.reason == "ATTACHMENT_TOO_LARGE"


@ANY
async def test_the_sync_client_over_a_wire_that_is_cut(colloquy: Colloquy, alice: Caller) -> None:
    conversation = await alice.create(title="Cut")
    colloquy.provider.script(Answer(tokens=60, rate=200))
    async with Wire(address(colloquy)) as wire:
        loop = asyncio.get_running_loop()

        def talk() -> list[ConversationEvent]:
            events = []
            with ConversationClient(wire.address, alice.key, timing=HASTY) as client:
                for event in client.send(conversation.id, "Hello"):
                    events.append(event)
                    if len(events) % 3 == 0 and wire.cuts < 5:
                        loop.call_soon_threadsafe(wire.cut)
            return events

        check(await asyncio.to_thread(talk), colloquy.provider.reply_requests[0].text)
        assert wire.cuts


@ANY
async def test_the_readmes_program_prints_the_whole_reply(
    colloquy: Colloquy,
    alice: Caller,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CONVERSATION_ADDRESS", address(colloquy))
    monkeypatch.setenv("CONVERSATION_API_KEY", alice.key)
    printed = io.StringIO()
    program = {"print": functools.partial(print, file=printed)}
    await asyncio.to_thread(exec, block("python"), program)
    assert printed.getvalue() == colloquy.provider.reply_requests[0].text


@ANY
async def test_the_readmes_commands_make_a_key_that_works(
    colloquy: Colloquy, tmp_path: Path
) -> None:
    script = f'set -e; colloquy() {{ "$PYTHON" -m colloquy "$@"; }}\n{commands("create-account")}'
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", script),
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "PYTHON": sys.executable,
            "CONVERSATION_ADDRESS": address(colloquy),
            "ADMIN_API_KEY": ADMIN_KEY,
        },
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    async with AsyncConversationClient(address(colloquy), output.decode().strip()) as client:
        conversation = await client.create_conversation()
        assert conversation.creator.external_id == "mia"


@ANY
async def test_whoever_breaks_off_leaves_no_call_behind(colloquy: Colloquy, alice: Caller) -> None:
    async with AsyncConversationClient(address(colloquy), alice.key) as client:
        conversation = await client.create_conversation()
        async for _ in client.watch(conversation.id):
            break
        await settle(lambda: not colloquy.app.feeds._feeds)
