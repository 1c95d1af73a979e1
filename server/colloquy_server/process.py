"""One server process, from reading its settings to its end."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import Callable

import structlog
import uvloop

from colloquy_server import logs
from colloquy_server import settings as settings_module
from colloquy_server.app import App
from colloquy_server.database import migrate
from colloquy_server.development import ensure_development_key
from colloquy_server.errors import ColloquyError
from colloquy_server.providers.catalog import CatalogError
from colloquy_server.settings import Settings

log = structlog.get_logger()


def run_server(*, is_development: bool = False, migrates_first: bool = False) -> int:
    """Serves until it is told to stop; returns the process's exit code.

    SQLite is migrated by itself; Postgres when `migrates_first`, else it has to be current.
    """
    return _run(
        lambda settings: _serve(
            settings, is_development=is_development, migrates_first=migrates_first
        )
    )


def run_migrations() -> int:
    """Brings the database to the present schema; returns the process's exit code."""
    return _run(lambda settings: migrate.upgrade(settings.database_url))


def _run(command: Callable[[Settings], None]) -> int:
    """Runs a command with the settings; says in one line why it cannot."""
    try:
        settings = settings_module.load()
        logs.configure(settings.log_format)
        command(settings)
    except (ColloquyError, CatalogError, OSError) as error:
        sys.stderr.write(f"colloquy: {error}\n")
        return 1
    return 0


def _serve(settings: Settings, *, is_development: bool, migrates_first: bool) -> None:
    if migrates_first or settings.database_url.startswith("sqlite:"):
        migrate.upgrade(settings.database_url)
    elif not migrate.is_current(settings.database_url):
        raise ColloquyError("the database needs migrating: run `colloquy migrate`")
    uvloop.run(serve(settings, is_development=is_development))


async def serve(settings: Settings, *, is_development: bool) -> None:
    """Serves until SIGTERM or SIGINT; a second one ends it without waiting for live replies."""
    app = App(settings)
    stop = asyncio.Event()
    at_once = asyncio.Event()

    def on_signal() -> None:
        (at_once if stop.is_set() else stop).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    await app.start()
    if is_development:
        await ensure_development_key(app.db)
    # What is here now stays: looking through it for garbage again and again stops all streams for
    # a fifth of a second.
    gc.freeze()
    default = app.catalog.default()
    log.info(
        "serving",
        address=settings.grpc_address.rpartition(":")[0] + f":{app.port}",
        default_model=default.id if default else "none: no provider has a key",
    )
    await stop.wait()
    log.info("stopping", live_replies=len(app.replies.ownership.live))
    stopping = asyncio.create_task(app.stop(settings.shutdown_grace))
    hurry = asyncio.create_task(at_once.wait())
    await asyncio.wait([stopping, hurry], return_when=asyncio.FIRST_COMPLETED)
    if hurry.done():
        app.replies.end_grace()
    hurry.cancel()
    await stopping
