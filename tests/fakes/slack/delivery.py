"""How events reach the app: attempts until one is acknowledged, over Socket Mode or HTTP.

Slack waits 3 seconds for the acknowledgement and tries again at once, after a minute and after
five (https://docs.slack.dev/apis/events-api/#retries). Clicks and commands are not tried again:
the person sees an error instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from tests.fakes.slack.state import Json

if TYPE_CHECKING:
    from tests.fakes.slack.server import SlackDouble

Kind = Literal["events_api", "interactive", "slash_commands"]
Outcome = Literal["acked", "timeout", "http_error", "connection_failed"]

ACK_SECONDS = 3.0
RETRY_DELAYS = (0.0, 60.0, 300.0)
EVENTS_AN_HOUR = 30_000


@dataclass
class Attempt:
    at: float
    outcome: Outcome
    detail: str = ""
    response: Any = None
    """What the acknowledgement carried."""
    final: bool = False
    """Slack was told not to try again."""


@dataclass
class Delivery:
    """An event, click or command on its way."""

    kind: Kind
    payload: Json
    attempts: list[Attempt] = field(default_factory=list)
    given_up: bool = False
    _settled: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def acked(self) -> bool:
        return any(attempt.outcome == "acked" for attempt in self.attempts)

    @property
    def event(self) -> Json:
        event: Json = self.payload.get("event", {})
        return event

    @property
    def response(self) -> Any:
        """What the app acknowledged with."""
        return next((a.response for a in self.attempts if a.outcome == "acked"), None)

    async def settled(self) -> None:
        """Wait until it is acknowledged or given up."""
        await self._settled.wait()


class Courier:
    """Delivers, in the order in which things happen unless told otherwise."""

    def __init__(self, slack: SlackDouble) -> None:
        self.slack = slack
        self.deliveries: list[Delivery] = []
        self.ack_seconds = ACK_SECONDS
        self.retry_delays: Sequence[float] = RETRY_DELAYS
        self.events_an_hour = EVENTS_AN_HOUR
        self._held: list[Delivery] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._skip_wait = asyncio.Event()
        self._hours: dict[str, tuple[float, int]] = {}

    def send(self, kind: Kind, payload: Json) -> Delivery:
        """Begin to deliver."""
        delivery = Delivery(kind, payload)
        self.deliveries.append(delivery)
        if kind == "events_api" and self._over_the_hour(payload):
            delivery.given_up = True
            delivery._settled.set()
        elif self._held is not None and kind == "events_api":
            self._held.append(delivery)
        else:
            self._start(self._deliver(delivery))
        return delivery

    def hold(self) -> None:
        """Keep events back until `release`."""
        if self._held is None:
            self._held = []

    @property
    def held(self) -> list[Delivery]:
        """What is kept back."""
        return list(self._held or [])

    def release(self, *, times: int = 1, order: Sequence[int] | None = None) -> list[Delivery]:
        """Deliver what was kept back, all of it `times` times over, in an order of your choice.

        `order` is indexes into what was kept back; without it: as it happened.
        """
        held, self._held = self._held or [], None
        chosen = held if order is None else [held[index] for index in order]
        for delivery in chosen:
            self._start(self._deliver(delivery))
        for _ in range(times - 1):
            for delivery in chosen:
                self._start(self.attempt(delivery, number=1))
        return chosen

    def again(self, delivery: Delivery, times: int = 1) -> None:
        """Deliver once more what may have been acknowledged long ago."""
        for _ in range(times):
            self._start(self.attempt(delivery, number=1))

    def retry_now(self) -> None:
        """Make the retries that wait for their minute now."""
        self._skip_wait.set()
        self._skip_wait = asyncio.Event()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def attempt(
        self, delivery: Delivery, number: int = 0, reason: str = "http_timeout"
    ) -> None:
        """Try once. A number above 0 says that it is a retry."""
        transport = self.slack.http if self.slack.request_url else self.slack.socket
        attempt = await transport.deliver(delivery, number, reason if number else "")
        delivery.attempts.append(attempt)
        if attempt.outcome == "acked":
            delivery._settled.set()
        self.slack.recorder.changed()

    async def _deliver(self, delivery: Delivery) -> None:
        await self.attempt(delivery)
        delays = self.retry_delays if delivery.kind == "events_api" else ()
        for number, delay in enumerate(delays, start=1):
            last = delivery.attempts[-1]
            if delivery.acked or last.final:
                break
            if delay:
                await self._wait(delay)
            if delivery.acked:
                break
            await self.attempt(delivery, number, _reason(last))
        delivery.given_up = not delivery.acked
        delivery._settled.set()
        self.slack.recorder.changed()

    async def _wait(self, seconds: float) -> None:
        sleeping = asyncio.ensure_future(self.slack.clock.sleep(seconds))
        skipping = asyncio.ensure_future(self._skip_wait.wait())
        try:
            await asyncio.wait({sleeping, skipping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            skipping.cancel()

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _over_the_hour(self, payload: Json) -> bool:
        """Count an event; beyond 30,000 an hour a workspace's are dropped and the app is told."""
        team = payload.get("team_id")
        if payload.get("type") != "event_callback" or team is None:
            return False
        now = self.slack.clock.time()
        began, count = self._hours.get(team, (now, 0))
        if now - began >= 3600:
            began, count = now, 0
        self._hours[team] = (began, count + 1)
        if count == self.events_an_hour:
            self.slack.events.rate_limited(team)
        return count >= self.events_an_hour


def _reason(attempt: Attempt) -> str:
    """The retry reason, as Slack's header names it."""
    return {"timeout": "http_timeout"}.get(attempt.outcome, attempt.outcome)
