"""What the processes that the server starts give up, before they read what strangers sent.

They run as the server's user, who may read every key and every conversation. So they are started
with an environment of their own, and give up what the kernel lets them: other files (Landlock),
the network, other processes and their memory (Landlock and a filter of system calls).
"""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from colloquy_server.confinement import landlock, seccomp

ENVIRONMENT = {"LC_ALL": "C.UTF-8"}
"""What every child process is given of the environment: nothing of the server's."""

_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38

_LIBRARIES = (
    *("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache"),
    *("/nix/store", "/gnu/store"),
)
"""Where systems keep shared libraries, which modules load that are imported late."""

_PROCESSORS = ("/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system")
"""What llama.cpp reads to know how many processors and how much memory there are."""

_TCP = 4
_SIGNALS = 6
"""The versions of Landlock that these came with."""


@dataclass(frozen=True, slots=True)
class Confinement:
    """What holds for a process."""

    landlock: int
    """The version of Landlock, 0 without it."""
    seccomp: bool
    """Whether system calls are filtered."""

    def lacking(self) -> list[str]:
        """What this machine does not protect from a process that reads strangers' files: to be
        told to operators. Nothing where all holds."""
        found = []
        if not self.landlock:
            found.append("files")
        if not self.seccomp:
            found += ["other processes", "network"]
            if self.landlock < _SIGNALS:
                found.append("signals")
        return found

    def dump(self) -> dict[str, int | bool]:
        """The fields of a log line."""
        return asdict(self)


def confine_extraction() -> Confinement:
    """Leaves this process what it has opened, its memory, and the reading of Python and its
    libraries. Raises OSError when what the kernel has does not work."""
    close_inherited()
    _give_up_privileges()
    version = landlock.restrict(_of_python())
    return Confinement(version, seccomp.restrict())


def close_inherited() -> None:
    """Closes all that is open but standard input, output and error: uvloop hands on what other
    programs and libraries left open for children."""
    with suppress(FileNotFoundError):  # in a container without /proc
        for name in os.listdir("/dev/fd"):
            if int(name) > 2:
                with suppress(OSError):  # the one that lists them
                    os.close(int(name))


def confine_local_model(weights: Path) -> Confinement:
    """Leaves this process the reading of its weights, of Python and of what processors there are,
    and a port to listen on. Raises OSError when what the kernel has does not work."""
    _give_up_privileges()
    readable = [*_of_python(), weights, *map(Path, _PROCESSORS)]
    return Confinement(landlock.restrict(readable, may_listen=True), seccomp=False)


def _give_up_privileges() -> None:
    """No program gives this process rights that it has not, and no process of the same user reads
    its memory or its environment."""
    os.chdir("/")
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value in ((_PR_SET_NO_NEW_PRIVS, 1), (_PR_SET_DUMPABLE, 0)):
        if libc.prctl(option, value, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl")


def _of_python() -> list[Path]:
    """The folders of Python, of what is installed, and of this package. Not other folders that
    modules may come from: those are somebody's sources, with who knows what beside them."""
    prefixes = {Path(prefix) for prefix in (sys.prefix, sys.base_prefix, sys.exec_prefix)}
    modules = [Path(entry) for entry in sys.path if entry]
    installed = [path for path in modules if any(prefix in path.parents for prefix in prefixes)]
    package = Path(__file__).parents[1]
    libraries = [prefix / "lib" for prefix in prefixes]
    return [*installed, package, *libraries, *map(Path, _LIBRARIES)]
