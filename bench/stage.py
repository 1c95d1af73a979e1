"""What a measurement stands on: a new database, a server on it, and a floor beside it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.processes import Metered
from tests import postgres

ADMIN_KEY = "the-platform-key-of-the-bench"

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


@dataclass(frozen=True)
class Stage:
    """The processes of a measurement."""

    server: Metered
    floor: Metered
    server_url: str
    floor_url: str
    """Their databases."""


@asynccontextmanager
async def open_stage(
    databases: Databases, base_url: str, floor: str, *serve: str
) -> AsyncIterator[Stage]:
    """Starts a server, and the module of a floor, whose arguments are the provider's URL, that of a
    database of its own, and that of the server's.

    `serve` are options of `colloquy serve`. Raises ProcessFailed.
    """
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="colloquy-bench-")))
        models = folder / "ai_models.yml"
        models.write_text(_MODELS.format(base_url=base_url))
        url = await stack.enter_async_context(databases.new(folder, "server"))
        floor_url = await stack.enter_async_context(databases.new(folder, "floor"))

        async def start(name: str, *arguments: str, **environment: str) -> Metered:
            process = await Metered.start(folder, name, *arguments, **environment)
            stack.push_async_callback(process.stop)
            return process

        async with asyncio.TaskGroup() as group:
            serving = group.create_task(
                start(
                    *("colloquy_server", "serve", "--migrate", *serve),
                    AI_MODELS_FILE=str(models),
                    DATABASE_URL=url,
                    GRPC_ADDRESS="127.0.0.1:0",
                    ADMIN_API_KEY=ADMIN_KEY,
                    LOG_FORMAT="json",
                    SHUTDOWN_GRACE="0",
                    **_NO_LIMITS,
                )
            )
            beside = group.create_task(start(floor, base_url, floor_url, url))
        yield Stage(serving.result(), beside.result(), url, floor_url)


@asynccontextmanager
async def paced_provider() -> AsyncIterator[str]:
    """Starts the provider that answers at a steady pace; gives its base URL."""
    with TemporaryDirectory(prefix="colloquy-bench-") as folder:
        provider = await Metered.start(Path(folder), "bench.paced")
        try:
            yield f"http://{provider.address}/v1"
        finally:
            await provider.stop()
