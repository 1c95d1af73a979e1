"""Serves one workspace: every request that is not done gets an Exchange."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from weakref import WeakValueDictionary

import structlog
from sqlalchemy.orm import Session

from slack_bot import inbox, outbox
from slack_bot.exchange import Exchange
from slack_bot.logs import names
from slack_bot.models import Post, Request
from slack_bot.workspace import Tools, Workspace

log = structlog.get_logger()

MOST = 200
"""Requests of a workspace that are being answered at the same time."""

POLL = 0.5
"""Seconds after which a request that another process took in is seen."""

_PAUSE = 5.0
"""Seconds before a request is tried again whose exchange broke unexpectedly."""


class Worker:
    """Runs while this process holds the workspace's lease."""

    def __init__(self, tools: Tools, workspace: Workspace, may_write: Callable[[], bool]) -> None:
        self._tools, self._workspace, self._may_write = tools, workspace, may_write
        self._running: set[int] = set()
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._workspace.wake.clear()
                for request, posts in await self._waiting():
                    self._running.add(request.id)
                    group.create_task(self._answer(request, posts))
                await self._tools.wait(self._workspace.wake, POLL)

    async def _waiting(self) -> list[tuple[Request, list[Post]]]:
        room = MOST - len(self._running)
        if room <= 0:
            return []
        team_id = self._workspace.team_id
        return await self._tools.db.run(_unfinished, team_id, tuple(self._running), room)

    async def _answer(self, request: Request, posts: list[Post]) -> None:
        turn = self._turns.setdefault(request.external_id, asyncio.Lock())
        try:
            await Exchange(
                self._tools, self._workspace, request, turn, self._may_write, posts
            ).run()
        except Exception as error:
            log.error("exchange broke", request=request.id, problem=names(error))
            await self._tools.sleep(_PAUSE)
        finally:
            self._running.discard(request.id)


def _unfinished(
    s: Session, team_id: str, but: Sequence[int], limit: int
) -> list[tuple[Request, list[Post]]]:
    """Return requests that are not done, each with what was posted for it."""
    rows = inbox.unfinished(s, team_id, but, limit)
    return [(row, outbox.posts(s, row.id)) for row in rows]
