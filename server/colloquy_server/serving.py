"""What every process that serves does, be it the only one, a worker or the workers' supervisor."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Callable

import structlog

from colloquy_server.app import App
from colloquy_server.providers.catalog import Catalog

log = structlog.get_logger()


class StopRequests:
    """What asks a server to stop: once to drain, a second time not to wait for live replies."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()

    def add(self) -> None:
        """Asks once more."""
        (self.hurry if self.stop.is_set() else self.stop).set()


def listen_for_signals(on_signal: Callable[[], None]) -> None:
    """Calls this whenever somebody wants the process to end."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)


def log_serving(address: str, catalog: Catalog) -> None:
    """Says, once for all workers, where clients may call."""
    default = catalog.default()
    none = "not discovered yet" if catalog.discovering else "none: no provider has a key"
    log.info("serving", address=address, default_model=default.id if default else none)


async def serve_until_stopped(app: App, requests: StopRequests) -> None:
    """Has an app that was started serve until it is asked to stop, and has."""
    # What is here now stays: looking through it for garbage again and again stops all streams for
    # a fifth of a second.
    gc.freeze()
    # A reply makes thousands of objects and few circles: the usual 700 is a tenth of its cost.
    gc.set_threshold(50_000, 20, 100)
    await requests.stop.wait()
    log.info("stopping", live_replies=len(app.replies.ownership.live))
    stopping = asyncio.create_task(app.stop(app.settings.shutdown_grace))
    hurry = asyncio.create_task(requests.hurry.wait())
    await asyncio.wait([stopping, hurry], return_when=asyncio.FIRST_COMPLETED)
    if hurry.done():
        app.replies.end_grace()
    hurry.cancel()
    await stopping
