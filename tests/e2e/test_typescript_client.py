"""The TypeScript library against real servers that fail in every way: each piece comes once."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from colloquy.api import conversation_service_pb2 as api
from colloquy.api.attachment_service_pb2 import GetAttachmentRequest

from tests.fakes.provider import Answer
from tests.harness import Caller, Colloquy, ServerProcess
from tests.typescript import NODE, PACKAGE, Talk

# Each starts Node, some a server twice.
pytestmark = pytest.mark.timeout(540)

# Code points of one, two, three and four bytes, the last of two UTF-16 units.
PIECES = [f"{number} é€🙂 " for number in range(60)]
WHOLE = "".join(PIECES)


class Network:
    """The way to a server, which can be cut: who is connected is thrown out, nobody gets in."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._passing: set[asyncio.Task[None]] = set()
        self.port = 0

    async def up(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._open:
            writer.transport.abort()
        await asyncio.gather(*self._passing, return_exceptions=True)
        self._open.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._to)
        self._open |= {writer, back}
        for source, target in ((reader, back), (there, writer)):
            task = asyncio.create_task(self._pass(source, target))
            self._passing.add(task)
            task.add_done_callback(self._passing.discard)

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(1 << 16):
                target.write(data)
                await target.drain()
        except OSError:
            pass
        target.close()


@pytest.fixture
async def server(home: Colloquy) -> AsyncIterator[ServerProcess]:
    process = ServerProcess(home)
    home.channel = home.far = await process.start()
    yield process
    await process.end()


@pytest.fixture
async def alice(home: Colloquy, server: ServerProcess) -> Caller:
    return await home.account("alice")


@pytest.fixture
def at(server: ServerProcess, alice: Caller) -> dict[str, Any]:
    """How a client reaches the server."""
    return {"baseUrl": f"http://{server.http_address}", "apiKey": alice.key}


def check(said: dict[str, Any], text: str) -> None:
    """One question was asked; the two rules and the joined deltas both give the whole reply."""
    prompt, reply = said["messages"]
    assert (prompt["role"], reply["role"]) == ("ROLE_USER", "ROLE_ASSISTANT")
    assert reply["state"] == "STATE_COMPLETED"
    assert reply["text"] == reply["content"] == reply["joined"] == text
    assert reply["length"] == len(text)


async def test_a_reply_is_followed(home: Colloquy, alice: Caller, at: dict[str, Any]) -> None:
    home.provider.script(Answer(pieces=PIECES, packet_size=7))
    conversation = await alice.create()
    async with Talk(do="send", conversationId=conversation.id, content="Hello", **at) as talk:
        check(await talk.result(), WHOLE)
    assert "accepted" in talk.lines[0]["event"]


async def test_the_server_is_killed_in_mid_reply(
    home: Colloquy, server: ServerProcess, alice: Caller, at: dict[str, Any]
) -> None:
    gate = asyncio.Event()
    home.provider.script(Answer(pieces=PIECES, gate_after=30, gate=gate), Answer(pieces=PIECES))
    conversation = await alice.create()
    watch = Talk(do="watch", conversationId=conversation.id, replies=1, **at)
    send = Talk(do="send", conversationId=conversation.id, content="Hello", **at)
    async with watch:
        await watch.until("conversation")
        async with send:
            await send.until("delta")
            await watch.until("delta")
            await server.end(signal.SIGKILL)
            await server.start()
            check(await send.result(), WHOLE)
        check(await watch.result(), WHOLE)
    gate.set()
    accepted = [line for line in send.lines if "accepted" in line.get("event", {})]
    assert len(accepted) == 1


async def test_the_network_goes_and_comes(
    home: Colloquy, server: ServerProcess, alice: Caller
) -> None:
    network = Network(int(server.http_address.rpartition(":")[2]))
    await network.up()
    at = {"baseUrl": f"http://127.0.0.1:{network.port}", "apiKey": alice.key}
    gate = asyncio.Event()
    home.provider.script(Answer(pieces=PIECES, gate_after=30, gate=gate))
    conversation = await alice.create()
    async with Talk(do="send", conversationId=conversation.id, content="Hello", **at) as talk:
        await talk.until("delta")
        await network.cut()
        gate.set()  # what comes now nobody hears
        await home.provider.requests[0].ended()
        await network.up()
        check(await talk.result(), WHOLE)
    await network.cut()


async def test_a_question_survives_a_network_that_goes_before_the_answer(
    home: Colloquy, server: ServerProcess, alice: Caller
) -> None:
    network = Network(int(server.http_address.rpartition(":")[2]))
    await network.up()
    at = {"baseUrl": f"http://127.0.0.1:{network.port}", "apiKey": alice.key}
    await network.cut()
    home.provider.script(Answer(pieces=PIECES))
    conversation = await alice.create()
    async with Talk(do="send", conversationId=conversation.id, content="Hello", **at) as talk:
        await network.up()
        check(await talk.result(), WHOLE)
    assert len(await alice.history(conversation.id)) == 2
    await network.cut()


async def test_a_request_that_is_repeated_is_said_once(
    home: Colloquy, alice: Caller, at: dict[str, Any]
) -> None:
    home.provider.script(Answer(pieces=PIECES))
    conversation = await alice.create()
    task = {"do": "send", "conversationId": conversation.id, "content": "Hello", **at}
    async with Talk(requestId="once", **task) as first, Talk(requestId="once", **task) as second:
        check(await first.result(), WHOLE)
        check(await second.result(), WHOLE)
    assert len(await alice.history(conversation.id)) == 2


async def test_a_provider_that_breaks_is_asked_again(
    home: Colloquy, alice: Caller, at: dict[str, Any]
) -> None:
    home.provider.script(Answer(pieces=PIECES, drop_after=10), Answer(pieces=PIECES))
    conversation = await alice.create()
    async with Talk(do="send", conversationId=conversation.id, content="Hello", **at) as talk:
        check(await talk.result(), WHOLE)


async def test_a_reply_that_fails_says_why(
    home: Colloquy, alice: Caller, at: dict[str, Any]
) -> None:
    home.provider.script(Answer(status=400))
    conversation = await alice.create()
    async with Talk(do="send", conversationId=conversation.id, content="Hello", **at) as talk:
        reply = (await talk.result())["messages"][1]
    assert reply["state"] == "STATE_FAILED"
    assert reply["error"]["reason"].startswith("ERROR_REASON_")


async def test_a_conversation_that_is_deleted_meanwhile(
    server: ServerProcess, alice: Caller, at: dict[str, Any]
) -> None:
    conversation = await alice.create()
    watch = Talk(do="watch", conversationId=conversation.id, replies=1, **at)
    async with watch:
        await watch.until("conversation")
        await alice.call(
            "DeleteConversation", api.DeleteConversationRequest(conversation_id=conversation.id)
        )
        assert (await watch.result())["deleted"]


async def test_errors_are_told(alice: Caller, at: dict[str, Any]) -> None:
    async with Talk(do="send", conversationId="nonsense", content="", **at) as talk:
        error = (await talk.result())["error"]
    assert error["code"] == 3
    assert error["reason"] == "INVALID_FIELD"
    assert set(error["fields"]) == {"conversation_id", "content"}
    async with Talk(do="listModels", **{**at, "apiKey": "nobody's"}) as talk:
        error = (await talk.result())["error"]
    assert error["code"] == 16
    assert error["message"]
    async with Talk(do="listModels", **at) as talk:
        assert "test-model" in (await talk.result())["models"]


async def test_a_file_is_uploaded(alice: Caller, at: dict[str, Any]) -> None:
    async with Talk(do="uploadFile", content="Hello " * 10_000, **at) as talk:
        said = await talk.result()
    uploaded = said["attachment"]
    assert uploaded["filename"] == "Grüße & more.txt"
    assert uploaded["byteSize"] == "60000"
    assert said["steps"][-1] == 60_000
    stored = await alice.attachments.GetAttachment(
        GetAttachmentRequest(attachment_id=uploaded["id"]), metadata=alice.metadata
    )
    assert stored.attachment.sha256 == uploaded["sha256"]
    async with Talk(do="uploadFile", content="", **at) as talk:
        error = (await talk.result())["error"]
    assert (error["code"], error["reason"]) == (3, "INVALID_FIELD")
    assert error["fields"]


async def test_the_list_is_true_after_a_restart(
    server: ServerProcess, alice: Caller, at: dict[str, Any]
) -> None:
    first = await alice.create(title="First")
    async with Talk(do="watchConversations", **at) as talk:
        heard = await talk.until("conversation")
        assert heard["event"]["conversation"]["id"] == first.id
        second = await alice.create(title="Second")
        await talk.until(lambda line: line["event"]["conversation"]["id"] == second.id)
        await server.end(signal.SIGKILL)
        channel = await server.start()
        third = await alice.on(channel).create(title="Third")
        await talk.until(lambda line: line["event"].get("conversation", {}).get("id") == third.id)


async def test_the_example_of_the_readme(
    home: Colloquy, alice: Caller, at: dict[str, Any], tmp_path: Path
) -> None:
    home.provider.script(Answer(pieces=PIECES))
    [code] = re.findall(r"```ts\n(.*?)```", (PACKAGE / "README.md").read_text(), re.DOTALL)
    process = await asyncio.create_subprocess_exec(
        NODE,
        "--conditions=colloquy-source",
        "--input-type=module-typescript",
        "-",
        cwd=PACKAGE,
        env={"COLLOQUY_URL": at["baseUrl"], "COLLOQUY_API_KEY": at["apiKey"]},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate(code.encode())
    assert process.returncode == 0
    assert said.decode() == f"{WHOLE}\n"
