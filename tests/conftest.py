"""What all tests share.

A test that takes `colloquy` runs on two kinds of fleet: one server on SQLite, and two servers that
share a Postgres, where sends go to the first and watches, reads and cancels to the second. With
TEST_FLEETS=all it also runs on the other two: one server on Postgres, and two on one SQLite file;
with TEST_FLEETS=http instead by HTTP, on SQLite, by each of its protocols.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import uvloop
from _pytest.faulthandler import fault_handler_stderr_fd_key
from sqlalchemy import Connection, Engine, event

from tests import hangs, postgres, variants
from tests.fleets import FLEETS, fleet
from tests.harness import Caller, Colloquy
from tests.plain_logs import plain_logs


class Compiled(dict[Any, Any]):
    """Compiled statements, for all engines of a kind of database: each test has new engines, and
    compiling what they ask anew took a fifth of all tests' time."""

    def get(self, key: Any, default: Any = None) -> Any:
        """What SQLAlchemy compiled for such a dialect, which leads the key."""
        return super().get((type(key[0]), *key[1:]), default)

    def __setitem__(self, key: Any, compiled: Any) -> None:
        super().__setitem__((type(key[0]), *key[1:]), compiled)


_compiled = Compiled()


@event.listens_for(Engine, "engine_connect")
def _share_what_is_compiled(connection: Connection) -> None:
    connection.execution_options(compiled_cache=_compiled)


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Tests run on the event loop that the server runs on: it differs from asyncio's in details."""
    return {"uvloop": uvloop.new_event_loop}


def pytest_configure(config: pytest.Config) -> None:
    """Lets Ctrl-C reach what tests start, also when a shell runs them in the
    background; and lets no garbage be looked for while all modules are loaded."""
    config.pluginmanager.register(variants)
    config.pluginmanager.register(variants.Count())
    plain_logs()
    gc.disable()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Has hangs told, to where pytest tells of crashes."""
    config = session.config
    config.pluginmanager.register(hangs.Watch(config.stash[fault_handler_stderr_fd_key]))


def pytest_collection_finish() -> None:
    """What is here now stays: looking through it again and again took a tenth of all time. What
    comes is looked through seldom, which took another one."""
    gc.freeze()
    gc.set_threshold(20_000, 25, 50)
    gc.enable()


def pytest_xdist_auto_num_workers() -> int:
    """Two processes of tests a processor: much of their time is spent waiting. Each reads all tests
    and has its own Postgres, so more would cost more than they save."""
    return min(2 * (os.cpu_count() or 1), 8)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begins with the tests that may take longest, so that nobody waits for them at the end; those
    that wait and those that compute are mixed, in an order that is the same each time. Further
    variants of what was shown come last."""
    variants.mark(items)

    def place(item: pytest.Item) -> tuple[int, float, int]:
        marker = item.get_closest_marker("timeout")
        longest = -marker.args[0] if marker else 0
        return variants.rank(item), longest, variants.chance(item)

    items.sort(key=place)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a Postgres server."""
    with postgres.server_url() as url:
        yield url


@pytest.fixture(scope="session")
def postgres_template(postgres_server: str) -> Iterator[str]:
    """The name of a database with the present schema, to copy."""
    with postgres.database(postgres_server) as url:
        yield url.rpartition("/")[2]


@pytest.fixture
def postgres_url(postgres_server: str, postgres_template: str) -> Iterator[str]:
    """The URL of a new database with the present schema."""
    with postgres.database(postgres_server, postgres_template) as url:
        yield url


@pytest.fixture(params=FLEETS)
async def colloquy(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Colloquy]:
    """A fleet with its provider's double."""
    async with fleet(request, tmp_path) as running:
        yield running


@pytest.fixture
async def alice(colloquy: Colloquy) -> Caller:
    """A service's key of an account."""
    return await colloquy.account("alice")
