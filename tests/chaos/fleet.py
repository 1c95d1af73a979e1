"""The processes of a run: a Postgres of its own or a SQLite file, the provider's double, and the
replicas."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import signal
import sqlite3
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import grpc
import psycopg
from colloquy.api import admin_service_pb2 as admin_api
from colloquy.api import conversation_service_pb2 as api
from colloquy.api import conversation_service_pb2_grpc as api_grpc
from colloquy.api import resources_pb2 as resources
from colloquy_server.database import migrate

from tests.harness import ADMIN_KEY, MODELS, Caller, Colloquy, ServerProcess
from tests.postgres import Cluster, free_port

LEASE_TTL = 3.0
"""Seconds; short, so that a stop outlasts it."""

GRACE = 1.0
"""Seconds that a drain leaves to live replies: too few for most, so that they are released."""

START_PATIENCE = 60.0
"""Seconds for a process to start or to end, also on a machine that has much else to do."""

_NAME = re.compile(r"(c\d+-\d+): \[\[")

_CHANNEL = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.max_receive_message_length", 16 << 20),
    ("grpc.enable_http_proxy", 0),
]


def prompt_name(text: str) -> str:
    """The name of the talker's prompt with this text; empty for what no talker said."""
    found = _NAME.match(text)
    return found[1] if found else ""


def last_said(line: dict[str, Any]) -> Any:
    """The last that people said in a request of the provider's log."""
    return [m["content"] for m in line["body"]["messages"] if m["role"] == "user"][-1]


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

    def __init__(
        self,
        folder: Path,
        replicas: int,
        *,
        on_sqlite: bool = False,
        run: Callable[[], int] | None = None,
        **environment: str,
    ) -> None:
        """Its database is a Postgres of its own, or a SQLite file in the folder. `run` and
        `environment` are for each server, as ServerProcess has them."""
        self.folder = folder
        self._on_sqlite = on_sqlite
        self._run = run
        self._environment = environment
        self._cluster: Cluster | None = None
        self._double: asyncio.subprocess.Process | None = None
        # Not started: it holds what a server process has to know.
        self._home = Colloquy(folder, environment.get("DATABASE_URL", ""))
        self._size = replicas
        self.replicas: list[Replica] = []
        self.account_id = ""
        self.key = ""
        self._log_read = 0
        self._names: dict[int, str] = {}
        self._asked: dict[str, list[dict[str, Any]]] = defaultdict(list)

    @property
    def database_url(self) -> str:
        return self._home.database_url

    @property
    def addresses(self) -> list[str]:
        return [replica.process.address for replica in self.replicas]

    async def __aenter__(self) -> Self:
        try:
            if not self._on_sqlite:
                self._cluster = await asyncio.to_thread(Cluster)
                await asyncio.to_thread(self._cluster.start)
                self._home.database_url = self._cluster.url
                await asyncio.to_thread(migrate.upgrade, self.database_url)
            base_url = await self._start_double()
            self._home.models_file.write_text(MODELS.format(base_url=base_url))
            self.replicas = [
                Replica(number, self._process("", *(f"127.0.0.1:{free_port()}" for _ in "gh")))
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
        return self.folder / "provider.jsonl"

    def asks(self) -> list[dict[str, Any]]:
        """The provider's own log."""
        return [json.loads(line) for line in self.provider_log.read_text().splitlines()]

    def asks_about(self, names: Collection[str]) -> list[dict[str, Any]]:
        """The lines of that log about the prompts of these names, once: a long run's log is read
        as it grows, and what was asked for is not kept."""
        with self.provider_log.open("rb") as log:
            log.seek(self._log_read)
            for raw in log:
                if not raw.endswith(b"\n"):
                    break
                self._log_read += len(raw)
                self._note(json.loads(raw))
        return [line for name in names for line in self._asked.pop(name, [])]

    def _note(self, line: dict[str, Any]) -> None:
        if line["event"] == "arrived":
            if line["title"] or not (name := prompt_name(last_said(line))):
                return
            self._names[line["serial"]] = name
        elif not (name := self._names.pop(line["serial"], "")):
            return
        self._asked[name].append(line)

    async def _make_key(self) -> str:
        channel = self.replicas[0].channel
        assert channel is not None
        admin = Caller(channel, ADMIN_KEY)
        account = await admin.admin.CreateAccount(
            admin_api.CreateAccountRequest(name="chaos"), metadata=admin.metadata
        )
        self.account_id = account.account.id
        made = await admin.admin.CreateApiKey(
            admin_api.CreateApiKeyRequest(
                account_id=self.account_id, name="chaos", role=admin_api.ApiKey.ROLE_SERVICE
            ),
            metadata=admin.metadata,
        )
        return made.secret

    # --- replicas ---------------------------------------------------------------------------

    def _process(self, key: str, address: str, http_address: str) -> ServerProcess:
        environment = {
            "DOUBLE_KEY": key,
            "LEASE_TTL": str(LEASE_TTL),
            "SHUTDOWN_GRACE": str(GRACE),
            "HEARTBEAT_INTERVAL": "1",
            "RETRY_BASE": "0.1",
            **self._environment,
        }
        process = ServerProcess(self._home, workers=1, run=self._run, **environment)
        process.address, process.http_address = address, http_address
        return process

    async def start(self, replica: Replica) -> None:
        """Starts a replica, on the port that it had; again and again while it cannot start, as
        whatever keeps servers running does."""
        deadline = time.monotonic() + START_PATIENCE
        while True:
            replica.lines += replica.process.lines
            replica.generation += 1
            before = replica.process
            replica.process = self._process(replica.key, before.address, before.http_address)
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

    async def history(self, conversation_id: str) -> list[resources.Message]:
        """All messages of a conversation, as any replica tells them."""
        found: list[resources.Message] = []
        token = ""
        while True:
            channel = random.choice(self.replicas).channel
            assert channel is not None
            page = await api_grpc.ConversationServiceStub(channel).ListMessages(
                api.ListMessagesRequest(
                    conversation_id=conversation_id, page_size=200, page_token=token
                ),
                metadata=(("authorization", f"Bearer {self.key}"),),
                timeout=30,
            )
            found += page.messages
            token = page.next_page_token
            if not token:
                return found

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
        if self._on_sqlite:
            return await asyncio.to_thread(self._query_file, sql)
        connection = await psycopg.AsyncConnection.connect(
            self.database_url, autocommit=True, row_factory=psycopg.rows.dict_row
        )
        async with connection:
            return await (await connection.execute(sql.encode(), values)).fetchall()

    def _query_file(self, sql: str) -> list[dict[str, Any]]:
        file = self.database_url.removeprefix("sqlite:///")
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(sql)]

    async def tables(self) -> list[str]:
        """The names of all tables of the server."""
        catalogue = (
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
            " AND name NOT LIKE 'search_words%'"
            if self._on_sqlite
            else "SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public'"
        )
        return sorted(row["name"] for row in await self.query(catalogue))

    async def database_bytes(self) -> int:
        """What the database takes, with what is not in its main file yet."""
        if self._on_sqlite:
            file = Path(self.database_url.removeprefix("sqlite:///"))
            parts = (file, file.with_name(f"{file.name}-wal"))
            return sum(part.stat().st_size for part in parts if part.exists())
        rows = await self.query("SELECT pg_database_size(current_database()) AS bytes")
        return int(rows[0]["bytes"])
