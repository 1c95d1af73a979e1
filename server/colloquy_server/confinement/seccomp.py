"""A filter of system calls for a process that computes: it reads what it was given and Python's own
files, has memory and threads, and writes to what is open. All else is refused as if this kernel did
not have it: sockets, other processes, programs, and every change of a file. See seccomp(2).

By ctypes: the library for it is a wrapper of one that most machines lack.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""As the kernel names them to a filter."""

_CALLS = {
    # What was given, and the files of Python and its libraries.
    "read": (0, 63),
    "readv": (19, 65),
    "pread64": (17, 67),
    "preadv": (295, 69),
    "lseek": (8, 62),
    "write": (1, 64),
    "writev": (20, 66),
    "close": (3, 57),
    "close_range": (436, 436),
    "dup": (32, 23),
    "stat": (4, None),
    "fstat": (5, 80),
    "lstat": (6, None),
    "newfstatat": (262, 79),
    "statx": (332, 291),
    "statfs": (137, 43),
    "fstatfs": (138, 44),
    "access": (21, None),
    "faccessat": (269, 48),
    "faccessat2": (439, 439),
    "readlink": (89, None),
    "readlinkat": (267, 78),
    "getcwd": (79, 17),
    "getdents64": (217, 61),
    "poll": (7, None),
    "ppoll": (271, 73),
    "select": (23, None),
    "pselect6": (270, 72),
    # Memory.
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "mincore": (27, 232),
    "brk": (12, 214),
    # Threads of its own, time and chance.
    "futex": (202, 98),
    "set_robust_list": (273, 99),
    "set_tid_address": (218, 96),
    "rseq": (334, 293),
    "membarrier": (324, 283),
    "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123),
    "getcpu": (309, 168),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132),
    "restart_syscall": (219, 128),
    "nanosleep": (35, 101),
    "clock_nanosleep": (230, 115),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "gettimeofday": (96, 169),
    "time": (201, None),
    "times": (100, 153),
    "getrandom": (318, 278),
    "exit": (60, 93),
    "exit_group": (231, 94),
    # What it is.
    "getpid": (39, 172),
    "getppid": (110, 173),
    "gettid": (186, 178),
    "getuid": (102, 174),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getegid": (108, 177),
    "getrlimit": (97, 163),
    "getrusage": (98, 165),
    "sysinfo": (99, 179),
    "uname": (63, 160),
}
"""What it may call, whatever the arguments: numbers on x86_64 and aarch64, None where there is no
such call."""

_OPEN = {"open": (2, None), "openat": (257, 56)}
_MMAP = (9, 222)
_CLONE = (56, 220)
_FCNTL = (72, 25)
_IOCTL = (16, 29)
_PRLIMIT = (302, 261)

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_MAP_SHARED = 1
"""A file that was given for reading and writing could be changed through memory that is shared."""
_CLONE_THREAD = 0x10000
_FCNTL_COMMANDS = (0, 1, 2, 3, 1030)
"""Duplicating a descriptor, its flags, and its mode. Others could have the kernel signal others."""
_IS_A_TERMINAL = 0x5401

# Instructions of the filter: load a word of the call's description, compare it, return.
_LOAD = 0x20
_EQUAL = 0x15
_ANY_BIT = 0x45
_RETURN = 0x06
_ALLOW = 0x7FFF0000
_REFUSE = 0x00050000 | errno.ENOSYS

_NUMBER_AT = 0
_ARCHITECTURE_AT = 4

_PR_SET_SECCOMP = 22
_MODE_FILTER = 2

_MISSING = (errno.EINVAL, errno.ENOSYS, errno.EACCES, errno.EPERM)
"""What a kernel says that has no filters, or lets nobody here have one."""


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def restrict() -> bool:
    """Puts the filter on this thread and all that it starts, for ever. It must have given up new
    privileges. Returns whether it is in force: not on other systems and other processors, and not
    where the kernel has no filters. Raises OSError."""
    machine = os.uname().machine
    # A Python of 32 bits makes other calls, also where the kernel has 64.
    if sys.platform != "linux" or machine not in _ARCHITECTURES or sys.maxsize < 1 << 32:
        return False
    code = _filter(machine)
    program = _Program(len(code) // 8, code)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program)) == 0:
        return True
    number = ctypes.get_errno()
    if number in _MISSING:
        return False
    raise OSError(number, f"seccomp: {os.strerror(number)}")


def _filter(machine: str) -> bytes:
    column = list(_ARCHITECTURES).index(machine)
    code = [
        _instruction(_LOAD, _ARCHITECTURE_AT),
        _instruction(_EQUAL, _ARCHITECTURES[machine], then=1),
        _instruction(_RETURN, _REFUSE),
        _instruction(_LOAD, _NUMBER_AT),
    ]
    for numbers in _CALLS.values():
        code += _when(numbers[column], [_instruction(_RETURN, _ALLOW)])
    for at, numbers in enumerate(_OPEN.values(), start=1):
        code += _when(numbers[column], _unless_any(at, _WRITES))
    code += _when(_MMAP[column], _unless_any(3, _MAP_SHARED))
    code += _when(
        _CLONE[column],
        [
            _instruction(_LOAD, _argument(0)),
            _instruction(_ANY_BIT, _CLONE_THREAD, otherwise=1),
            _instruction(_RETURN, _ALLOW),
            _instruction(_RETURN, _REFUSE),
        ],
    )
    code += _when(_FCNTL[column], _if_one_of(1, _FCNTL_COMMANDS))
    code += _when(_IOCTL[column], _if_one_of(1, [_IS_A_TERMINAL]))
    # Only the limits of this process itself, and only to look at them: the address of new ones is
    # empty in both of its halves.
    code += _when(
        _PRLIMIT[column],
        [
            *_unless(0, 0),
            *_unless(2, 0),
            _instruction(_LOAD, _argument(2) + 4),
            _instruction(_EQUAL, 0, then=1),
            _instruction(_RETURN, _REFUSE),
            _instruction(_RETURN, _ALLOW),
        ],
    )
    code.append(_instruction(_RETURN, _REFUSE))
    return b"".join(code)


def _when(number: int | None, code: list[bytes]) -> list[bytes]:
    """This code, which returns, for the call of that number, which is loaded."""
    if number is None:
        return []
    return [_instruction(_EQUAL, number, otherwise=len(code)), *code]


def _unless_any(argument: int, bits: int) -> list[bytes]:
    return [
        _instruction(_LOAD, _argument(argument)),
        _instruction(_ANY_BIT, bits, then=1),
        _instruction(_RETURN, _ALLOW),
        _instruction(_RETURN, _REFUSE),
    ]


def _unless(argument: int, value: int) -> list[bytes]:
    """Refuses the call if the low half of an argument is another one; goes on if not."""
    return [
        _instruction(_LOAD, _argument(argument)),
        _instruction(_EQUAL, value, then=1),
        _instruction(_RETURN, _REFUSE),
    ]


def _if_one_of(argument: int, values: tuple[int, ...] | list[int]) -> list[bytes]:
    code = [_instruction(_LOAD, _argument(argument))]
    for value in values:
        code.append(_instruction(_EQUAL, value, otherwise=1))
        code.append(_instruction(_RETURN, _ALLOW))
    return [*code, _instruction(_RETURN, _REFUSE)]


def _argument(number: int) -> int:
    """Where the low half of an argument is, on processors that put it first."""
    return 16 + 8 * number


def _instruction(code: int, value: int, *, then: int = 0, otherwise: int = 0) -> bytes:
    """One that compares goes on `then` or `otherwise` so many instructions further."""
    return struct.pack("=HBBI", code, then, otherwise, value)
