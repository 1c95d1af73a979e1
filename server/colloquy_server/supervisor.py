"""Several workers on one port, and the process that starts them and keeps them running.

Each worker is a process and a replica like any other, which shares nothing with its siblings but
the port: the kernel gives each connection to one of them. A worker holds one end of a pair of
sockets: over it the supervisor asks it to stop, and its closing tells that the supervisor is no
more.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack

import structlog
from colloquy.operations.metrics import host_and_port

from colloquy_server.api.identity_rules import IdentityRules
from colloquy_server.database.engine import open_database
from colloquy_server.development import ensure_development_key, log_link, make_link
from colloquy_server.errors import ColloquyError
from colloquy_server.providers.catalog import Catalog
from colloquy_server.serving import (
    is_callable,
    listen_for_signals,
    log_confinement,
    log_serving,
)
from colloquy_server.settings import Settings
from colloquy_server.shared_port import HTTP_REMEDY, SharedPort

log = structlog.get_logger()

SERVING = "serving"
"""What a worker says when it serves; any other line is why it cannot."""

_MAX_PORT = 65_535

_FIRST_DELAY = 0.5
"""Seconds until a worker that ended is started again; twice as long each time that it ends soon."""

_MAX_DELAY = 30.0

_STEADY = 60.0
"""Seconds from a start after which a worker's end is not soon."""


class WorkerFailed(ColloquyError):
    """A worker did not start, or did not end well."""


def check_workers(settings: Settings, count: int) -> None:
    """Raises ColloquyError when so many workers cannot share this database, or lack ports."""
    if count < 1:
        raise ColloquyError(f"--workers {count}: there has to be at least one")
    if count > 1 and settings.database_url.startswith("sqlite:"):
        raise ColloquyError(
            f"--workers {count} needs Postgres: set DATABASE_URL to postgresql://…, or leave"
            " --workers out to serve from SQLite with one process"
        )
    if count > 1 and (settings.event_bus_url or "").startswith("memory:"):
        raise ColloquyError(
            f"--workers {count} cannot share EVENT_BUS_URL=memory://, which ends at one process:"
            " leave it out, or set it to postgresql://…"
        )
    metrics_port = host_and_port(settings.prometheus_address or ":0")[1]
    if metrics_port + count - 1 > _MAX_PORT:
        raise ColloquyError(
            f"--workers {count} needs a port for each, from PROMETHEUS_ADDRESS on: there are not so"
            f" many after {metrics_port}"
        )


async def supervise(settings: Settings, count: int, *, is_development: bool) -> None:
    """Keeps workers serving until SIGTERM, SIGINT or SIGHUP, which all get; a second one hurries.

    Raises OSError when the port is not free, CatalogError when the models file cannot be used,
    SettingsError for OIDC_RULES that cannot, and WorkerFailed when a worker cannot start at first
    or does not end cleanly at last.
    """
    catalog = Catalog.load(settings.models_file, settings.environ.get)
    if settings.oidc_rules:
        IdentityRules.load(settings.oidc_rules)
    with ExitStack() as held:
        port = SharedPort(settings.grpc_address)
        held.callback(port.close)
        http_address, page = settings.http_address, settings.page_url()
        if settings.serves_http:
            http_port = SharedPort(http_address, HTTP_REMEDY)
            held.callback(http_port.close)
            http_address = http_port.address
            page = settings.page_url(int(http_address.rpartition(":")[2]))
        addresses = {"GRPC_ADDRESS": port.address, "HTTP_ADDRESS": http_address}
        has_keys, link = await _prepare_keys(settings, page, is_development=is_development)
        supervisor = _Supervisor(settings, count, addresses, held.close)
        await supervisor.run(catalog, has_keys=has_keys, link=link)


async def _prepare_keys(settings: Settings, page: str, *, is_development: bool) -> tuple[bool, str]:
    """Makes the key for development, if so; returns whether there is any, and a link that signs in
    at a page."""
    database = open_database(settings.database_url, settings.database_pool_size)
    try:
        link = ""
        if is_development:
            key = await ensure_development_key(database)
            link = await make_link(database, key, page) if page else ""
        return await is_callable(settings, database), link
    finally:
        await database.close()


class _Supervisor:
    """The workers of a server, by their numbers."""

    def __init__(
        self,
        settings: Settings,
        count: int,
        addresses: Mapping[str, str],
        release_ports: Callable[[], None],
    ) -> None:
        # What `.env` holds now goes to all, also to those that are started again later.
        self._environment = {**settings.environ, **addresses}
        self._addresses = addresses
        self._release_ports = release_ports
        self._numbers = range(1, count + 1)
        self._workers: dict[int, _Worker] = {}
        self._stopping = asyncio.Event()
        self._requests = 0
        """How often it was asked to stop."""

    async def run(self, catalog: Catalog, *, has_keys: bool, link: str) -> None:
        """Starts the workers and keeps them running until they are told to stop and have.
        `link` is one that signs a browser in, if there is any."""
        listen_for_signals(self._stop)
        try:
            for number in self._numbers:
                await self._start(number)
            await asyncio.gather(*(worker.serves() for worker in self._workers.values()))
            await log_confinement()
            log_serving(
                self._addresses["GRPC_ADDRESS"],
                self._addresses["HTTP_ADDRESS"],
                catalog,
                has_keys=has_keys,
            )
            if link:
                log_link(link)
            codes = await asyncio.gather(*(self._keep(number) for number in self._numbers))
        except BaseException:
            self._stop()
            await asyncio.gather(*(worker.wait() for worker in self._workers.values()))
            raise
        for number, code in zip(self._numbers, codes, strict=True):
            if code:
                raise WorkerFailed(f"worker {number} {_ended(code)} while it stopped")

    def _stop(self) -> None:
        self._requests += 1
        self._stopping.set()
        self._release_ports()  # as one process does: the next server need not wait for live replies
        for worker in self._workers.values():
            worker.stop()

    async def _start(self, number: int) -> _Worker:
        worker = self._workers[number] = await _Worker.start(number, self._environment)
        for _ in range(self._requests):  # which came meanwhile
            worker.stop()
        return worker

    async def _keep(self, number: int) -> int:
        """Starts a worker again whenever it ends; returns what the last one ended with."""
        worker = self._workers[number]
        delay = _FIRST_DELAY
        while True:
            code = await worker.wait()
            if self._stopping.is_set():
                # One that did not serve yet had nothing to bring to an end.
                return code if worker.has_served else 0
            if worker.age > _STEADY:
                delay = _FIRST_DELAY
            error = worker.error or f"it {_ended(code)}"
            log.warning("worker ended", worker=number, error=error, restart_in=delay)
            try:
                await asyncio.wait_for(self._stopping.wait(), delay)
                return 0
            except TimeoutError:
                delay = min(2 * delay, _MAX_DELAY)
            worker = await self._start(number)


class _Worker:
    """A worker process, as its supervisor sees it."""

    def __init__(
        self,
        number: int,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.has_served = False
        self.error = ""
        """Why it cannot serve, in its own words."""
        self._number = number
        self._process = process
        self._writer = writer
        self._start_time = time.monotonic()
        self._said = asyncio.create_task(self._listen(reader))

    @classmethod
    async def start(cls, number: int, environment: Mapping[str, str]) -> _Worker:
        """Starts one; `serves` waits until it serves."""
        ours, its = socket.socketpair()
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        try:
            with its:
                process = await asyncio.create_subprocess_exec(
                    # -P: not what happens to lie in the working folder.
                    *(sys.executable, "-P", "-m", "colloquy_server"),
                    *("worker", str(number), str(its.fileno())),
                    stdin=asyncio.subprocess.DEVNULL,
                    env=environment,
                    pass_fds=(its.fileno(),),
                    process_group=0,  # Ctrl-C is for the supervisor, which passes it on
                )
        except BaseException:
            writer.close()
            raise
        return cls(number, process, reader, writer)

    @property
    def age(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self._start_time

    async def serves(self) -> None:
        """Waits until it serves. Raises WorkerFailed when it ends before."""
        await self._said
        if not self.has_served:
            code = await self.wait()
            raise WorkerFailed(
                self.error or f"worker {self._number} {_ended(code)} before it served"
            )

    async def wait(self) -> int:
        """Waits for its end; returns its exit code, the negative number of a signal."""
        code = await self._process.wait()
        await self._said
        self._writer.close()
        return code

    def stop(self) -> None:
        """Asks it to stop; a second time, to hurry."""
        if not self._writer.is_closing():
            self._writer.write(b".")

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        said = (await reader.readline()).decode().strip()
        self.has_served = said == SERVING
        if not self.has_served:
            self.error = said


def _ended(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
