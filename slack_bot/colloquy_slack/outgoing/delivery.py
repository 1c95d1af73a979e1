"""Shows one reply in Slack, and decides when: the first paint, edits within the budget, the end.

What there is to show comes from `show`, as often as it likes: only the latest counts. `run` brings
Slack there, and does not end before the last state is all there. What is done to the messages
themselves is in `reply_messages`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from colloquy_slack.database.models import Post, Request
from colloquy_slack.outgoing.reply_messages import ReplyMessages, Withdrawn
from colloquy_slack.outgoing.reply_view import Phase, ReplyView
from colloquy_slack.runtime import Runtime
from colloquy_slack.slack_api import InDoubt, RateLimited
from colloquy_slack.workspaces.workspace import Workspace

log = structlog.get_logger()

FIRST_CHARACTERS = 40
FIRST_TEXT_AFTER = 0.3
FIRST_PAINT_AFTER = 0.5
"""The first message is posted when there are so many characters; or any, after so many seconds; or
none, after so many."""

_MIN_RETRY_DELAY = 0.5
"""Seconds to wait after a 429 that asks for none."""

_IN_DOUBT_DELAY = 1.0
"""Seconds until the last state is shown again when nobody knows whether it arrived."""


class Delivery:
    """The reply to one request, on its way into Slack."""

    def __init__(
        self,
        runtime: Runtime,
        workspace: Workspace,
        request: Request,
        lease_left: Callable[[], float],
        on_stop: Callable[[], Awaitable[None]],
        posts: Sequence[Post],
    ) -> None:
        """`posts` were made or meant before this process began; `lease_left` says for how
        many seconds it serves the workspace for sure; `on_stop` is called when the person stops the
        reply with a button of Slack's own, or deleted its thread."""
        self._runtime, self._workspace, self._request = runtime, workspace, request
        self._messages = ReplyMessages(runtime, workspace, request, lease_left, on_stop, posts)
        self._changed = asyncio.Event()
        self._final = asyncio.Event()
        # Whether Slack shows a status of its own while there is no text.
        self._has_status = workspace.has_status

    @property
    def view(self) -> ReplyView:
        """What is to be shown."""
        return self._messages.view

    def show(self, view: ReplyView) -> None:
        """Show this from now on, instead of whatever was to be shown before."""
        if view != self._messages.view:
            self._messages.view = view
            self._changed.set()
        if view.is_final:
            self._final.set()

    @property
    def needs_status(self) -> bool:
        """Whether nothing but Slack's own status says that something happens."""
        return self._messages.is_empty and not self._final.is_set()

    def miss_status(self) -> None:
        """Slack shows no status: a message says what happens."""
        self._has_status = False
        self._changed.set()

    async def run(self) -> None:
        """Keep Slack up to date until the last state is shown whole, or the question withdrawn.

        Raises DeliveryFailed, LeaseExpired and TokenRejected.
        """
        try:
            await self._wait_for_first_paint()
            while not self._final.is_set():
                await self._show_interim()
            self._runtime.failpoint("text complete")
            await self._show_final()
        except Withdrawn:
            log.info("reply withdrawn", request=self._request.id)
        finally:
            self._workspace.limiter.live.discard(self._request.id)

    async def _wait_for_first_paint(self) -> None:
        if not self._messages.is_empty:
            return
        # People wait since they wrote, not since this process got round to it.
        age = max(0.0, self._runtime.now() - self._request.received_at)
        began = self._runtime.clock() - age
        while not self._final.is_set() and len(self.view.text) < FIRST_CHARACTERS:
            waited = self._runtime.clock() - began
            timeout = FIRST_TEXT_AFTER if self.view.text else FIRST_PAINT_AFTER
            if self._is_status_enough():
                timeout = float("inf")
            if waited >= timeout:
                return
            self._changed.clear()
            await self._runtime.wait(self._changed, min(timeout - waited, 60))

    def _is_status_enough(self) -> bool:
        """A stream begins with text; until then Slack's own status says what happens."""
        is_early = self.view.phase in (Phase.THINKING, Phase.GENERATING) and not self.view.text
        return is_early and self._messages.is_streaming and self._has_status

    async def _show_interim(self) -> None:
        """Show the present state if there is room for it, and wait until the next is due."""
        view = self.view
        if view.text:
            # Replies that wait for others need no edits meanwhile, and do not slow the others.
            self._workspace.limiter.live.add(self._request.id)
        self._changed.clear()
        due = self._runtime.clock() + self._interval
        if not await self._try_interim(view):
            await self._runtime.wait(self._final, due - self._runtime.clock())
            return
        await self._changed.wait()
        if view.text:
            await self._runtime.wait(self._final, due - self._runtime.clock())
        elif self.view.text:
            # The first text does not wait until it is due, but should be more than a word.
            await self._runtime.wait(self._final, FIRST_TEXT_AFTER)

    @property
    def _interval(self) -> float:
        limiter = self._workspace.limiter
        return limiter.append_interval if self._messages.is_streaming else limiter.interval

    async def _try_interim(self, view: ReplyView) -> bool:
        """Show a state whose loss is no harm. Returns False when not all could be shown."""
        try:
            return await self._messages.show_interim(view)
        except RateLimited as limited:
            self._workspace.limiter.back_off(limited.retry_after)
        except InDoubt as error:
            log.info("interim edit in doubt", error=str(error))
        return False

    async def _show_final(self) -> None:
        """Show the last state, however long it takes."""
        while True:
            try:
                if await self._messages.show_final():
                    return
            except RateLimited as limited:
                self._workspace.limiter.back_off(limited.retry_after)
                await self._runtime.sleep(max(limited.retry_after, _MIN_RETRY_DELAY))
            except InDoubt as error:
                log.info("final edit in doubt", error=str(error))
                await self._runtime.sleep(_IN_DOUBT_DELAY)
