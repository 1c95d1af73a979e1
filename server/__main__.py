"""The command `python -m server`: serves, or migrates the database."""

from __future__ import annotations

import argparse
import asyncio
import gc
import signal
import sys

import structlog
import uvloop

from server import logs, migrate
from server import settings as settings_module
from server.app import App
from server.catalog import CatalogError
from server.development import ensure_development_key
from server.errors import ColloquyError
from server.settings import Settings

log = structlog.get_logger()


def main() -> int:
    """Runs the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m server", description="The Colloquy server.")
    parser.add_argument(
        "command",
        nargs="?",
        choices=["serve", "migrate"],
        default="serve",
        help="serve (the default), or bring the database to the present schema and end",
    )
    parser.add_argument("--migrate", action="store_true", help="migrate first, then serve")
    parser.add_argument(
        "--dev",
        action="store_true",
        help="make a development account and write its key to data/dev.key",
    )
    arguments = parser.parse_args()
    try:
        settings = settings_module.load()
        logs.configure(settings.log_format)
        is_embedded = settings.database_url.startswith("sqlite:")
        if arguments.command == "migrate" or arguments.migrate or is_embedded:
            migrate.upgrade(settings.database_url)
        elif not migrate.is_current(settings.database_url):
            raise ColloquyError("the database needs migrating: run `python -m server migrate`")
        if arguments.command == "serve":
            uvloop.run(serve(settings, is_development=arguments.dev))
    except (ColloquyError, CatalogError, OSError) as error:
        print(f"colloquy: {error}", file=sys.stderr)
        return 1
    return 0


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
    log.info("stopping", live_replies=len(app.replies.live))
    stopping = asyncio.create_task(app.stop(settings.shutdown_grace))
    hurry = asyncio.create_task(at_once.wait())
    await asyncio.wait([stopping, hurry], return_when=asyncio.FIRST_COMPLETED)
    if hurry.done():
        app.replies.hurry()
    hurry.cancel()
    await stopping


if __name__ == "__main__":
    sys.exit(main())
