"""The processes of a run: a Postgres of its own, the provider's double, and the replicas."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import grpc
import psycopg
from colloquy.api import admin_service_pb2 as admin_api
from colloquy_server.database import migrate

from tests.harness import ADMIN_KEY, MODELS, Caller, Colloquy, ServerProcess
from tests.postgres import Cluster, free_port

LEASE_TTL = 3.0
"""Seconds; short, so that a stop outlasts it."""

GRACE = 1.0
"""Seconds that a drain leaves to live replies: too few for most, so that they are released."""

START_PATIENCE = 60.0
"""Seconds for a process to start or to end, also on a machine that has much else to do."""

_CHANNEL = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.max_receive_message_length", 16 << 20),
    ("grpc.enable_http_proxy", 0),
]


@dataclass
class Replica:
    """One of the servers: a process, and the ones before it on the same port."""

    number: int
    process: ServerProcess
    channel: grpc.aio.Channel | None = None
    generation: int = 0
    is_up: bool = False
    """Whether it runs and was not told to end; not while it is stopped."""
    lines: list[str] = field(default_factory=list)
    """What the processes before this one said."""

    @property
    def key(self) -> str:
        """The provider's key of this process, which tells it apart in the provider's log."""
        return f"replica-{self.number}-{self.generation}"

    @property
    def log(self) -> list[str]:
        """All lines that its processes said."""
        return [*self.lines, *self.process.lines]


class Fleet:
    """Starts everything, and leaves nothing behind."""

    def __init__(self, folder: Path, replicas: int) -> None:
        self._folder = folder
        self._cluster: Cluster | None = None
        self._double: asyncio.subprocess.Process | None = None
        # Not started: it holds what a server process has to know.
        self._home = Colloquy(folder)
        self._size = replicas
        self.replicas: list[Replica] = []
        self.key = ""

    @property
    def database_url(self) -> str:
        return self._home.database_url

    @property
    def addresses(self) -> list[str]:
        return [replica.process.address for replica in self.replicas]

    async def __aenter__(self) -> Self:
        try:
            self._cluster = await asyncio.to_thread(Cluster)
            await asyncio.to_thread(self._cluster.start)
            self._home.database_url = self._cluster.url
            await asyncio.to_thread(migrate.upgrade, self.database_url)
            base_url = await self._start_double()
            self._home.models_file.write_text(MODELS.format(base_url=base_url))
            self.replicas = [
                Replica(number, self._process("", f"127.0.0.1:{free_port()}"))
                for number in range(self._size)
            ]
            await asyncio.gather(*(self.start(replica) for replica in self.replicas))
            self.key = await self._make_key()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends all processes and deletes the database."""
        for replica in self.replicas:
            if replica.channel is not None:
                await replica.channel.close()
            if replica.generation:
                with contextlib.suppress(ProcessLookupError):
                    await replica.process.end(signal.SIGKILL)
        self.replicas = []
        if self._double is not None and self._double.returncode is None:
            self._double.kill()
            await self._double.wait()
            self._double._transport.close()  # type: ignore[attr-defined]
        if self._cluster is not None:
            with contextlib.suppress(AssertionError):  # it is not running
                await asyncio.to_thread(self._cluster.stop, "immediate")
            self._cluster.remove()

    async def _start_double(self) -> str:
        self.provider_log.unlink(missing_ok=True)  # of an earlier run in the same folder
        self._double = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.fakes.provider", "--log", str(self.provider_log)),
            *("--title-model", "title-model"),
            stdout=asyncio.subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        assert self._double.stdout is not None
        async with asyncio.timeout(START_PATIENCE):
            line = await self._double.stdout.readline()
        assert line, "the provider's double did not start"
        return line.decode().strip()

    @property
    def provider_log(self) -> Path:
        return self._folder / "provider.jsonl"

    def asks(self) -> list[dict[str, Any]]:
        """The provider's own log."""
        return [json.loads(line) for line in self.provider_log.read_text().splitlines()]

    async def _make_key(self) -> str:
        channel = self.replicas[0].channel
        assert channel is not None
        admin = Caller(channel, ADMIN_KEY)
        account = await admin.admin.CreateAccount(
            admin_api.CreateAccountRequest(name="chaos"), metadata=admin.metadata
        )
        made = await admin.admin.CreateApiKey(
            admin_api.CreateApiKeyRequest(
                account_id=account.account.id, name="chaos", role=admin_api.ApiKey.ROLE_SERVICE
            ),
            metadata=admin.metadata,
        )
        return made.secret

    # --- replicas ---------------------------------------------------------------------------

    def _process(self, key: str, address: str) -> ServerProcess:
        process = ServerProcess(
            self._home,
            DOUBLE_KEY=key,
            LEASE_TTL=str(LEASE_TTL),
            SHUTDOWN_GRACE=str(GRACE),
            HEARTBEAT_INTERVAL="1",
            RETRY_BASE="0.1",
        )
        process.address = address
        return process

    async def start(self, replica: Replica) -> None:
        """Starts a replica, on the port that it had; again and again while it cannot start, as
        whatever keeps servers running does."""
        deadline = time.monotonic() + START_PATIENCE
        while True:
            replica.lines += replica.process.lines
            replica.generation += 1
            replica.process = self._process(replica.key, replica.process.address)
            try:
                async with asyncio.timeout(START_PATIENCE):
                    await replica.process.start()
                break
            except AssertionError:
                await replica.process.end(signal.SIGKILL)
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.2)
        if replica.channel is None:
            replica.channel = grpc.aio.insecure_channel(replica.process.address, _CHANNEL)
        replica.is_up = True

    async def end(self, replica: Replica, number: signal.Signals) -> int:
        """Ends a replica; returns its exit code."""
        replica.is_up = False
        async with asyncio.timeout(START_PATIENCE):
            return await replica.process.end(number)

    def log_lines(self) -> list[str]:
        """What all servers said."""
        return [line for replica in self.replicas for line in replica.log]

    # --- Postgres ---------------------------------------------------------------------------

    async def restart_postgres(self, mode: str, pause: float) -> None:
        """Restarts Postgres; it is away for `pause` seconds and a little more."""
        assert self._cluster is not None
        await asyncio.to_thread(self._cluster.stop, mode)
        await asyncio.sleep(pause)
        await asyncio.to_thread(self._cluster.start)

    async def cut_the_bus(self, share: float) -> int:
        """Ends this share of the connections that notify and listen; says how many."""
        rows = await self.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'colloquy-bus' AND random() < %s",
            share,
        )
        return len(rows)

    async def query(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        """Rows of the database. Raises psycopg.OperationalError while it is away."""
        connection = await psycopg.AsyncConnection.connect(
            self.database_url, autocommit=True, row_factory=psycopg.rows.dict_row
        )
        async with connection:
            return await (await connection.execute(sql.encode(), values)).fetchall()
