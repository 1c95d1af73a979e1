"""Changes in Slack, made by nobody but the process that holds the workspace's lease."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_LAST_MOMENT = 3.0
"""Seconds that a change on its way gets when the process is told to end."""


class LeaseLost(Exception):
    """Another process serves the workspace now."""


async def while_leased(lease_left: Callable[[], float], change: Coroutine[Any, Any, T]) -> T:
    """Make a change for as long as the lease is held. Raises LeaseLost.

    One that is on its way when this is cancelled gets a moment: Slack may make it all the same,
    and a next process that looked too early would make it again.
    """
    changing = asyncio.create_task(change)
    try:
        while not changing.done():
            left = lease_left()
            if left <= 0:
                raise LeaseLost
            await asyncio.wait({changing}, timeout=left)
    except asyncio.CancelledError:
        await asyncio.wait({changing}, timeout=min(_LAST_MOMENT, max(0.0, lease_left())))
        raise
    finally:
        changing.cancel()
        await asyncio.gather(changing, return_exceptions=True)
    return changing.result()
