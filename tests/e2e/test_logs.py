"""Logs, spans and reports of real processes: nobody has to read them, and nothing that people said
is in them, whatever fails."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import functools
import gzip
import json
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from aiohttp import web
from colloquy.api import conversation_service_pb2 as api
from colloquy.api import resources_pb2 as resources
from colloquy_server import process as server
from colloquy_slack.process import run_bot

from tests.fakes.provider import Answer
from tests.forked import Forked
from tests.harness import ADMIN_KEY, Caller, Colloquy, ServerProcess, settle
from tests.slack_harness import SlackStage

pytestmark = pytest.mark.timeout(540)

SAID = "Marked-words-of-a-person"
"""What is said to the server and by the provider."""

BREAK = "CREATE TRIGGER broken BEFORE {} BEGIN SELECT RAISE(ABORT, 'row with " + SAID + "'); END"


@pytest.fixture
async def colloquy(tmp_path: Path) -> AsyncIterator[Colloquy]:
    async with Colloquy(tmp_path) as running:
        yield running


async def test_a_server_whose_log_nobody_reads_serves_and_stops(colloquy: Colloquy) -> None:
    alice = await colloquy.account()
    await colloquy.stop()
    reading, writing = os.pipe()
    if sys.platform == "linux":  # elsewhere pipes are small enough
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    process = await Forked.start(
        functools.partial(server.run_server, workers=1),
        environment={
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "DATABASE_URL": colloquy.database_url,
            "AI_MODELS_FILE": str(colloquy.models_file),
            "STORAGE_URL": f"file://{colloquy.folder}/files",
            "GRPC_ADDRESS": "127.0.0.1:0",
            "ADMIN_API_KEY": ADMIN_KEY,
            "DOUBLE_KEY": "the-key-of-the-double",
            "LOG_FORMAT": "json",
            "MAX_REQUESTS_PER_SECOND": "1000000",
        },
        folder=colloquy.folder,
        output=writing,
    )
    os.close(writing)
    try:
        address = ""
        while not address:
            lines = (await asyncio.to_thread(os.read, reading, 4096)).decode().splitlines()
            entries = [json.loads(line) for line in lines]
            address = "".join(e["address"] for e in entries if e["event"] == "serving")
        caller = Caller(colloquy.channel_to(address), alice.key)
        for _ in range(400):  # of 200 bytes each at least
            await caller.call("ListModels", api.ListModelsRequest())
        reply = await caller.send((await caller.create()).id).reply()
        assert reply.state == resources.Message.STATE_COMPLETED
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    finally:
        process.send_signal(signal.SIGKILL)
        os.close(reading)
    await colloquy.start()


class Sink:
    """Takes what a server tells of itself: Sentry's reports over HTTP, OpenTelemetry's by gRPC."""

    def __init__(self) -> None:
        self.reports: list[bytes] = []
        self.spans: list[bytes] = []

    async def __aenter__(self) -> Sink:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._take_report)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.dsn = f"http://key@127.0.0.1:{self._runner.addresses[0][1]}/1"
        self._server = grpc.aio.server()
        self._server.add_generic_rpc_handlers((_Exports(self.spans),))
        self.otlp = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(None)
        await self._runner.cleanup()

    async def _take_report(self, request: web.Request) -> web.Response:
        data = await request.read()
        with contextlib.suppress(OSError):
            data = gzip.decompress(data)
        self.reports.append(data)
        return web.json_response({"id": "0" * 32})


class _Exports(grpc.GenericRpcHandler):
    def __init__(self, taken: list[bytes]) -> None:
        self._taken = taken

    def service(self, _details: Any) -> Any:
        async def take(request: bytes, _context: Any) -> bytes:
            self._taken.append(request)
            return b""

        return grpc.unary_unary_rpc_method_handler(take)


async def refused(call: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    code: grpc.StatusCode = caught.value.code()
    return code


async def test_no_words_and_no_keys_are_in_what_a_server_tells_of_its_failures(
    colloquy: Colloquy,
) -> None:
    alice = await colloquy.account()
    await colloquy.stop()
    broken = {"message": f"bad: {SAID}", "code": SAID, "type": SAID, "param": SAID}
    async with Sink() as sink:
        process = ServerProcess(
            colloquy,
            SENTRY_DSN=sink.dsn,
            OTEL_EXPORTER_OTLP_ENDPOINT=sink.otlp,
            PROVIDER_ATTEMPTS="2",
            RETRY_BASE="0.01",
        )
        caller = alice.on(await process.start())
        conversation = await caller.create(title=SAID)
        # Of a provider: refusals, failures halfway, what is no answer at all.
        for answer in (
            Answer(status=400, body={"error": broken}),
            Answer(status=503, body=f"<html>{SAID}</html>".encode()),
            Answer(error_after=1, error=broken),
            Answer(raw=[f"data: {{{SAID}\n\n".encode()]),
            Answer(drop_after=2, pieces=[SAID] * 4),
        ):
            colloquy.provider.script(answer, answer)
            await caller.send(conversation.id, SAID).reply()
        # Of the database: whatever is written breaks, with the rows in the error.
        with sqlite3.connect(colloquy.folder / "conversations.db") as database:
            database.execute(BREAK.format("INSERT ON messages"))
        code = await refused(caller.send(conversation.id, SAID).reply())
        assert code == grpc.StatusCode.INTERNAL
        with sqlite3.connect(colloquy.folder / "conversations.db") as database:
            database.execute("DROP TRIGGER broken")
            database.execute(BREAK.format("UPDATE ON messages"))
        stream = caller.send(conversation.id, SAID)
        await stream.accepted()
        await process.logged("reply not stored")
        stream.cancel()
        with sqlite3.connect(colloquy.folder / "conversations.db") as database:
            database.execute("DROP TRIGGER broken")
        # Of callers: a key that is none, a text that is too long.
        stranger = Caller(caller.channel, f"colloquy_{SAID}")
        assert await refused(stranger.create()) == grpc.StatusCode.UNAUTHENTICATED
        await refused(caller.create(title=SAID * 1_000))
        await process.logged("call failed")
        assert await process.end(signal.SIGTERM) == 0
        await settle(lambda: sink.reports and sink.spans)
    told = [*(line.encode() for line in process.lines), *sink.reports, *sink.spans]
    for secret in (SAID, alice.key, ADMIN_KEY, "the-key-of-the-double"):
        found = [one for one in told if secret.encode() in one]
        assert not found, found[0].decode(errors="replace")
    assert b"IntegrityError" in b"".join(sink.reports)
    assert b"SendMessage" in b"".join(sink.spans)
    assert all(line.startswith("{") for line in process.lines)
    await colloquy.start()


class QuietStage(SlackStage):
    is_started_at_once = False


async def test_no_words_and_no_tokens_are_in_what_the_bot_logs_and_it_logs_json(
    colloquy: Colloquy,
) -> None:
    async with QuietStage(colloquy) as stage:
        log = colloquy.folder / "bot.log"
        settings = {
            name.upper(): str(value)
            for name, value in stage.settings().model_dump().items()
            if value is not None
        }
        with log.open("wb") as output:
            bot = await Forked.start(
                run_bot,
                environment={"PATH": os.environ["PATH"], **settings, "LOG_FORMAT": "json"},
                folder=colloquy.folder,
                output=output.fileno(),
            )
        await settle(lambda: '"connected"' in log.read_text(), 60)
        colloquy.provider.script(
            Answer(status=400, body={"error": {"message": SAID}}), Answer(pieces=[SAID])
        )
        for _ in range(2):
            asked = stage.alice.post(stage.general, SAID, mention=True)
            await stage.answered(stage.general, asked.ts)
        file = colloquy.folder / "slack.db"
        with sqlite3.connect(file) as database:
            database.execute(BREAK.format("INSERT ON slack_requests"))
        stage.alice.post(stage.general, SAID, mention=True)
        await settle(lambda: "IntegrityError" in log.read_text(), 60)
        bot.send_signal(signal.SIGHUP)
        assert await bot.wait() == 0
        told = log.read_text()
        secrets = (stage.slack.bot_token, stage.slack.app.app_token, stage.caller.key)
    for secret in (SAID, *secrets):
        assert secret not in told
    events = [json.loads(line)["event"] for line in told.splitlines()]
    assert "stopping" in events
