"""Receivers that say wrong dates, or whose names nobody answers for, are nobody else's trouble."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import pytest
from colloquy_server.providers.errors import from_status
from colloquy_server.webhooks.addresses import PublicResolver
from colloquy_server.webhooks.sender import _seconds

DATES = (
    "Mon, 99999999999999999999 Jan 2030 00:00:00 GMT",
    "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
    "Mon, 01 Jan 2030 00:00:00 +99999999999999999",
)


@pytest.mark.parametrize("date", DATES)
def test_a_date_that_no_calendar_holds_asks_for_nothing(date: str) -> None:
    assert _seconds(date) == 0
    assert from_status(429, None, {"Retry-After": date}).retry_after is None


async def test_names_that_nobody_answers_for_keep_no_provider_from_being_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answered = threading.Event()
    ask = socket.getaddrinfo

    def silent(host: str, *args: Any, **options: Any) -> Any:
        if host == "silent.example":
            answered.wait()
            raise socket.gaierror
        return ask(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    resolver = PublicResolver()
    waiting = [asyncio.create_task(resolver.resolve("silent.example", 443)) for _ in range(40)]
    try:
        await asyncio.sleep(0)
        async with asyncio.timeout(30):
            await asyncio.get_running_loop().getaddrinfo("localhost", 443)
            await asyncio.to_thread(bool)
        assert not any(task.done() for task in waiting)
    finally:
        answered.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(result, OSError) for result in results)
