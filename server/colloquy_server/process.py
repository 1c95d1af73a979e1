"""The server, from reading its settings to its end: in this process, or in workers of it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import structlog
import uvloop
from colloquy.operations.private_files import hold_alone, make_private_folder

from colloquy_server import logs
from colloquy_server import settings as settings_module
from colloquy_server.app import App
from colloquy_server.database import migrate
from colloquy_server.database.engine import database_file
from colloquy_server.development import ensure_development_key
from colloquy_server.errors import ColloquyError
from colloquy_server.providers.catalog import CatalogError
from colloquy_server.serving import (
    StopRequests,
    is_callable,
    listen_for_signals,
    log_serving,
    serve_until_stopped,
)
from colloquy_server.settings import Settings
from colloquy_server.shared_port import SharedPort
from colloquy_server.supervisor import check_workers, supervise

log = structlog.get_logger()


def run_server(
    *, is_development: bool = False, migrates_first: bool = False, workers: int = 1
) -> int:
    """Serves until it is told to stop; returns the process's exit code.

    SQLite is migrated by itself; Postgres when `migrates_first`, else it has to be current. With
    one worker this process serves; with more it supervises them.
    """
    return _run(
        lambda settings: _serve(
            settings,
            is_development=is_development,
            migrates_first=migrates_first,
            workers=workers,
        )
    )


def run_migrations() -> int:
    """Brings the database to the present schema; returns the process's exit code."""
    return _run(lambda settings: migrate.upgrade(settings.database_url))


def _run(command: Callable[[Settings], None]) -> int:
    """Runs a command with the settings; says in one line why it cannot."""
    os.umask(0o077)  # whatever is written holds what people said, or keys
    try:
        settings = settings_module.load()
        logs.configure(settings.log_format)
        command(settings)
    except (ColloquyError, CatalogError, OSError) as error:
        logs.say(f"colloquy: {error}")
        return 1
    except Exception:
        log.exception("process failed")
        return 1
    finally:
        logs.drain()
    return 0


def _serve(settings: Settings, *, is_development: bool, migrates_first: bool, workers: int) -> None:
    check_workers(settings, workers)
    # Before anything is made: and gRPC logs a port that is taken in its own way.
    SharedPort(settings.grpc_address).close()
    if file := database_file(settings.database_url):
        _hold_database(file)
    if migrates_first or file:
        migrate.upgrade(settings.database_url)
    elif not migrate.is_current(settings.database_url):
        raise ColloquyError("the database needs migrating: run `colloquy migrate`")
    if workers > 1:
        asyncio.run(supervise(settings, workers, is_development=is_development))
    else:
        uvloop.run(serve(settings, is_development=is_development))


def _hold_database(file: Path) -> None:
    """Keeps other servers from a SQLite file until this process ends: they would not hear of each
    other's replies. Migrations and copies of it are no server's matter, and go on."""
    file = file.resolve()
    make_private_folder(file.parent)
    if not hold_alone(file.with_name(f"{file.name}-lock")):
        raise ColloquyError(
            f"another server serves from {file}: stop it, or set DATABASE_URL to another file or,"
            " for several servers, to postgresql://…"
        )


async def serve(settings: Settings, *, is_development: bool) -> None:
    """Serves until SIGTERM, SIGINT or SIGHUP; a second one ends it without waiting for live
    replies."""
    app = App(settings)
    requests = StopRequests()
    listen_for_signals(requests.add)
    await app.start()
    if is_development:
        await ensure_development_key(app.db)
    address = f"{settings.grpc_address.rpartition(':')[0]}:{app.port}"
    log_serving(address, app.catalog, has_keys=await is_callable(settings, app.db))
    await serve_until_stopped(app, requests)
