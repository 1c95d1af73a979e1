"""Says where a test hangs, before its limit ends the process that it runs in.

pytest-timeout shows the stacks of threads, where nothing is of a test that waits for an event: so
here stands what each task waits for.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from types import CodeType, FrameType

import pytest

AFTER = 240
"""Seconds: less than a test's limit in pyproject.toml."""

_EVERY = 5


class Watch:
    """Watches, in a thread of its own, how long the present test takes."""

    def __init__(self, told_to: int) -> None:
        """`told_to` is a descriptor that nothing captures."""
        self._present: tuple[str, float] | None = None
        self._told_to = told_to
        threading.Thread(target=self._run, name="hangs", daemon=True).start()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._present = (item.nodeid, time.monotonic())
        try:
            return (yield)
        finally:
            self._present = None

    def _run(self) -> None:
        told = None
        while True:
            time.sleep(_EVERY)
            present = self._present
            if present and present is not told and time.monotonic() - present[1] > AFTER:
                told = present
                os.write(self._told_to, f"\n{present[0]} hangs\n{waiting()}\n".encode())


def waiting() -> str:
    """What each task of all loops waits for, a line a frame, the innermost last; tasks that wait
    for the same are counted."""
    found: dict[str, int] = {}
    for task in list(asyncio.tasks._all_tasks):  # type: ignore[attr-defined]
        if not task.done():
            stack = "\n".join(f"    {line}" for line in _frames(task.get_coro()))
            found[stack] = found.get(stack, 0) + 1
    return "\n".join(f"{count} x\n{stack}" for stack, count in found.items())


_KINDS = (
    ("cr_code", "cr_frame", "cr_await"),
    ("gi_code", "gi_frame", "gi_yieldfrom"),
    ("ag_code", "ag_frame", "ag_await"),
)
"""What coroutines, generators and asynchronous generators call the same."""


def _frames(awaited: object) -> Iterator[str]:
    while awaited is not None:
        for code_name, frame_name, next_name in _KINDS:
            code: CodeType | None = getattr(awaited, code_name, None)
            frame: FrameType | None = getattr(awaited, frame_name, None)
            if code is not None and frame is not None:
                yield f"{code.co_filename}:{frame.f_lineno} {code.co_qualname}"
                awaited = getattr(awaited, next_name)
                break
        else:
            yield repr(awaited)[:200]
            return
