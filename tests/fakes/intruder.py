"""What code would try that has got into the process that reads a file.

This module's source is sent as a file, and run there: so it needs nothing but Python. Run as a
program, it tries the same outside.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

REFUSED = "refused"

_libc = ctypes.CDLL(None, use_errno=True)
_REFUSALS = (errno.EPERM, errno.EACCES, errno.ENOSYS)


class Targets:
    """What it knows of the machine; as one who attacks may."""

    folder: str
    """The server's working folder, with `.env`, `conversations.db`, `files/blob` and `.ssh/key`."""
    server: int
    """The server's process."""
    neighbour: int
    """Another process of the same user."""
    address: int
    """An address in the neighbour's memory."""
    tcp: int
    """Ports of this machine that somebody listens on."""
    udp: int
    unix: str
    """A Unix socket that somebody listens on, and an abstract one."""
    abstract: str

    def __init__(self, values: dict[str, Any]) -> None:
        self.__dict__.update(values)

    def path(self, name: str) -> str:
        """Of a file in the server's folder."""
        return os.path.join(self.folder, name)


Attempt = Callable[[Targets], object]


def call(number: int, *arguments: object) -> int:
    """A system call by its number, those after 423 being the same everywhere."""
    result = int(_libc.syscall(number, *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return result


def function(name: str, *arguments: object) -> int:
    """A function of the C library that says by -1 what went wrong."""
    result = int(getattr(_libc, name)(*arguments))
    if result == -1:
        raise OSError(ctypes.get_errno(), "refused")
    return result


def read(path: str) -> bytes:
    """The beginning of a file."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.read(descriptor, 64) or b"nothing"
    finally:
        os.close(descriptor)


def read_memory(pid: int, address: int) -> int:
    """Copies from another process's memory; an address that is none was looked for, and so
    allowed."""
    buffer = ctypes.create_string_buffer(8)
    here = (ctypes.c_void_p * 2)(ctypes.addressof(buffer), 8)
    there = (ctypes.c_void_p * 2)(address, 8)
    try:
        return function("process_vm_readv", pid, here, 1, there, 1, 0)
    except OSError as error:
        if error.errno == errno.EFAULT:
            return 0
        raise


def connect(family: int, kind: int, address: Any) -> object:
    """Begins a connection, which may take for ever to come about."""
    with socket.socket(family, kind) as ours:
        ours.setblocking(False)
        try:
            ours.connect(address)
        except (BlockingIOError, ConnectionRefusedError):
            pass
        except OSError as error:
            if error.errno not in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL):
                raise
    return "went out"


def send(address: tuple[str, int]) -> object:
    """A datagram."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours:
        return ours.sendto(b"what was found", address)


def listen() -> object:
    """A port for those outside."""
    with socket.socket() as ours:
        ours.bind(("127.0.0.1", 0))
        ours.listen()
        return ours.getsockname()


def new_process() -> object:
    """A process of its own."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return pid


def run_program() -> object:
    """Another program, in its place; there is none of that name, which only who may hears."""
    try:
        os.execv("/no-such-program", ["no-such-program"])
    except FileNotFoundError:
        return "looked for it"


def take_owner(pid: int) -> object:
    """Has the kernel signal another process when something comes through a pipe."""
    import fcntl

    reading, writing = os.pipe()
    fcntl.fcntl(reading, fcntl.F_SETOWN, pid)
    return writing


def copy_descriptor(pid: int) -> int:
    """Takes another process's standard input."""
    return call(438, call(434, pid, 0), 0, 0)


def by_pidfd(pid: int) -> int:
    """Signals a process by a descriptor of it."""
    return call(424, call(434, pid, 0), 0, None, 0)


ATTEMPTS: dict[str, Attempt] = {
    # Keys.
    "read the server's environment": lambda t: read(f"/proc/{t.server}/environ"),
    "read a neighbour's environment": lambda t: read(f"/proc/{t.neighbour}/environ"),
    "read the server's memory": lambda t: os.open(f"/proc/{t.server}/mem", os.O_RDONLY),
    "read a neighbour's memory": lambda t: os.open(f"/proc/{t.neighbour}/mem", os.O_RDONLY),
    "copy the server's memory": lambda t: read_memory(t.server, t.address),
    "copy a neighbour's memory": lambda t: read_memory(t.neighbour, t.address),
    "trace the server": lambda t: function("ptrace", 0x4206, t.server, 0, 0),
    "trace a neighbour": lambda t: function("ptrace", 0x4206, t.neighbour, 0, 0),
    "list the server's descriptors": lambda t: os.listdir(f"/proc/{t.server}/fd"),
    "list a neighbour's descriptors": lambda t: os.listdir(f"/proc/{t.neighbour}/fd"),
    "take the server's descriptors": lambda t: copy_descriptor(t.server),
    "take a neighbour's descriptors": lambda t: copy_descriptor(t.neighbour),
    "list all processes": lambda _: os.listdir("/proc"),
    # Files.
    "list the server's folder": lambda t: os.listdir(t.folder),
    "read the database": lambda t: read(t.path("conversations.db")),
    "read .env": lambda t: read(t.path(".env")),
    "read a stored file": lambda t: read(t.path("files/blob")),
    "read a key of SSH": lambda t: read(t.path(".ssh/key")),
    "read the users": lambda _: read("/etc/passwd"),
    "write the database": lambda t: os.open(t.path("conversations.db"), os.O_WRONLY),
    "append to .env": lambda t: os.open(t.path(".env"), os.O_WRONLY | os.O_APPEND),
    "cut a stored file": lambda t: os.truncate(t.path("files/blob"), 1),
    "make a file": lambda t: os.open(t.path("new"), os.O_WRONLY | os.O_CREAT, 0o600),
    "make a file for a moment": lambda _: os.open("/tmp", os.O_WRONLY | os.O_TMPFILE, 0o600),
    "make a folder": lambda t: os.mkdir(t.path("folder")),
    "make a link": lambda t: os.symlink("/etc", t.path("symlink")),
    "link a file": lambda t: os.link(t.path(".env"), t.path("link")),
    "make a pipe": lambda t: os.mkfifo(t.path("fifo")),
    "open a file to all": lambda t: os.chmod(t.path("conversations.db"), 0o666),
    "give a file away": lambda t: os.chown(t.path("conversations.db"), os.getuid(), os.getgid()),
    "change a file's time": lambda t: os.utime(t.path("conversations.db"), (1, 1)),
    "rename a file": lambda t: os.rename(t.path("files/blob"), t.path("files/other")),
    "remove a file": lambda t: os.unlink(t.path(".ssh/key")),
    "write what it was given": lambda _: os.pwrite(0, b"another", 0),
    "share the memory of what it was given": lambda _: __import__("mmap").mmap(0, 1),
    # The network.
    "call a port of this machine": lambda t: connect(2, 1, ("127.0.0.1", t.tcp)),
    # Tests call nobody outside; but no machine is refused one and allowed the other of these.
    "call another address": lambda t: connect(2, 1, ("127.1.2.3", t.tcp)),
    "call by IPv6": lambda t: connect(10, 1, ("::1", t.tcp)),
    "send a datagram": lambda t: send(("127.0.0.1", t.udp)),
    "call a Unix socket": lambda t: connect(1, 1, t.unix),
    "call an abstract socket": lambda t: connect(1, 1, f"\0{t.abstract}"),
    "make a pair of sockets": lambda _: socket.socketpair(),
    "talk to the kernel by netlink": lambda _: socket.socket(16, socket.SOCK_RAW, 0),
    "listen": lambda _: listen(),
    "reach sockets by io_uring": lambda _: call(425, 4, ctypes.create_string_buffer(120)),
    # Other processes.
    "signal the server": lambda t: os.kill(t.server, signal.SIGCONT),
    "signal a neighbour": lambda t: os.kill(t.neighbour, signal.SIGCONT),
    "signal everybody": lambda _: os.kill(-1, 0),
    "signal the server by a descriptor": lambda t: by_pidfd(t.server),
    "signal a neighbour by a descriptor": lambda t: by_pidfd(t.neighbour),
    "signal a neighbour's thread": lambda t: function("tgkill", t.neighbour, t.neighbour, 0),
    "queue a signal": lambda t: function("sigqueue", t.neighbour, 0, None),
    "have the kernel signal a neighbour": lambda t: take_owner(t.neighbour),
    "slow a neighbour down": lambda t: os.setpriority(os.PRIO_PROCESS, t.neighbour, 5),
    "limit a neighbour": lambda t: resource.prlimit(t.neighbour, resource.RLIMIT_CORE, (0, 0)),
    "tie a neighbour down": lambda t: os.sched_setaffinity(t.neighbour, [0]),
    "make a process": lambda _: new_process(),
    "run a program": lambda _: run_program(),
    # Itself.
    "lift its limits": lambda _: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)),
    "share memory": lambda _: function("shmctl", function("shmget", 0, 4096, 0o600), 0, None),
}
"""Each thing that must not work, by what it is."""


def report(values: dict[str, Any]) -> str:
    """Tries everything; says as JSON what came of it, and what there is to be had without trying:
    the environment and the open descriptors."""
    targets = Targets(values)
    found = {}
    descriptors = [number for number in range(256) if is_open(number)]
    for name, attempt in ATTEMPTS.items():
        try:
            found[name] = f"worked: {attempt(targets)!r}"
        except OSError as error:
            is_refused = error.errno in _REFUSALS
            found[name] = REFUSED if is_refused else f"not refused: {error!r}"
    return json.dumps({"environment": dict(os.environ), "descriptors": descriptors, **found})


def is_open(descriptor: int) -> bool:
    """Whether something is open under this number."""
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    sys.stdout.write(report(json.loads(sys.argv[1])))
