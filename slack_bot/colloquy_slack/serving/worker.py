"""Serves one workspace: every request that is not done gets an Exchange."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from weakref import WeakValueDictionary

import structlog
from sqlalchemy.orm import Session

from colloquy_slack.database import inbox, outbox
from colloquy_slack.database.models import Post, Request
from colloquy_slack.logs import names
from colloquy_slack.serving.conversation_lock import Turn
from colloquy_slack.serving.reply_job import Exchange
from colloquy_slack.serving.thread_title import name_thread
from colloquy_slack.workspaces.workspace import Tools, Workspace

log = structlog.get_logger()

MOST = 200
"""Requests of a workspace that are being answered at the same time."""

_PAUSE = 5.0
"""Seconds before a request is tried again whose exchange broke, or could not be ended."""


class Worker:
    """Runs while this process holds the workspace's lease."""

    def __init__(self, tools: Tools, workspace: Workspace, lease_left: Callable[[], float]) -> None:
        self._tools, self._workspace, self._lease_left = tools, workspace, lease_left
        self._running: dict[int, Exchange] = {}
        self._turns: WeakValueDictionary[str, Turn] = WeakValueDictionary()

    def has_to_look(self, live: int, stopped: set[int]) -> bool:
        """Whether there is more to do than it does, when so many requests are not done."""
        running = self._running
        return len(running) < min(live, MOST) or any(
            not running[row_id].is_stopped for row_id in stopped & running.keys()
        )

    async def run(self) -> None:
        """Work until cancelled, whenever the workspace is woken."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._workspace.wake.clear()
                waiting, stopped = await self._look()
                for request, posts in waiting:
                    exchange = self._exchange(request, posts)
                    self._running[request.id] = exchange
                    group.create_task(self._answer(request, exchange))
                for row_id, is_deleted in stopped.items():
                    if row_id in self._running:
                        self._running[row_id].stop(is_deleted=is_deleted)
                await self._workspace.wake.wait()

    async def _look(self) -> tuple[list[tuple[Request, list[Post]]], dict[int, bool]]:
        """Return the requests that wait, and those running ones that somebody wants stopped."""
        running, team_id = tuple(self._running), self._workspace.team_id
        return await self._tools.db.run(_work, team_id, running, MOST - len(running))

    def _exchange(self, request: Request, posts: list[Post]) -> Exchange:
        turn = self._turns.setdefault(request.external_id, Turn())
        return Exchange(self._tools, self._workspace, request, turn, self._lease_left, posts)

    async def _answer(self, request: Request, exchange: Exchange) -> None:
        try:
            if not await exchange.run():
                await self._tools.sleep(_PAUSE)
        except Exception as error:
            log.error("exchange broke", request=request.id, problem=names(error))
            await self._tools.sleep(_PAUSE)
        finally:
            del self._running[request.id]
            # There is room for one more, and this one may not be done.
            self._workspace.wake.set()
        if exchange.is_answered and request.is_direct and request.thread_ts:
            await name_thread(self._workspace, request)


def _work(
    s: Session, team_id: str, running: Sequence[int], room: int
) -> tuple[list[tuple[Request, list[Post]]], dict[int, bool]]:
    """Return requests that are not done, each with what was posted for it, and those to stop."""
    rows = inbox.unfinished(s, team_id, running, room) if room > 0 else []
    return [(row, outbox.posts(s, row.id)) for row in rows], inbox.stopped_of(s, running)
