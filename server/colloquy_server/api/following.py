"""Writes a watcher's events to its stream, until it is done."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from colloquy_server.api.handlers import Context
from colloquy_server.api.watcher import Watcher


async def follow(
    watcher: Watcher,
    events: list[bytes],
    context: Context,
    heartbeat_interval: float,
    check_seen: Callable[[], Awaitable[object]] | None,
) -> None:
    """Writes the events that are due, and then what comes; `heartbeat_interval` is in seconds.

    `check_seen` raises when the caller sees the conversation no more. It is asked when that may
    have changed, before anything else is written; None for a caller who sees all.
    """
    watched = watcher.feed
    clock = asyncio.get_running_loop().time
    silent_at = clock() + heartbeat_interval
    checked = watcher.audience_version
    while True:
        if watcher.audience_version > checked:
            checked = watcher.audience_version
            if check_seen is not None:
                await check_seen()
        for event in events:
            await context.write(event)
        if events:
            silent_at = clock() + heartbeat_interval
        if watcher.done:
            return
        if watcher.is_behind:
            events = await watcher.catch_up()
            continue
        events = watcher.take()
        if watcher.audience_version > checked:
            continue
        # From here to the wait nothing else runs, so no change can be missed. What woke it may
        # be for others: that is no reason to stay silent for longer.
        if not events:
            if watched.broken is not None:  # all that was to be told is told
                raise watched.broken
            await watched.changed(silent_at - clock())
            if clock() >= silent_at:
                events = watcher.take() or [watcher.heartbeat()]
