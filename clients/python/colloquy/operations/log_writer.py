"""Writes a process's log to standard error, and never makes anybody wait for who reads it."""

from __future__ import annotations

import os
import select
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import Self

STDERR = 2
"""The number of standard error."""

_DRAIN_TIMEOUT = 2.0
"""Seconds that a process's last lines get at its end."""

_CAPACITY = 1 << 20
"""Bytes that wait for a reader: some thousand lines."""


class LogWriter:
    """A file of whole lines, which a thread of its own writes.

    Standard error is often a pipe: when nobody reads it, a write hangs for ever. So lines wait in
    a queue. When that is full the oldest go; how many is counted, and said where they are missing
    once writing works again.
    """

    def __init__(
        self, descriptor: int, describe_loss: Callable[[int], str], *, capacity: int = _CAPACITY
    ) -> None:
        """`descriptor` is of the open file; `describe_loss` makes a line of a count of lines."""
        self._descriptor = descriptor
        self._describe_loss = describe_loss
        self._capacity = capacity
        self.lost = 0
        """Lines that were never written, since the start."""
        self._untold = 0
        self._lines: deque[bytes] = deque()
        self._size = 0
        self._is_writing = False
        self._changed = threading.Condition()  # an RLock: a finalizer may log in between
        threading.Thread(target=self._run, name="log-writer", daemon=True).start()

    @classmethod
    def to_stderr(cls, describe_loss: Callable[[int], str]) -> Self:
        """A process's own: nothing is written anywhere where it has no standard error, whose number
        is soon another file's."""
        return cls(STDERR if sys.stderr else os.open(os.devnull, os.O_WRONLY), describe_loss)

    def write(self, text: str) -> None:
        """Takes a whole line, or several."""
        line = text.encode("utf-8", "backslashreplace")
        with self._changed:
            self._lines.append(line)
            self._size += len(line)
            while self._size > self._capacity and len(self._lines) > 1:
                self._size -= len(self._lines.popleft())
                self._lose(1)
            self._changed.notify_all()

    def flush(self) -> None:
        """Does nothing: the thread writes as soon as it can."""

    def drain(self, timeout: float = _DRAIN_TIMEOUT) -> bool:
        """Waits until all is written, for so many seconds at most. Returns whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._lines and not self._is_writing, timeout)

    def _lose(self, count: int) -> None:
        self.lost += count
        self._untold += count

    def _run(self) -> None:
        while True:
            with self._changed:
                self._is_writing = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._lines)
                self._is_writing = True
                untold, self._untold = self._untold, 0
                batch = self._take()
            if untold:
                batch.insert(0, self._describe_loss(untold).encode())
            try:
                self._write(b"".join(batch))
            except OSError:  # nobody can read any more, or the disk is full
                with self._changed:
                    self._lose(len(batch) - bool(untold))
                    self._untold += untold

    def _take(self) -> list[bytes]:
        """The lines that one write may take: pipes keep no more together than this, and other
        processes may write into the same one."""
        batch = [self._lines.popleft()]
        size = len(batch[0])
        while self._lines and size + len(self._lines[0]) <= select.PIPE_BUF:
            batch.append(self._lines.popleft())
            size += len(batch[-1])
        self._size -= size
        return batch

    def _write(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:  # whoever gave us the file made it so
                poll = select.poll()
                poll.register(self._descriptor, select.POLLOUT)
                poll.poll()
