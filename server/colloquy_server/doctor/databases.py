"""The database, its bus, and who can call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from colloquy.operations.checkup import Finding, fail, ok, warn

from colloquy_server.database import health, migrate
from colloquy_server.database.engine import database_file, open_database
from colloquy_server.database.migrate import Fit
from colloquy_server.database.transactions import EVERY_ACCOUNT, Database, DatabaseUnavailable
from colloquy_server.replies.bus import PostgresBus, open_bus
from colloquy_server.serving import is_callable
from colloquy_server.settings import Settings, SettingsError

_MAX_CLOCK_DIFFERENCE = 2.0
"""Seconds. Leases go by the database's clock alone; keys, sessions and logs by this machine's."""

_BUS_TIMEOUT = 10.0


async def findings(settings: Settings) -> AsyncIterator[Finding]:
    """Looks, and makes no database that is not there."""
    url = settings.database_url
    file = database_file(url)
    if file is not None and not file.exists():
        yield ok("database", f"{file} is not there yet: the server makes it at its first start")
        return
    try:
        fit = await asyncio.to_thread(migrate.fit, url)
        revision = await asyncio.to_thread(migrate.revision, url)
    except SettingsError as error:
        yield fail("database", error.message, "see DATABASE_URL, and that the database runs")
        return
    is_usable = fit in (Fit.CURRENT, Fit.NEWER)
    yield _schema(fit, revision, migrates_itself=file is not None)
    db = open_database(url, 2)
    try:
        async for finding in _facts(db, settings, is_usable=is_usable):
            yield finding
    except DatabaseUnavailable:
        yield fail("database", "it went away meanwhile", "run this again")
    finally:
        await db.close()
    yield await _bus(settings)


def _schema(fit: Fit, revision: str, *, migrates_itself: bool) -> Finding:
    own = migrate.head()
    if fit is Fit.CURRENT:
        return ok("database", f"schema {revision}, this version's own")
    if fit is Fit.NEWER:
        said = f"schema {revision} is of a newer version, and fits this one ({own}) too"
        return warn("database", said, "finish the upgrade, or leave it for the way back")
    if fit is Fit.TOO_NEW:
        return fail("database", f"schema {revision}, this version's is {own}", migrate.TOO_NEW)
    said = f"schema {revision or 'none'}, this version's is {own}"
    if migrates_itself:
        return ok("database", f"{said}: the server migrates it when it starts")
    return fail("database", said, "run `colloquy migrate`")


async def _facts(db: Database, settings: Settings, *, is_usable: bool) -> AsyncIterator[Finding]:
    found = await db.read(EVERY_ACCOUNT, health.examine)
    if found.is_read_only:
        yield fail("database", "it takes no writes", "set DATABASE_URL to the primary, no standby")
    yield ok("database", f"{found.version} answers")
    difference = time.time() - found.now
    if abs(difference) > _MAX_CLOCK_DIFFERENCE:
        said = f"this machine's is {difference:+.0f} seconds from the database's"
        yield warn("clock", said, "set both by NTP")
    else:
        yield ok("clock", "agrees with the database's")
    needed = settings.database_pool_size + 3  # two for the bus, one for a migration
    if found.max_connections is not None and needed > found.max_connections:
        said = f"a server takes up to {needed} connections, the database {found.max_connections}"
        yield fail("database", said, "lower DATABASE_POOL_SIZE, or raise max_connections")
    if is_usable and not await is_callable(settings, db):
        yield warn("keys", "there is none: nobody can call", "set ADMIN_API_KEY, and make keys")


async def _bus(settings: Settings) -> Finding:
    if not isinstance(open_bus(settings.event_bus_url, settings.database_url), PostgresBus):
        if settings.database_url.startswith("postgresql://"):
            return warn(
                "bus",
                "in memory: several servers would not hear of each other at once",
                "leave EVENT_BUS_URL out",
            )
        return ok("bus", "in memory, for one server")
    url = settings.event_bus_url or settings.database_url
    sender, receiver = PostgresBus(url), PostgresBus(url)
    came = asyncio.Event()
    receiver.subscribe(lambda _: came.set())
    try:
        async with asyncio.timeout(_BUS_TIMEOUT):
            await asyncio.gather(sender.start(), receiver.start())
            while not came.is_set():  # what is sent before the other listens is lost
                sender.publish({"kind": "doctor"})
                await asyncio.sleep(0.1)
        return ok("bus", "a notification came through")
    except TimeoutError:
        return fail(
            "bus",
            f"no notification came within {_BUS_TIMEOUT:.0f} seconds",
            "EVENT_BUS_URL needs a direct connection, or a pooler in session mode",
        )
    finally:
        await asyncio.gather(sender.stop(), receiver.stop())
