"""What the double writes down: calls, faults on demand, statistics, and waiting for a state."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.slack.errors import invalid_arguments
from tests.fakes.slack.state import Json


@dataclass
class Call:
    """One call of the Web API, and what became of it."""

    number: int
    method: str
    args: Json
    at: float
    """The double's time when it came."""
    team: str = ""
    token: str = ""
    ok: bool | None = None
    """None: not answered yet."""
    error: str | None = None
    result: Json = field(default_factory=dict)
    retry_after: int | None = None
    """Seconds, of a 429."""
    answered_at: float | None = None

    def required(self, name: str) -> Any:
        """An argument that has to be there.

        Raises:
            SlackError: `invalid_arguments`.
        """
        value = self.args.get(name)
        if value is None or value == "":
            raise invalid_arguments(f"missing required field: {name}")
        return value

    def text(self, name: str) -> str:
        value = self.args.get(name)
        return "" if value is None else str(value)

    def flag(self, name: str) -> bool:
        return self.args.get(name) in (True, 1, "1", "true", "True")

    def json(self, name: str, default: Any = None) -> Any:
        """An argument that is JSON, as a value or as a string of a form."""
        value = self.args.get(name)
        if value is None or value == "":
            return default
        if isinstance(value, str):
            try:
                return json.loads(value)
            except json.JSONDecodeError:
                raise invalid_arguments(f"must be valid json [json-pointer:/{name}]") from None
        return value

    @property
    def content(self) -> tuple[str, str]:
        """What an edit would make of its message."""
        blocks = json.dumps(self.args.get("blocks"), sort_keys=True)
        return (self.text("text") + self.text("markdown_text"), blocks)


@dataclass(frozen=True)
class RateStatistics:
    """429s, and what they did to final edits.

    The final edit of a message is the content that was last asked for, however often it was tried.
    """

    refused: dict[str, int]
    """429s given, by method."""
    final_edits_refused: int
    """429s given to calls that carried a message's final content."""
    final_edits_lost: list[tuple[str, str]]
    """(channel, ts) of messages whose last edit was refused and never came through."""


class Recorder:
    """All calls, and a bell for whoever waits for the double to reach a state."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._waiters: set[asyncio.Event] = set()

    def changed(self) -> None:
        """Something happened: wake those who wait."""
        for waiter in self._waiters:
            waiter.set()

    async def wait_for(self, condition: Callable[[], Any], seconds: float) -> Any:
        """Wait until the condition holds, looking whenever something happened.

        Returns:
            What the condition returned.

        Raises:
            TimeoutError: it does not hold after so many real seconds.
        """
        waiter = asyncio.Event()
        self._waiters.add(waiter)
        try:
            async with asyncio.timeout(seconds):
                while not (value := condition()):
                    waiter.clear()
                    await waiter.wait()
                return value
        finally:
            self._waiters.discard(waiter)

    def of(self, method: str | None, error: str | None) -> list[Call]:
        return [
            call
            for call in self.calls
            if (method is None or call.method == method) and (error is None or call.error == error)
        ]

    def rate_statistics(self) -> RateStatistics:
        refused: dict[str, int] = {}
        edits: dict[tuple[str, str], list[Call]] = {}
        for call in self.calls:
            if call.retry_after is not None:
                refused[call.method] = refused.get(call.method, 0) + 1
            if call.method == "chat.update":
                edits.setdefault((call.text("channel"), call.text("ts")), []).append(call)
        finals_refused, lost = 0, []
        for message, attempts in edits.items():
            final = [call for call in attempts if call.content == attempts[-1].content]
            finals_refused += sum(call.retry_after is not None for call in final)
            if not attempts[-1].ok:
                lost.append(message)
        return RateStatistics(refused, finals_refused, lost)
