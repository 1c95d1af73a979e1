"""The server, from reading its settings to its end: in this process, or in workers of it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path

import structlog
import uvloop
from colloquy.operations.checkup import Level, examine, misspelt
from colloquy.operations.private_files import hold_alone, make_private_folder
from colloquy.operations.private_memory import keep_memory_private

from colloquy_server import logs
from colloquy_server import settings as settings_module
from colloquy_server.app import App
from colloquy_server.backup import back_up, restore
from colloquy_server.database import migrate
from colloquy_server.database.engine import database_file
from colloquy_server.development import ensure_development_key, log_link, make_link
from colloquy_server.doctor import known_names
from colloquy_server.errors import ColloquyError
from colloquy_server.providers.catalog import CatalogError
from colloquy_server.serving import (
    StopRequests,
    is_callable,
    listen_for_signals,
    log_confinement,
    log_serving,
    serve_until_stopped,
)
from colloquy_server.settings import Settings
from colloquy_server.shared_port import HTTP_REMEDY, SharedPort
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


def run_migrations(revision: str | None = None) -> int:
    """Brings the database to the present schema, or to a revision; returns the process's exit
    code."""

    def run(settings: Settings) -> None:
        if revision is None:
            migrate.upgrade(settings.database_url)
        else:
            migrate.migrate_to(settings.database_url, revision)
        logs.say(f"the database has schema {migrate.revision(settings.database_url)}")

    return _run(run)


def run_backup(target: Path) -> int:
    """Backs a SQLite database and its files up; returns the process's exit code."""
    return _run(lambda settings: logs.say(back_up(settings, target)))


def run_restore(source: Path) -> int:
    """Restores such a backup; returns the process's exit code."""
    return _run(lambda settings: logs.say(restore(settings, source)))


def run_doctor(wanted: Collection[str]) -> int:
    """Prints what a server, and the bot if it is installed and set up, lack; returns 1 when
    something would not run."""
    os.umask(0o077)
    logs.silence()
    return asyncio.run(_examine(wanted))


async def _examine(wanted: Collection[str]) -> int:
    found: Counter[Level] = Counter()
    try:
        async for finding in examine(wanted):
            print(finding, flush=True)  # noqa: T201 - for people
            found[finding.level] += 1
    except LookupError as error:
        print(f"colloquy: {error}", file=sys.stderr)  # noqa: T201
        return 2
    print(", ".join(f"{found[level]} {level.value}" for level in Level))  # noqa: T201
    return 1 if found[Level.FAIL] else 0


def _run(command: Callable[[Settings], None]) -> int:
    """Runs a command with the settings; says in one line why it cannot."""
    os.umask(0o077)  # whatever is written holds what people said, or keys
    try:
        keep_memory_private()
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
    for name, meant in misspelt(settings.environ, known_names()):
        log.warning("no such setting", name=name, did_you_mean=meant)
    # Before anything is made: and gRPC logs a port that is taken in its own way.
    SharedPort(settings.grpc_address).close()
    if settings.serves_http:
        SharedPort(settings.http_address, HTTP_REMEDY).close()
    if file := database_file(settings.database_url):
        _hold_database(file)
    if migrates_first or file:
        migrate.upgrade(settings.database_url)
    else:
        _check_schema(settings.database_url)
    if workers > 1:
        asyncio.run(supervise(settings, workers, is_development=is_development))
    else:
        uvloop.run(serve(settings, is_development=is_development))


def _check_schema(database_url: str) -> None:
    found = migrate.fit(database_url)
    if found is migrate.Fit.OLDER:
        raise ColloquyError("the database needs migrating: run `colloquy migrate`")
    if found is migrate.Fit.TOO_NEW:
        raise ColloquyError(migrate.TOO_NEW)
    if found is migrate.Fit.NEWER:
        log.info("a newer version has migrated the database", own_revision=migrate.head())


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
    await log_confinement()
    key = await ensure_development_key(app.db) if is_development else None
    address = _with_port(settings.grpc_address, app.port)
    http_address = _with_port(settings.http_address, app.http_port) if app.http else "off"
    has_keys = await is_callable(settings, app.db)
    log_serving(address, http_address, app.catalog, has_keys=has_keys)
    if key is not None and app.web_url:
        log_link(await make_link(app.db, key, app.web_url))
    await serve_until_stopped(app, requests)


def _with_port(address: str, port: int) -> str:
    """The address with the port that port 0 became."""
    return f"{address.rpartition(':')[0]}:{port}"
