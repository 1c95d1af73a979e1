"""What child processes are left with on kernels of different ages, and what closes the memory of
those that hold keys."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest
from colloquy_server.confinement import Confinement, landlock
from colloquy_server.files import extraction
from colloquy_server.files.extraction import Extractor

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone confines here")

# Refuses Landlock, and further filters of system calls, as a kernel without them does.
OLD_KERNEL = """
import ctypes, platform
from colloquy_server.confinement import seccomp as s

no_landlock = s._instruction(s._RETURN, s._REFUSE)
no_filter = [
    s._instruction(s._LOAD, s._argument(0)),
    s._instruction(s._EQUAL, s._PR_SET_SECCOMP, otherwise=1),
    s._instruction(s._RETURN, s._REFUSE),
]
prctl = {"x86_64": 157, "aarch64": 167}[platform.machine()]
code = b"".join([
    s._instruction(s._LOAD, s._NUMBER_AT),
    *s._when(444, [no_landlock]),
    *s._when(prctl, [*no_filter, s._instruction(s._RETURN, s._ALLOW)]),
    s._instruction(s._RETURN, s._ALLOW),
])
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(s._Program(len(code) // 8, code))) == 0
"""

TELL = """
import asyncio
from colloquy_server import logs, serving
logs.configure("json")
asyncio.run(serving.log_confinement())
logs.drain()
"""

LANDLOCK = """
import ctypes, importlib, os, signal, socket, sys
from pathlib import Path
from colloquy_server import confinement

confinement.landlock.version = lambda: int(sys.argv[1])
held = confinement.confine_local_model(Path(sys.argv[2]))
assert held == confinement.Confinement(int(sys.argv[1]), False), held

def is_refused(attempt):
    try:
        attempt()
    except PermissionError:
        return True
    return False

sys.stdout.write(" ".join(str(int(is_refused(attempt))) for attempt in (
    lambda: open(sys.argv[2]),
    lambda: importlib.import_module("wave"),
    lambda: open(sys.argv[3]),
    lambda: open("/proc/%s/environ" % os.getppid()),
    lambda: open(sys.argv[2], "a"),
    lambda: os.truncate(sys.argv[3], 0),
    lambda: socket.create_server(("127.0.0.1", 0)),
    lambda: socket.create_connection(("127.0.0.1", int(sys.argv[4]))),
    lambda: os.kill(os.getppid(), 0),
)))
"""

DUMPABLE = """
import ctypes, sys
{call}
print("dumpable:", ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
"""


async def printed(program: str, *arguments: str, **environment: str) -> str:
    """What a program of Python says, which has to end well."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={"PATH": os.environ["PATH"], **environment},
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


async def test_a_kernel_that_protects_nothing_is_told_at_the_start() -> None:
    probe = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-m", "colloquy_server.confinement"), stdout=asyncio.subprocess.PIPE
    )
    held = Confinement(**json.loads((await probe.communicate())[0]))
    if not held.seccomp:
        pytest.skip("this kernel filters no system calls")
    (line,) = (await printed(OLD_KERNEL + TELL)).splitlines()
    told = json.loads(line)
    assert told["level"] == "warning"
    assert told["event"] == "child processes are not fully confined"
    assert told["open_to_them"] == "files, other processes, network, signals"
    assert (told["landlock"], told["seccomp"]) == (0, False)


def test_what_is_lacking_is_named() -> None:
    assert Confinement(7, seccomp=True).lacking() == []
    assert Confinement(1, seccomp=True).lacking() == []
    assert Confinement(0, seccomp=True).lacking() == ["files"]
    assert Confinement(6, seccomp=False).lacking() == ["other processes", "network"]
    assert Confinement(4, seccomp=False).lacking() == ["other processes", "network", "signals"]


@pytest.mark.parametrize("version", range(1, 8))
async def test_each_version_of_landlock_keeps_what_it_knows(version: int, tmp_path: Path) -> None:
    """As the local model's process uses it: its weights and Python, and a port to listen on."""
    if version > landlock.version():
        pytest.skip("this kernel's Landlock is older")
    weights, secret = tmp_path / "weights", tmp_path / "secret"
    for file in (weights, secret):
        file.write_text("kept")
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        arguments = (str(version), str(weights), str(secret), str(port))
        found = (await printed(LANDLOCK, *arguments)).split()
    read_weights, imported, *refused = [number == "1" for number in found]
    assert not read_weights
    assert not imported
    read, read_environment, wrote, cut, listened, called, signalled = refused
    assert read
    assert read_environment
    assert wrote
    assert cut == (version >= 3)
    assert not listened
    assert called == (version >= 4)
    assert signalled == (version >= 6)


@pytest.mark.parametrize(
    "call",
    [
        "from colloquy_server.process import run_server; run_server()",
        "from colloquy_server.process import run_migrations; run_migrations()",
        (
            "import socket; from colloquy_server.worker import run_worker; "
            "run_worker(1, socket.socket().detach())"
        ),
        "from colloquy_slack.process import run_bot; run_bot()",
    ],
    ids=["server", "migrations", "worker", "bot"],
)
async def test_processes_with_keys_close_their_memory_before_they_read_them(
    call: str, tmp_path: Path
) -> None:
    """Each ends at once for want of settings; what it closed stays closed."""
    said = await printed(
        DUMPABLE.format(call=call),
        AI_MODELS_FILE="missing.yml",
        DATABASE_URL=f"sqlite:///{tmp_path}/missing/x.db",
        LEASE_TTL="x",
    )
    assert said.splitlines()[-1] == "dumpable: 0"


async def test_what_the_server_was_left_open_is_closed_in_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uvloop, on which servers run, hands it on."""
    reader = (
        "import os, runpy, sys\n"
        "from colloquy_server.files.extractors import __main__ as worker\n"
        "def read(file, notes):\n"
        "    for number in range(256):\n"
        "        try:\n"
        "            os.fstat(number)\n"
        "            yield f'{number} '\n"
        "        except OSError:\n"
        "            pass\n"
        "worker.READERS['text/html'] = read\n"
        "worker.main()\n"
    )
    monkeypatch.setattr(extraction, "_WORKER", (sys.executable, "-I", "-c", reader))
    page = tmp_path / "page.html"
    page.write_text("<p>")
    left_open = os.open(page, os.O_RDWR)
    os.set_inheritable(left_open, True)
    try:
        with page.open("rb") as file:
            found = await Extractor().text("a", file, "text/html")
    finally:
        os.close(left_open)
    assert found.beginning.split() == ["0", "1", "2"]
