"""Child processes that do one thing and end.

An event loop starts a process by a fork that copies the page tables of all that the server holds: a
twentieth of a second for 800 MB, in which no stream goes on. `subprocess` starts it without, in a
thousandth; a thread waits for it.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import IO

_PIECE = 64 << 10


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended: its exit code, or the negative number of the signal that ended it, and
    what it said on its standard output and on its standard error."""

    code: int
    output: bytes
    errors: bytes


class SaidTooMuch(Exception):
    """A child said more than it may."""


async def run(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    stdin: IO[bytes] | int,
    seconds: float,
    max_output: int,
    threads: Executor | None = None,
) -> Ended:
    """Runs a child to its end, and ends it when this is cancelled.

    `stdin` is a file or `subprocess.DEVNULL`; `max_output` is in bytes, for each of its outputs;
    one of the `threads` waits. Raises OSError when it cannot be started, TimeoutError after
    `seconds`, SaidTooMuch.
    """
    process = subprocess.Popen(  # noqa: ASYNC220 - not by a thread, which nobody could cancel
        command,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    )
    listening = asyncio.get_running_loop().run_in_executor(threads, _listen, process, max_output)
    try:
        async with asyncio.timeout(seconds):
            ended = await asyncio.shield(listening)
    finally:
        if not listening.done():
            process.kill()
            await asyncio.shield(asyncio.wait([listening]))
    if ended is None:
        raise SaidTooMuch
    return ended


def _listen(process: subprocess.Popen[bytes], max_output: int) -> Ended | None:
    """Takes in what a child says, and waits for its end; None when it said too much, and was ended
    for that."""
    with process, selectors.DefaultSelector() as selector:
        said = {stream: bytearray() for stream in (process.stdout, process.stderr) if stream}
        for stream in said:
            selector.register(stream, selectors.EVENT_READ, stream)
        while selector.get_map():
            for key, _ in selector.select():
                if not (piece := os.read(key.fd, _PIECE)):
                    selector.unregister(key.fileobj)
                    continue
                said[key.data] += piece
                if len(said[key.data]) > max_output:
                    process.kill()
                    return None
        output, errors = (bytes(each) for each in said.values())
        return Ended(process.wait(), output, errors)
