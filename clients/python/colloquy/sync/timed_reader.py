"""Reading a stream with a timeout, which the iterators of gRPC's sync API do not know."""

from __future__ import annotations

import threading
import time
from typing import Any

import grpc


class TimedReader:
    """Reads the answers of a call. A watchdog thread cancels the call when one is too late."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._answers = iter(call)
        self._changed = threading.Condition()
        # On the monotonic clock: when the call has been silent for too long.
        self._deadline = float("inf")
        # Whether anybody waits for the call: while its last answer is being used nobody does.
        self._waited_for = False
        self._closed = False
        self._timed_out = False
        try:
            threading.Thread(target=self._watch, name="colloquy-watchdog", daemon=True).start()
        except RuntimeError:  # there is no thread to be had
            call.cancel()
            raise

    def read(self, timeout: float) -> Any | None:
        """Return the next answer, None after the last.

        Raises TimeoutError when it does not come in time, grpc.RpcError when the call failed.
        """
        self._expect(timeout)
        try:
            answer = next(self._answers, None)
        except grpc.RpcError:
            if self._timed_out:
                raise TimeoutError from None
            raise
        self._waited_for = False
        return answer

    def close(self) -> None:
        """End the call, and watch over it no more; from any thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._call.cancel()

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
            while not self._closed:
                wait = self._deadline - time.monotonic()
                if wait > 0:
                    self._changed.wait(min(wait, threading.TIMEOUT_MAX))
                elif self._waited_for:
                    self._timed_out = True
                    break
                else:
                    self._deadline = float("inf")
        if self._timed_out:
            self._call.cancel()
