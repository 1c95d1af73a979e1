"""What ends a call of gRPC's sync API from another thread: silence, and whoever closes a stream."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Self

import grpc

from colloquy.closing import Closing


class Line:
    """The calls of a stream, of which there is one at a time, until somebody ends it for good."""

    def __init__(self, changed: threading.Condition) -> None:
        """`changed` is notified when the line is over."""
        self.is_over = False
        self._changed = changed
        self._call: Any = None

    def use(self, call: Any) -> None:
        """Take a new call; it is cancelled at once if the line is over."""
        with self._changed:
            self._call = call
            is_over = self.is_over
        if is_over:
            call.cancel()

    def end(self) -> None:
        """End the line. Whoever reads from its call, or waits for the next one, leaves."""
        with self._changed:
            self.is_over = True
            self._changed.notify_all()
            call = self._call
        if call is not None:
            call.cancel()


class Watchdog(Closing):
    """Cancels a call that says nothing for too long: the sync API's iterators know no timeout."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._changed = threading.Condition()
        # On the monotonic clock: when the call has been silent for too long.
        self._deadline = float("inf")
        # Whether anybody waits for the call: while its last answer is being used nobody does.
        self._waited_for = False
        self._over = False
        self._bit = False

    def __enter__(self) -> Self:
        threading.Thread(target=self._watch, name="colloquy-watchdog", daemon=True).start()
        return super().__enter__()

    def close(self) -> None:
        """Watch no more."""
        with self._changed:
            self._over = True
            self._changed.notify()

    def guard(self, patience: Callable[[], float]) -> Iterator[Any]:
        """Yield the call's answers. Raises TimeoutError when one takes longer than `patience`."""
        answers = iter(self._call)
        while True:
            self._expect(patience())
            try:
                answer = next(answers)
            except StopIteration:
                return
            except grpc.RpcError:
                if self._bit:
                    raise TimeoutError from None
                raise
            self._waited_for = False
            yield answer

    def _expect(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        with self._changed:
            # The thread sleeps until the old deadline and then looks again: only a nearer one has
            # to wake it, which is rare, so that an answer costs no switch of threads.
            nearer = deadline < self._deadline
            self._deadline, self._waited_for = deadline, True
            if nearer:
                self._changed.notify()

    def _watch(self) -> None:
        with self._changed:
            while not self._over:
                wait = self._deadline - time.monotonic()
                if wait > 0:
                    self._changed.wait(min(wait, threading.TIMEOUT_MAX))
                elif self._waited_for:
                    self._bit = True
                    break
                else:
                    self._deadline = float("inf")
        if self._bit:
            self._call.cancel()
