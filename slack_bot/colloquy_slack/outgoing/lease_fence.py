"""Fences changes in Slack: only the process that owns the workspace's lease makes them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_CANCEL_GRACE = 3.0
"""Seconds that a change on its way gets when the process is told to end."""


class LeaseExpired(Exception):
    """The lease ran out: another process may serve the workspace now."""


async def fenced(lease_left: Callable[[], float], change: Coroutine[Any, Any, T]) -> T:
    """Make a change for as long as the lease lasts. Raises LeaseExpired.

    One that is on its way when this is cancelled gets a moment: Slack may make it all the same,
    and a next process that looked too early would make it again.
    """
    changing = asyncio.create_task(change)
    try:
        while not changing.done():
            left = lease_left()
            if left <= 0:
                raise LeaseExpired
            await asyncio.wait({changing}, timeout=left)
    except asyncio.CancelledError:
        await asyncio.wait({changing}, timeout=min(_CANCEL_GRACE, max(0.0, lease_left())))
        raise
    finally:
        changing.cancel()
        await asyncio.gather(changing, return_exceptions=True)
    return changing.result()
