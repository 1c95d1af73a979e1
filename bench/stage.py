"""What a measurement stands on: a new database, a server on it, and a floor beside it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.processes import Metered
from tests import postgres

ADMIN_KEY = "the-platform-key-of-all-the-benches"

_MODELS = """
providers:
  bench: {{base_url: "{base_url}"}}
models:
  bench:
    {{provider: bench, input_kinds: [], context_window: 128000, max_output_tokens: 16000,
     input_price: 0, output_price: 0}}
default_model: [bench]
title_model: bench
"""

_LIMITS = ("MAX_LIVE_REPLIES", "MAX_LIVE_REPLIES_PER_ACCOUNT", "MAX_REQUESTS_PER_SECOND")
_NO_LIMITS = dict.fromkeys(_LIMITS, "1000000")  # the machine is what limits here


@contextmanager
def postgres_server() -> Iterator[str]:
    """Runs a Postgres server whose commits are durable; gives its URL. The one of TEST_DATABASE_URL
    is taken where that is set."""
    with postgres.server_url(durable=True) as url:
        yield url


@dataclass(frozen=True)
class Databases:
    """Where new databases are made: on a Postgres server, or as SQLite files."""

    kind: str
    """`sqlite` or `postgres`."""
    server_url: str = ""
    """Of the Postgres server."""

    @asynccontextmanager
    async def new(self, folder: Path, name: str) -> AsyncIterator[str]:
        """The URL of an empty database, which is gone afterwards."""
        if not self.server_url:
            yield f"sqlite:///{folder}/{name}.db"
            return
        with postgres.empty_database(self.server_url) as url:
            yield url


class Servers:
    """Processes of one database and one provider, which end with the context."""

    def __init__(self, folder: Path, base_url: str, stack: AsyncExitStack) -> None:
        self.base_url = base_url
        """Of the provider."""
        self._folder = folder
        self._stack = stack
        self._models = folder / "ai_models.yml"
        self._models.write_text(_MODELS.format(base_url=base_url))

    async def serve(self, database_url: str, *options: str, **settings: str) -> Metered:
        """Starts `colloquy serve`. Raises ProcessFailed."""
        return await self.start(
            *("colloquy_server", "serve", "--migrate", *options),
            AI_MODELS_FILE=str(self._models),
            DATABASE_URL=database_url,
            GRPC_ADDRESS="127.0.0.1:0",
            HTTP_ADDRESS="127.0.0.1:0",
            ADMIN_API_KEY=ADMIN_KEY,
            LOG_FORMAT="json",
            SHUTDOWN_GRACE="0",
            **{**_NO_LIMITS, **settings},
        )

    async def start(self, name: str, *arguments: str, **environment: str) -> Metered:
        """Starts a module. Raises ProcessFailed."""
        process = await Metered.start(self._folder, name, *arguments, **environment)
        self._stack.push_async_callback(process.stop)
        return process


@asynccontextmanager
async def open_servers(
    databases: Databases, base_url: str
) -> AsyncIterator[tuple[Servers, str, str]]:
    """What starts processes, and the URLs of two new databases."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="colloquy-bench-")))
        urls = [
            await stack.enter_async_context(databases.new(folder, name))
            for name in ("server", "floor")
        ]
        yield Servers(folder, base_url, stack), urls[0], urls[1]


@dataclass(frozen=True)
class Stage:
    """A server, and a floor with a database of its own."""

    server: Metered
    floor: Metered
    server_url: str
    floor_url: str


@asynccontextmanager
async def open_stage(
    databases: Databases, base_url: str, floor: str, *options: str
) -> AsyncIterator[Stage]:
    """Starts a server, and the module of a floor, whose arguments are the provider's URL, that of
    its database, and that of the server's.

    `options` are those of `colloquy serve`. Raises ProcessFailed.
    """
    async with open_servers(databases, base_url) as (servers, url, floor_url):
        server = await servers.serve(url, *options)
        beside = await servers.start(floor, base_url, floor_url, url)
        yield Stage(server, beside, url, floor_url)


@asynccontextmanager
async def paced_provider() -> AsyncIterator[str]:
    """Starts the provider that answers at a steady pace; gives its base URL."""
    with TemporaryDirectory(prefix="colloquy-bench-") as folder:
        provider = await Metered.start(Path(folder), "bench.paced")
        try:
            yield f"http://{provider.address}/v1"
        finally:
            await provider.stop()
