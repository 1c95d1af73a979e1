"""One of the workers that a supervisor started: a server on a port that it shares with others."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket

import structlog
import uvloop
from colloquy.operations.private_memory import keep_memory_private

from colloquy_server import logs
from colloquy_server import settings as settings_module
from colloquy_server.app import App
from colloquy_server.errors import ColloquyError
from colloquy_server.providers.catalog import CatalogError
from colloquy_server.serving import StopRequests, listen_for_signals, serve_until_stopped
from colloquy_server.settings import Settings
from colloquy_server.supervisor import SERVING

log = structlog.get_logger()


def run_worker(number: int, descriptor: int) -> int:
    """Serves until the supervisor says so, or is no more; returns the process's exit code.

    `descriptor` is of a socket to the supervisor, which reads there that this worker serves or why
    it cannot.
    """
    os.umask(0o077)  # as its supervisor's: what is written holds what people said
    with socket.socket(fileno=descriptor) as supervisor:
        supervisor.set_inheritable(False)
        try:
            keep_memory_private()
            settings = settings_module.load()
            logs.configure(settings.log_format, worker=number)
            uvloop.run(_serve(settings, supervisor, number))
        except (ColloquyError, CatalogError, OSError) as error:
            _tell(supervisor, str(error))
            return 1
        except Exception:
            log.exception("process failed")
            return 1
        finally:
            logs.drain()
    return 0


async def _serve(settings: Settings, supervisor: socket.socket, number: int) -> None:
    requests = StopRequests()
    # A terminal or an init system may signal every process of a group, beside what the supervisor
    # passes on: here a signal asks to stop, and only the supervisor to hurry.
    listen_for_signals(requests.stop.set)
    _listen_to(supervisor, requests)
    app = App(settings, shares_port=True, worker=number)
    await app.start()
    log.info("worker serving", pid=os.getpid())
    await asyncio.to_thread(logs.drain)  # it stands before the supervisor's own line
    _tell(supervisor, SERVING)
    await serve_until_stopped(app, requests)


def _listen_to(supervisor: socket.socket, requests: StopRequests) -> None:
    """Stops at the first byte that comes, or at the supervisor's end; hurries at the second."""
    supervisor.setblocking(False)
    loop = asyncio.get_running_loop()
    asked = 0

    def on_readable() -> None:
        nonlocal asked
        try:
            received = supervisor.recv(16)
        except BlockingIOError:
            return
        except ConnectionError:
            received = b""
        asked += len(received)
        requests.stop.set()
        if asked > 1:
            requests.hurry.set()
        if not received:
            loop.remove_reader(supervisor)

    loop.add_reader(supervisor, on_readable)


def _tell(supervisor: socket.socket, line: str) -> None:
    with contextlib.suppress(OSError):  # it is no more, which the reader notices
        supervisor.sendall(" ".join(line.split("\n")).encode() + b"\n")
