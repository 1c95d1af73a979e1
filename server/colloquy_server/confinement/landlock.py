"""Landlock: what Linux lets a thread, and all that it starts later, give up of files, TCP and
signals. See landlock(7).

By ctypes: the libraries for it are pre-releases, or know files only.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

# The numbers of its system calls, the same on every machine.
_CREATE_RULESET = 444
_ADD_RULE = 445
_RESTRICT_SELF = 446

_ASK_VERSION = 1
_PATH_BENEATH = 1
_NET_PORT = 2

_READ_FILE = 1 << 2
_READ_FOLDER = 1 << 3
_BIND_TCP = 1 << 0

_FILE_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
"""All that can be given up of files, by the version that added something: reading, writing, running
and making them; then moving, truncating, and asking devices."""

_TCP_VERSION = 4
_TCP_RIGHTS = (1 << 2) - 1
"""Binding and connecting."""

_SCOPE_VERSION = 6
_SCOPES = (1 << 2) - 1
"""Abstract Unix sockets of others, and signals to others."""

_libc = ctypes.CDLL(None, use_errno=True)


def version() -> int:
    """The version of Landlock that this kernel has; 0 if it has none, or another system runs."""
    if sys.platform != "linux":
        return 0
    found = _libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _ASK_VERSION)
    return max(0, int(found))


def restrict(readable: Iterable[Path], *, may_listen: bool = False) -> int:
    """Leaves this thread the reading of these files and folders, of all files that it has not
    opened yet; no TCP but listening on a port that the system chooses, if `may_listen`; and signals
    and abstract sockets only among what it starts. Processes outside are closed to it in /proc too.

    Returns the version that does so, 0 if the kernel or what runs here does not let it: version 4
    is the first that knows TCP, 6 signals. It must have given up new privileges. Raises OSError.
    """
    known = version()
    if not known:
        return 0
    files = _FILE_RIGHTS[max(number for number in _FILE_RIGHTS if number <= known)]
    tcp = _TCP_RIGHTS if known >= _TCP_VERSION else 0
    scopes = _SCOPES if known >= _SCOPE_VERSION else 0
    attributes = struct.pack("=QQQ", files, tcp, scopes)  # zeros at the end are always understood
    ruleset = _call(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    try:
        for path in readable:
            _allow_reading(ruleset, path)
        if may_listen and tcp:
            any_port = struct.pack("=QQ", _BIND_TCP, 0)
            _call(_ADD_RULE, ruleset, _NET_PORT, any_port, 0)
        try:
            _call(_RESTRICT_SELF, ruleset, 0)
        except PermissionError:  # a container's own filter
            return 0
    finally:
        os.close(ruleset)
    return known


def _allow_reading(ruleset: int, path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # what is not there, or closed to this user anyway
        return
    try:
        rights = _READ_FILE | _READ_FOLDER if path.is_dir() else _READ_FILE
        _call(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", rights, descriptor), 0)
    finally:
        os.close(descriptor)


def _call(number: int, *arguments: object) -> int:
    result: int = _libc.syscall(number, *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"Landlock: {os.strerror(code)}")
    return result
