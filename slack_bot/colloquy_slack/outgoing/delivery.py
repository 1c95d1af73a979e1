"""Shows one reply in Slack: the only writer of its messages, and it holds the latest text.

What there is to show comes from `show`, as often as it likes. `run` brings Slack there: it posts,
edits within the workspace's budget, and does not end before the last state is all there. Every post
is stored as an intent first, so that a process which dies leaves at most one message in doubt, and
that one is looked up before anything is posted again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog

from colloquy_slack.database import outbox
from colloquy_slack.database.models import Post, Request
from colloquy_slack.external_ids import request_id
from colloquy_slack.outgoing.answer_file import attach_text
from colloquy_slack.outgoing.chat_api import ThreadGone, delete, edit, post, stop_stream
from colloquy_slack.outgoing.lease_fence import while_leased
from colloquy_slack.outgoing.native_stream import NativeStream
from colloquy_slack.outgoing.post_lookup import find_post
from colloquy_slack.outgoing.rendering import (
    MOST,
    Form,
    Phase,
    Shown,
    View,
    messages,
    metadata,
    needs_file,
)
from colloquy_slack.slack_api import InDoubt, RateLimited, Refused
from colloquy_slack.workspaces.workspace import Tools, Workspace

log = structlog.get_logger()

T = TypeVar("T")

FIRST_CHARACTERS = 40
FIRST_TEXT_AFTER = 0.3
FIRST_PAINT_AFTER = 0.5
"""The first message is posted when there are so many characters; or any, after so many seconds; or
none, after so many."""

# Slack says these of content that it cannot show. What to try next is in `Form`.
_UNSHOWABLE = {
    *("invalid_blocks", "invalid_blocks_format", "msg_too_long", "msg_blocks_too_long"),
    *("msg_blocks_too_many", "markdown_text_conflict", "no_text", "invalid_arguments"),
}

# Slack says these of a place where nothing may be posted: not now, and not with another token.
_CLOSED = {
    *("cannot_reply_to_message", "channel_not_found", "is_archived", "is_inactive"),
    *("messages_tab_disabled", "not_in_channel", "restricted_action", "user_not_found"),
    *("restricted_action_non_threadable_channel", "restricted_action_read_only_channel"),
    *("restricted_action_thread_locked", "restricted_action_thread_only_channel"),
    *("team_access_not_granted", "thread_not_found"),
}
_TRIES = 6
"""How often a post is tried that Slack refuses for a reason that may pass: for a minute."""

ARRIVES_WITHIN = 1.5
"""Seconds after which a post that Slack got is there, whatever became of the connection."""

_SHORTEST_WAIT = 0.5
"""Seconds to wait after a 429 that asks for none."""


class GaveUp(Exception):
    """Slack will not have the reply: nothing may be posted in the channel."""


class _Withdrawn(Exception):
    """The question was deleted before there was anything of the answer."""


@dataclass
class _Posted:
    """A message of the reply; `ts` is empty while in doubt, `shown` while it is not known."""

    ts: str = ""
    # A digest: what looks the same is not sent again.
    shown: str = ""
    is_gone: bool = False
    # Slack refuses edits of it: what it should show in the end is posted anew.
    is_frozen: bool = False


class Delivery:
    """The reply to one request, on its way into Slack."""

    def __init__(
        self,
        tools: Tools,
        workspace: Workspace,
        request: Request,
        lease_left: Callable[[], float],
        on_stop: Callable[[], Awaitable[None]],
        posts: Sequence[Post],
    ) -> None:
        """`posts` were made or meant before this process began; `lease_left` says for how
        many seconds it serves the workspace for sure; `on_stop` is called when the person stops the
        reply with a button of Slack's own, or deleted its thread."""
        self._tools, self._workspace, self._request = tools, workspace, request
        self._lease_left, self._on_stop = lease_left, on_stop
        self._view = View()
        self._changed = asyncio.Event()
        self._final = asyncio.Event()
        self._posted = {post.number: _Posted(post.ts) for post in posts if post.number >= 0}
        # Messages that others took the place of, by their numbers in the outbox: to be deleted.
        self._replaced = {post.number: post.ts for post in posts if post.number < outbox.FILE}
        # Slack does not take the whole text as a file: it is all posted instead.
        self._has_no_file = False
        self._form = Form()
        # What was posted before is finished with edits, also if it was a stream.
        is_native = workspace.is_native and request.thread_ts and not self._posted
        self._native = NativeStream(workspace, request) if is_native else None
        self.reply_id = request.reply_id
        # Whether Slack shows a status of its own while there is no text.
        self._has_status = workspace.has_status

    @property
    def view(self) -> View:
        """What is to be shown."""
        return self._view

    def show(self, view: View) -> None:
        """Show this from now on, instead of whatever was to be shown before."""
        if view != self._view:
            self._view = view
            self._changed.set()
        if view.is_final:
            self._final.set()

    @property
    def needs_status(self) -> bool:
        """Whether nothing but Slack's own status says that something happens."""
        return not self._posted and not self._final.is_set()

    def miss_status(self) -> None:
        """Slack shows no status: a message says what happens."""
        self._has_status = False
        self._changed.set()

    async def run(self) -> None:
        """Keep Slack up to date until the last state is shown whole, or the question withdrawn.

        Raises GaveUp, LeaseLost and NotLetIn.
        """
        try:
            await self._until_first_paint()
            while not self._final.is_set():
                await self._show_meanwhile()
            self._tools.reached("text complete")
            await self._show_at_last()
        except _Withdrawn:
            log.info("nothing to show any more", request=self._request.id)
        finally:
            self._workspace.pace.live.discard(self._request.id)

    # Meanwhile: whatever the budget has room for.

    async def _until_first_paint(self) -> None:
        if self._posted:
            return
        # People wait since they wrote, not since this process got round to it.
        began = self._tools.clock() - max(0.0, self._tools.now() - self._request.received_at)
        while not self._final.is_set() and len(self._view.text) < FIRST_CHARACTERS:
            waited = self._tools.clock() - began
            patience = FIRST_TEXT_AFTER if self._view.text else FIRST_PAINT_AFTER
            if self._is_status_enough():
                patience = float("inf")
            if waited >= patience:
                return
            self._changed.clear()
            await self._tools.wait(self._changed, min(patience - waited, 60))

    def _is_status_enough(self) -> bool:
        """A stream begins with text; until then Slack's own status says what happens."""
        thinking = self._view.phase in (Phase.THINKING, Phase.WRITING) and not self._view.text
        return thinking and self._native is not None and self._has_status

    async def _show_meanwhile(self) -> None:
        """Show the present state if there is room for it, and wait until the next is due."""
        view = self._view
        if view.text:
            # Replies that wait for others need no edits meanwhile, and do not slow the others.
            self._workspace.pace.live.add(self._request.id)
        self._changed.clear()
        due = self._tools.clock() + self._interval
        if not await self._try(view):
            await self._tools.wait(self._final, due - self._tools.clock())
            return
        await self._changed.wait()
        if view.text:
            await self._tools.wait(self._final, due - self._tools.clock())
        elif self._view.text:
            # The first text does not wait for its turn, but should be more than a word.
            await self._tools.wait(self._final, FIRST_TEXT_AFTER)

    @property
    def _interval(self) -> float:
        pace = self._workspace.pace
        return pace.interval if self._native is None else pace.append_interval

    async def _try(self, view: View) -> bool:
        """Post what is missing and edit what changed. Returns False when not all could be done."""
        try:
            shown = self._messages(view)
            if len(shown) > 1:
                await self._end_stream()
            for number, one in enumerate(shown):
                posted = self._posted.get(number)
                if posted is None or not posted.ts:
                    await self._post(number, one)
                elif not await self._bring(number, posted, one):
                    return False
        except RateLimited as limited:
            self._workspace.pace.refused(limited.retry_after)
        except InDoubt as problem:
            log.info("edit in doubt", problem=str(problem))
        else:
            return True
        return False

    async def _bring(self, number: int, posted: _Posted, shown: Shown) -> bool:
        if posted.is_gone or posted.is_frozen or posted.shown == shown.digest:
            return True
        if self._native is not None and self._native.ts == posted.ts:
            if await self._write(self._native.grow(self._view.text)):
                return True
            await self._end_stream()
        return self._workspace.pace.claim_interim() and await self._edit(number, posted, shown)

    async def _end_stream(self) -> None:
        """Go on with edits, which say the whole text and so neither lose nor double any."""
        if self._native is None:
            return
        await self._write(self._native.stop())
        if self._native.is_stopped_by_user:
            await self._on_stop()
        self._native = None

    # At last: all of it, however long it takes.

    async def _show_at_last(self) -> None:
        while True:
            try:
                if await self._finish():
                    return
            except RateLimited as limited:
                self._workspace.pace.refused(limited.retry_after)
                await self._tools.sleep(max(limited.retry_after, _SHORTEST_WAIT))
            except InDoubt as problem:
                log.info("last edit in doubt", problem=str(problem))
                await self._tools.sleep(1.0)

    async def _finish(self) -> bool:
        """Show the last state. Returns False when the reply has to be looked at anew."""
        view = self._view
        await self._end_stream()
        shown = self._messages(view)
        for number, one in enumerate(shown):
            posted = self._posted.get(number)
            if posted is None or not posted.ts:
                await self._post(number, one)
                posted = self._posted[number]
            while posted.shown != one.digest and not posted.is_gone:
                if posted.is_frozen:
                    await self._replace(number)
                    return False
                wait = self._workspace.pace.claim_final()
                if wait > 0:
                    await self._tools.sleep(wait)
                elif not await self._edit(number, posted, one):
                    return False
        for number in [number for number in self._posted if number >= len(shown)]:
            await self._remove(number, self._posted[number].ts)
            del self._posted[number]
        for number, ts in list(self._replaced.items()):
            await self._remove(number, ts)
            del self._replaced[number]
        if needs_file(view, self._form) and not self._has_no_file:
            return await self._attach(view)
        return True

    async def _attach(self, view: View) -> bool:
        try:
            await self._write(attach_text(self._tools, self._workspace, self._request, view.text))
        except Refused as refused:
            log.warning("the whole text was not attached", error=refused.error)
            self._has_no_file = True
            return len(self._messages(view)) == len(self._posted)
        return True

    async def _remove(self, number: int, ts: str) -> None:
        """Delete a message that shows nothing of the reply any more."""
        if ts:
            await self._write(delete(self._workspace, self._request, ts))
        await self._tools.db.run(outbox.forget, self._request.id, number)

    async def _replace(self, number: int) -> None:
        """Have a message that cannot be edited posted anew, and those after it, to stay in order.

        The old ones go when the new ones are there.
        """
        after = [one for one, posted in self._posted.items() if one >= number and posted.ts]
        for one in after:
            replaced = await self._tools.db.run(outbox.replace, self._request.id, one)
            self._replaced[replaced] = self._posted.pop(one).ts

    # One message.

    def _messages(self, view: View) -> list[Shown]:
        most = None if self._has_no_file else MOST
        return messages(view, str(self._request.id), self._form, most)

    def _metadata(self, number: int, shown: Shown) -> dict[str, object]:
        request = self._request
        name = request_id(request.team_id, request.channel_id, request.ts)
        return metadata(name, self.reply_id, number, shown.part)

    async def _post(self, number: int, shown: Shown) -> None:
        db, request = self._tools.db, self._request
        if number in self._posted:
            # What was on its way may not have arrived yet.
            await self._tools.sleep(ARRIVES_WITHIN)
            ts = await find_post(self._tools, self._workspace, request, number)
            if ts:
                self._posted[number].ts = ts
                await db.run(outbox.record, request.id, number, ts=ts)
                return
        else:
            await db.run(outbox.intend, request.id, number)
            self._posted[number] = _Posted()
        self._tools.reached("post intended")
        refusals = 0
        while True:
            await self._tools.sleep(self._workspace.pace.claim_post(request.channel_id))
            if self._request.is_deleted and not any(one.ts for one in self._posted.values()):
                raise _Withdrawn
            try:
                ts = await self._write(self._put(number, shown))
                break
            except ThreadGone:
                await self._on_stop()
                raise _Withdrawn from None
            except RateLimited as limited:
                await self._tools.sleep(limited.retry_after)
            except Refused as refused:
                if self._takes_another_form(refused, shown):
                    parts = self._messages(self._view)
                    shown = parts[min(number, len(parts) - 1)]
                    continue
                refusals += 1
                if refused.error in _CLOSED or refusals == _TRIES:
                    raise GaveUp(refused.error) from None
                log.info("not posted", error=refused.error)
                await self._tools.sleep(2.0**refusals)
        self._tools.reached("posted")
        posted = self._posted[number]
        posted.ts = ts
        if self._native is None or self._native.ts != ts:
            # A stream, on the other hand, shows less than the message that it becomes.
            posted.shown = shown.digest
        await db.run(outbox.record, request.id, number, ts=ts)
        self._tools.reached("post recorded")

    async def _put(self, number: int, shown: Shown) -> str:
        if self._native is not None and number == 0:
            # Only text is streamed: that a reply is queued, say, is an ordinary message.
            ts = await self._native.start(self._view.text) if self._view.text else ""
            if ts:
                return ts
            self._native = None
        return await post(self._workspace, self._request, shown, self._metadata(number, shown))

    async def _edit(self, number: int, posted: _Posted, shown: Shown) -> bool:
        """Edit a message. Returns False when the reply has to be looked at anew."""
        told = self._metadata(number, shown)
        try:
            await self._write(edit(self._workspace, self._request, posted.ts, shown, told))
        except Refused as refused:
            if refused.error == "message_not_found":
                # Somebody deleted it. It is not for the bot to bring it back.
                posted.is_gone = True
                return True
            if refused.error == "streaming_state_conflict":
                # A process before this one left the stream open.
                await self._write(stop_stream(self._workspace, self._request, posted.ts))
            elif not self._takes_another_form(refused, shown):
                log.info("message posted anew at the end", error=refused.error)
                posted.is_frozen = True
            return False
        posted.shown = shown.digest
        self._tools.reached("edited")
        return True

    def _takes_another_form(self, refused: Refused, shown: Shown) -> bool:
        """Go on with a form that Slack may take rather. Returns False when that would not help."""
        form = self._form.after(shown) if refused.error in _UNSHOWABLE else None
        if form is None:
            return False
        log.warning("Slack refuses the form of a message", error=refused.error)
        self._form = form
        return True

    async def _write(self, change: Coroutine[Any, Any, T]) -> T:
        return await while_leased(self._lease_left, change)
