"""Code that has got into the process that reads a file finds nothing there: no key, no file, no
network, nobody to signal.

The code comes as a file, through the API of a real server, and runs where a reader of files of that
kind would; what it found comes back as the file's text.
"""

from __future__ import annotations

import asyncio
import functools
import json
import secrets
import shutil
import signal
import socket
import sys
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from colloquy_server import process as server
from colloquy_server.confinement import Confinement
from colloquy_server.files import extraction

from tests.fakes import intruder
from tests.harness import Colloquy, ServerProcess
from tests.once import once
from tests.uploads import upload

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone confines here")

SOURCE = Path(intruder.__file__).read_text("utf-8")
SECRET = f"a-key-{secrets.token_hex(8)}"

# What a reader of notebooks is in this test; all else in that process is as ever.
READER = """
import sys
from colloquy_server.files.extractors import __main__ as worker

def run(file, notes):
    module = {"__name__": "intruder"}
    source, _, targets = file.read().decode().rpartition("\\n# targets: ")
    exec(compile(source, "intruder", "exec"), module)
    yield "<<<" + module["report"](module["json"].loads(targets)) + ">>>"

worker.READERS[worker.notebook.IPYNB] = run
worker.main()
"""

NEIGHBOUR = """
import ctypes, sys
kept = ctypes.create_string_buffer(b"what a neighbour knows")
print(ctypes.addressof(kept), flush=True)
sys.stdin.read()
"""

OF_FILES = {name for name in intruder.ATTEMPTS if name.startswith(("read", "list"))}
"""What Landlock keeps from it; all else is kept by the filter of system calls too."""

OFTEN_CLOSED = {
    "reach sockets by io_uring",
    *(
        name
        for name in intruder.ATTEMPTS
        if "signal" not in name and name.endswith(("environment", "memory", "descriptors"))
    ),
    *("trace the server", "trace a neighbour"),
}
"""What machines keep from other processes too: the server closes its memory to all but root, and
kernels and containers may close everybody's."""

SECRETS = (".env", "files/blob", ".ssh/key")


@dataclass
class Found:
    """What there was to be had."""

    inside: dict[str, Any]
    outside: dict[str, Any]
    held: Confinement
    """What this machine keeps, as a process of its own found."""
    told: dict[str, Any]
    """The line of the server's log."""
    before: dict[str, object]
    after: dict[str, object]
    """The files, before the intruder came and after."""
    callers: int
    """Who came to ports and sockets that somebody listened on, from inside."""


def run_server() -> int:
    """A server whose reader of notebooks runs what is in them."""
    extraction._WORKER = (sys.executable, "-I", "-c", READER)
    return server.run_server()


class Intruded(ServerProcess):
    """A server that a stranger's code got into."""

    def __init__(self, colloquy: Colloquy, platform_key: str) -> None:
        super().__init__(colloquy, ADMIN_API_KEY=platform_key, HOME=str(colloquy.folder))
        self._run = functools.partial(run_server)


def fill(folder: Path) -> None:
    """Files that are somebody's secret."""
    for name in SECRETS:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(SECRET)


def state(folder: Path) -> dict[str, object]:
    """What an intruder would have changed."""
    found: dict[str, object] = {name: (folder / name).read_bytes() for name in SECRETS}
    found["names"] = {path.name for path in folder.iterdir()} - {
        path.name for path in folder.glob("conversations.db*")
    }
    found["mode"] = (folder / "conversations.db").stat().st_mode
    return found


def open_sockets(stack: ExitStack, folder: Path) -> tuple[list[socket.socket], dict[str, Any]]:
    """Sockets that somebody listens on, and where they are."""
    tcp = socket.create_server(("127.0.0.1", 0))
    udp, unix, abstract = (
        socket.socket(family, kind)
        for family, kind in (
            (socket.AF_INET, socket.SOCK_DGRAM),
            (socket.AF_UNIX, socket.SOCK_STREAM),
            (socket.AF_UNIX, socket.SOCK_STREAM),
        )
    )
    udp.bind(("127.0.0.1", 0))
    unix.bind(str(folder / "socket"))
    abstract.bind(f"\0{SECRET}")
    listeners = [tcp, udp, unix, abstract]
    for listener in listeners:
        stack.enter_context(listener)
        listener.setblocking(False)
        if listener is not udp:
            listener.listen()
    return listeners, {
        "tcp": tcp.getsockname()[1],
        "udp": udp.getsockname()[1],
        "unix": str(folder / "socket"),
        "abstract": SECRET,
    }


def arrived(listener: socket.socket) -> int:
    """How many came."""
    count = 0
    while True:
        try:
            if listener.type == socket.SOCK_DGRAM:
                listener.recv(64)
            else:
                listener.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


async def printed(*command: str, stdin: Any = asyncio.subprocess.DEVNULL) -> str:
    """What a program says."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, stdin=stdin, stdout=asyncio.subprocess.PIPE
    )
    return (await process.communicate())[0].decode()


async def look(folder: Path) -> Found:
    """Lets the intruder into a child of a server; and, to see that what it tries works elsewhere,
    into a process that is not confined, with copies of the files."""
    home, copy = folder / "home", folder / "copy"
    async with AsyncExitStack() as stack:
        listeners, targets = open_sockets(stack.enter_context(ExitStack()), folder)
        neighbour = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", NEIGHBOUR),
            env={"A_KEY": SECRET},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert neighbour.stdin
        assert neighbour.stdout
        targets |= {"neighbour": neighbour.pid, "address": int(await neighbour.stdout.readline())}
        home.mkdir()
        fill(home)
        colloquy = await stack.enter_async_context(Colloquy(home))
        process = Intruded(colloquy, f"{SECRET}-of-the-platform")
        alice = (await colloquy.account()).on(await process.start())
        targets |= {"server": process.pid, "folder": str(home)}

        source = f"{SOURCE}\n# targets: {json.dumps(targets)}".encode()
        file = await upload(alice, source, "book.ipynb")
        conversation = await alice.create(model="test-model", title="Read")
        before = state(home)
        await alice.send(conversation.id, "Read", attachment_ids=[file.id]).reply()
        text = colloquy.provider.reply_requests[-1].last_user_text
        assert "<<<" in text, text
        after, callers = state(home), sum(map(arrived, listeners))

        copy.mkdir()
        fill(copy)
        shutil.copy(home / "conversations.db", copy)
        with (copy / ".env").open("r+b") as given:
            arguments = (intruder.__file__, json.dumps({**targets, "folder": str(copy)}))
            outside = json.loads(await printed(*arguments, stdin=given))
        held = json.loads(await printed("-I", "-m", "colloquy_server.confinement"))
        (told,) = [json.loads(line) for line in process.lines if "child processes" in line]
        assert neighbour.returncode is None, "the neighbour was ended"
        neighbour.stdin.close()
        await neighbour.wait()
        assert await process.end(signal.SIGTERM) == 0
    inside = json.loads(text.partition("<<<")[2].partition(">>>")[0])
    return Found(inside, outside, Confinement(**held), told, before, after, callers)


@pytest.fixture(scope="session")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    return once(tmp_path_factory, "intruder", lambda folder: asyncio.run(look(folder)))


@pytest.mark.parametrize("attempt", intruder.ATTEMPTS)
def test_what_an_intruder_tries_is_refused(found: Found, attempt: str) -> None:
    if attempt in OF_FILES and not found.held.landlock:
        pytest.skip("this kernel has no Landlock")
    if attempt not in OF_FILES and not found.held.seccomp:
        pytest.skip("this kernel filters no system calls")
    assert found.inside[attempt] == intruder.REFUSED


@pytest.mark.parametrize("attempt", intruder.ATTEMPTS)
def test_it_would_work_in_a_process_that_is_not_confined(found: Found, attempt: str) -> None:
    if attempt in OFTEN_CLOSED and found.outside[attempt] == intruder.REFUSED:
        pytest.skip("this machine keeps it from all processes")
    assert found.outside[attempt] != intruder.REFUSED


def test_there_is_no_key_in_its_environment(found: Found) -> None:
    assert found.inside["environment"].keys() <= {
        *("LC_ALL", "OPENBLAS_NUM_THREADS"),
        "GRPC_ENABLE_FORK_SUPPORT",  # which our own package sets in there
    }
    assert SECRET not in json.dumps(found.inside)


def test_nothing_is_open_but_the_file_and_the_ways_out(found: Found) -> None:
    assert found.inside["descriptors"] == [0, 1, 2]


def test_no_file_was_changed_and_nobody_was_called(found: Found) -> None:
    assert found.after == found.before
    if found.held.seccomp:
        assert found.callers == 0


def test_the_server_says_at_its_start_what_holds(found: Found) -> None:
    assert found.told["landlock"] == found.held.landlock
    assert found.told["seccomp"] == found.held.seccomp
    lacking = found.held.lacking()
    assert found.told["level"] == ("warning" if lacking else "info")
    assert found.told.get("open_to_them", "") == ", ".join(lacking)
