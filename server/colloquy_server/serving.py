"""What every process that serves does, be it the only one, a worker or the workers' supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import signal
import subprocess
import sys
from collections.abc import Callable

import structlog

from colloquy_server import children
from colloquy_server.app import App
from colloquy_server.confinement import ENVIRONMENT, Confinement
from colloquy_server.database.repository import access
from colloquy_server.database.transactions import EVERY_ACCOUNT, Database
from colloquy_server.providers.catalog import Catalog
from colloquy_server.settings import Settings

log = structlog.get_logger()

_CONFINEMENT_TIMEOUT = 60.0
"""Seconds for a process that tries out what confines it, which is done in a tenth of one."""


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
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            loop.add_signal_handler(number, on_signal)


async def is_callable(settings: Settings, db: Database) -> bool:
    """Whether there is any key with which somebody can call or make one, or tokens are taken."""
    if settings.admin_keys or settings.provisioning_keys or settings.oidc_rules:
        return True
    return await db.read(EVERY_ACCOUNT, access.has_keys)


async def log_confinement() -> None:
    """Says, once for all workers, from what this machine protects the server when files are read
    that strangers made: a process tries it out."""
    held = Confinement(0, seccomp=False)
    # It could perhaps not even try.
    with contextlib.suppress(OSError, TimeoutError, json.JSONDecodeError):
        ended = await children.run(
            (sys.executable, "-I", "-m", "colloquy_server.confinement"),
            environment=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            seconds=_CONFINEMENT_TIMEOUT,
            max_output=64 << 10,
        )
        held = Confinement(**json.loads(ended.output))
    if lacking := held.lacking():
        log.warning(
            "child processes are not fully confined",
            **held.dump(),
            open_to_them=", ".join(lacking),
            remedy="run on Linux with Landlock (5.13 or newer) and seccomp",
        )
    else:
        log.info("child processes are confined", **held.dump())


def log_serving(address: str, http_address: str, catalog: Catalog, *, has_keys: bool) -> None:
    """Says, once for all workers, where clients may call."""
    if not has_keys:
        log.warning(
            "nobody can call: there is no API key",
            remedy="set ADMIN_API_KEY to make accounts and keys, or try things out with --dev",
        )
    default = catalog.default()
    none = "not discovered yet" if catalog.discovering else "none: no provider has a key"
    log.info(
        "serving",
        address=address,
        http_address=http_address,
        default_model=default.id if default else none,
    )


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
