"""Serves one workspace: every request that is not done gets a ReplyJob, and its private channels
are followed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from weakref import WeakValueDictionary

import structlog
from colloquy import ColloquyError, followed_as
from sqlalchemy.orm import Session

from colloquy_slack.database import inbox, outbox
from colloquy_slack.database.models import Post, Request
from colloquy_slack.logs import describe
from colloquy_slack.runtime import Runtime
from colloquy_slack.serving.audiences import AudienceKeeper
from colloquy_slack.serving.conversation_lock import ConversationLock
from colloquy_slack.serving.reply_job import ReplyJob
from colloquy_slack.serving.thread_title import set_thread_title
from colloquy_slack.workspaces.withdrawal import withdraw_deleted
from colloquy_slack.workspaces.workspace import Workspace

log = structlog.get_logger()

MAX_JOBS = 200
"""Requests of a workspace that are being answered at the same time."""

_RETRY_DELAY = 5.0
"""Seconds before a request is tried again whose job failed, or left it open."""


class Worker:
    """Runs while this process owns the workspace's lease."""

    def __init__(
        self, runtime: Runtime, workspace: Workspace, lease_left: Callable[[], float]
    ) -> None:
        self._runtime, self._workspace, self._lease_left = runtime, workspace, lease_left
        self._jobs: dict[int, ReplyJob] = {}
        # By conversation.
        self._locks: WeakValueDictionary[str, ConversationLock] = WeakValueDictionary()

    @property
    def live(self) -> int:
        """How many requests it answers."""
        return len(self._jobs)

    def has_more_to_do(self, unfinished: int, stopped: set[int]) -> bool:
        """Whether there is more to do than it does, when so many requests are not done."""
        jobs = self._jobs
        return len(jobs) < min(unfinished, MAX_JOBS) or any(
            not jobs[row_id].is_stopped for row_id in stopped & jobs.keys()
        )

    async def run(self) -> None:
        """Work until cancelled, whenever the workspace is woken."""
        async with asyncio.TaskGroup() as group:
            group.create_task(AudienceKeeper(self._runtime, self._workspace).run())
            while True:
                self._workspace.wake.clear()
                waiting, stopped = await self._load()
                for request, posts in waiting:
                    job = self._job(request, posts)
                    self._jobs[request.id] = job
                    group.create_task(self._run(request, job))
                for row_id, is_deleted in stopped.items():
                    if row_id in self._jobs:
                        self._jobs[row_id].stop(is_deleted=is_deleted)
                await self._workspace.wake.wait()

    async def _load(self) -> tuple[list[tuple[Request, list[Post]]], dict[int, bool]]:
        """Return the requests that wait, and those running ones that somebody wants stopped."""
        running, team_id = tuple(self._jobs), self._workspace.team_id
        return await self._runtime.db.run(_load, team_id, running, MAX_JOBS - len(running))

    def _job(self, request: Request, posts: list[Post]) -> ReplyJob:
        lock = self._locks.setdefault(request.external_id, ConversationLock())
        return ReplyJob(self._runtime, self._workspace, request, lock, self._lease_left, posts)

    async def _run(self, request: Request, job: ReplyJob) -> None:
        try:
            with followed_as(job.request_id):
                is_done = await job.run()
            if not is_done:
                await self._runtime.sleep(_RETRY_DELAY)
        except Exception as error:
            log.error("job failed", request=job.request_id, error=describe(error))
            await self._runtime.sleep(_RETRY_DELAY)
        finally:
            del self._jobs[request.id]
            # There is room for one more, and this one may not be done.
            self._workspace.wake.set()
        if request.is_deleted:
            await self._withdraw()
        if job.is_answered and request.is_direct and request.thread_ts:
            await set_thread_title(self._workspace, request)

    async def _withdraw(self) -> None:
        self._runtime.db.note_deletion()
        try:
            await withdraw_deleted(self._runtime, self._workspace)
        except ColloquyError as error:  # the housekeeping tries again
            log.info("not deleted at the server yet", error=describe(error))


def _load(
    s: Session, team_id: str, running: Sequence[int], room: int
) -> tuple[list[tuple[Request, list[Post]]], dict[int, bool]]:
    """Return requests that are not done, each with what was posted for it, and those to stop."""
    rows = inbox.unfinished(s, team_id, running, room) if room > 0 else []
    return [(row, outbox.posts(s, row.id)) for row in rows], inbox.stopped_among(s, running)
