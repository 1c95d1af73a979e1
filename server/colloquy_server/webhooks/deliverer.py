"""Delivers what is in the outbox, from this process: woken by its own transactions, and looking now
and then for what others left.

Each webhook has tasks of its own, so a receiver that is slow or away keeps nobody else waiting: one
task while it fails, up to `_TASKS_EACH` while it takes what it is sent.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import structlog

from colloquy_server.concurrency import shielded, wait_up_to
from colloquy_server.database.models import MICROS
from colloquy_server.database.repository import deliveries
from colloquy_server.database.repository.deliveries import Claimed
from colloquy_server.database.transactions import EVERY_ACCOUNT, Database, DatabaseUnavailable
from colloquy_server.settings import Settings
from colloquy_server.webhooks.sender import Failure, Sender

log = structlog.get_logger()

_POLL_INTERVAL = 2.0
"""Seconds between looks for what another process stored and left, or what is due again."""

_FAILURE_PAUSE = 1.0
"""Seconds before it goes on after the database was away, or after something nobody thought of."""

_TASKS_EACH = 4
_TASKS = 256
"""Events that are being posted at a time: to one webhook, and to all."""

_BACKOFF = (1, 6, 24, 120, 720, 2_880)
"""By which WEBHOOK_RETRY_BASE is multiplied, attempt by attempt, the last again and again: with 5
seconds that is 5 s, 30 s, 2 min, 10 min, 1 h, 4 h."""

_JITTER = 0.2
"""By how much of it a wait is longer at most, so that what failed together comes not together."""

_LAST_ATTEMPTS = 2.0
"""Seconds that attempts get to end when the server stops."""

_SWEEP_INTERVAL = 3_600.0


class Deliverer:
    """Delivers events to webhooks."""

    def __init__(self, db: Database, settings: Settings) -> None:
        self._db = db
        self._sender = Sender(
            settings.webhook_timeout, allow_private=settings.webhook_allow_private
        )
        # Twice what an attempt may take: it is over before anybody else begins.
        self._lease = int(2 * settings.webhook_timeout * MICROS)
        self._attempts = settings.webhook_attempts
        self._retry_base = settings.webhook_retry_base
        self._kept = settings.webhook_dead_letter_days * 86_400 * MICROS
        self._has_work = asyncio.Event()
        self._slots = asyncio.Semaphore(_TASKS)
        self._at_work: Counter[str] = Counter()
        self._is_waiting: set[str] = set()
        """Webhooks of those for which there was more to do when it was looked last."""
        self._loops: list[asyncio.Task[None]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_stopping = False
        db.on_events = self._has_work.set

    def start(self) -> None:
        """Begins."""
        self._loops = [
            asyncio.create_task(self._look_forever()),
            asyncio.create_task(self._sweep_forever()),
        ]

    async def stop(self) -> None:
        """Begins no attempt more, gives those that run a moment, and releases what is left."""
        self._is_stopping = True
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_LAST_ATTEMPTS)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._sender.close()

    # --- finding work -------------------------------------------------------------------------

    async def _look_forever(self) -> None:
        while True:
            self._has_work.clear()
            try:
                for webhook_id in await self._db.read(EVERY_ACCOUNT, deliveries.waiting):
                    if webhook_id in self._at_work:
                        self._is_waiting.add(webhook_id)
                    else:
                        self._begin(webhook_id)
            except DatabaseUnavailable:
                log.warning("database is away", work="webhooks")
                await asyncio.sleep(_FAILURE_PAUSE)
            except Exception:
                log.exception("upkeep failed", work="webhooks")
                await asyncio.sleep(_FAILURE_PAUSE)
            await wait_up_to(_POLL_INTERVAL, self._has_work)

    def _begin(self, webhook_id: str) -> None:
        self._at_work[webhook_id] += 1
        task = asyncio.create_task(self._work(webhook_id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(self, webhook_id: str) -> None:
        """Delivers what is due for a webhook, until nothing is or its receiver fails."""
        try:
            while not self._is_stopping:
                async with self._slots:
                    if not await self._deliver_one(webhook_id):
                        return
                if self._at_work[webhook_id] < _TASKS_EACH:
                    self._begin(webhook_id)
        except DatabaseUnavailable:
            log.warning("database is away", work="webhooks")
        except Exception:
            log.exception("event not delivered", webhook_id=webhook_id)
        finally:
            self._at_work[webhook_id] -= 1
            if not self._at_work[webhook_id]:
                del self._at_work[webhook_id]
                if webhook_id in self._is_waiting:
                    self._is_waiting.discard(webhook_id)
                    self._has_work.set()

    # --- one event ----------------------------------------------------------------------------

    async def _deliver_one(self, webhook_id: str) -> bool:
        """Tries an event that is due; says whether there was one and its receiver took it."""
        claimed = await self._claim(webhook_id)
        if claimed is None:
            return False
        try:
            failure = await self._sender.post(claimed)
        except asyncio.CancelledError:
            await shielded(self._db.write(EVERY_ACCOUNT, deliveries.release, claimed))
            raise
        await shielded(self._settle(claimed, failure))
        if failure is not None:
            self._is_waiting.add(webhook_id)  # events of other conversations may be due
        return failure is None

    async def _claim(self, webhook_id: str) -> Claimed | None:
        return await self._db.write(EVERY_ACCOUNT, deliveries.claim, webhook_id, self._lease)

    async def _settle(self, claimed: Claimed, failure: Failure | None) -> None:
        if failure is None:
            await self._db.write(EVERY_ACCOUNT, deliveries.delivered, claimed.id)
            return
        known = {"delivery_id": claimed.id, "webhook_id": claimed.webhook_id}
        if failure.is_final or claimed.attempts >= self._attempts:
            await self._db.write(EVERY_ACCOUNT, deliveries.give_up, claimed, failure.error)
            log.warning("event is a dead letter", **known, error=failure.error)
            return
        wait = self._wait(claimed.attempts, failure)
        await self._db.write(
            EVERY_ACCOUNT, deliveries.postpone, claimed, failure.error, int(wait * MICROS)
        )
        log.info("event not delivered", **known, error=failure.error, retry_in=round(wait, 1))
        if wait < _POLL_INTERVAL:
            asyncio.get_running_loop().call_later(wait, self._has_work.set)

    def _wait(self, attempts: int, failure: Failure) -> float:
        """Seconds until the next attempt."""
        step = _BACKOFF[min(attempts, len(_BACKOFF)) - 1]
        wait = max(self._retry_base * step, failure.retry_after)
        return wait * random.uniform(1, 1 + _JITTER)  # noqa: S311

    async def _sweep_forever(self) -> None:
        while True:
            try:
                while await self._db.write(EVERY_ACCOUNT, deliveries.sweep, self._kept):
                    pass
                await asyncio.sleep(_SWEEP_INTERVAL)
            except DatabaseUnavailable:
                await asyncio.sleep(_FAILURE_PAUSE)
            except Exception:
                log.exception("upkeep failed", work="webhooks")
                await asyncio.sleep(_SWEEP_INTERVAL)
