"""The messages in Slack of one reply, and the only writer of them.

Every post is stored as an intent first, so that a process which dies leaves at most one message in
doubt, and that one is looked up before anything is posted again. Nothing here decides when: see
`delivery`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog

from colloquy_slack.database import outbox
from colloquy_slack.database.models import Post, Request
from colloquy_slack.external_ids import request_id
from colloquy_slack.outgoing import chat_api
from colloquy_slack.outgoing.answer_file import attach_answer
from colloquy_slack.outgoing.lease_fence import fenced
from colloquy_slack.outgoing.native_stream import NativeStream
from colloquy_slack.outgoing.post_lookup import find_post
from colloquy_slack.outgoing.rendering import (
    MAX_MESSAGES,
    MessageFormat,
    RenderedMessage,
    metadata,
    needs_file,
    render,
)
from colloquy_slack.outgoing.reply_view import ReplyView
from colloquy_slack.runtime import Runtime
from colloquy_slack.slack_api import RateLimited, Refused
from colloquy_slack.workspaces.workspace import Workspace

log = structlog.get_logger()

T = TypeVar("T")

# Slack says these of content that it cannot show. What to try next is in `MessageFormat`.
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
_MAX_REFUSALS = 6
"""How often a post is tried that Slack refuses for a reason that may pass: for a minute."""

ARRIVES_WITHIN = 1.5
"""Seconds after which a post that Slack got is there, whatever became of the connection."""


class DeliveryFailed(Exception):
    """Slack will not have the reply: nothing may be posted in the channel."""


class Withdrawn(Exception):
    """The question was deleted before there was anything of the answer."""


@dataclass
class _Posted:
    """A message of the reply; `ts` is empty while in doubt, `digest` while it is not known."""

    ts: str = ""
    # Of what it shows: what looks the same is not sent again.
    digest: str = ""
    is_gone: bool = False
    # Slack refuses edits of it: what it should show in the end is posted anew.
    is_frozen: bool = False


class ReplyMessages:
    """What is posted of a reply. All methods raise what `lease_fence` and `slack_api` raise."""

    def __init__(
        self,
        runtime: Runtime,
        workspace: Workspace,
        request: Request,
        lease_left: Callable[[], float],
        on_stop: Callable[[], Awaitable[None]],
        posts: Sequence[Post],
    ) -> None:
        """The arguments are those of `Delivery`."""
        self._runtime, self._workspace, self._request = runtime, workspace, request
        self._lease_left, self._on_stop = lease_left, on_stop
        self.view = ReplyView()
        """The latest: what is posted or streamed late shows this."""
        self._posted = {post.number: _Posted(post.ts) for post in posts if post.number >= 0}
        # Messages that others took the place of, by their numbers in the outbox: to be deleted.
        self._superseded = {post.number: post.ts for post in posts if post.number < outbox.FILE}
        # The first that was looked up and is not in Slack. They are posted in order: no later one
        # is there that is not known.
        self._absent_from: int | None = None
        # Slack does not take the whole text as a file: it is all posted instead.
        self._has_no_file = False
        self._format = MessageFormat()
        # What was posted before is finished with edits, also if it was a stream.
        is_native = workspace.is_native and request.thread_ts and not self._posted
        self._stream = NativeStream(workspace, request) if is_native else None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is posted, or was meant to be."""
        return not self._posted

    @property
    def is_streaming(self) -> bool:
        """Whether the first message is a native stream, or will be."""
        return self._stream is not None

    async def show_interim(self, view: ReplyView) -> bool:
        """Post what is missing and edit what changed, within the budget. Returns False when there
        is no room for all of it."""
        rendered = self._render(view)
        if len(rendered) > 1:
            await self._end_stream()
        for number, message in enumerate(rendered):
            posted = self._posted.get(number)
            if posted is None or not posted.ts:
                await self._post(number, message)
            elif not await self._update_interim(number, posted, message):
                return False
        return True

    async def show_final(self) -> bool:
        """Show the last state. Returns False when the reply has to be looked at anew."""
        view = self.view
        await self._end_stream()
        rendered = self._render(view)
        for number, message in enumerate(rendered):
            posted = self._posted.get(number)
            if posted is None or not posted.ts:
                await self._post(number, message)
                posted = self._posted[number]
            while posted.digest != message.digest and not posted.is_gone:
                if posted.is_frozen:
                    await self._supersede(number)
                    return False
                wait = self._workspace.limiter.acquire_final_edit()
                if wait > 0:
                    await self._runtime.sleep(wait)
                elif not await self._edit(number, posted, message):
                    return False
        for number in sorted(number for number in self._posted if number >= len(rendered)):
            if not self._posted[number].ts:
                await self._find(number)
            await self._delete(number, self._posted[number].ts)
            del self._posted[number]
        for number, ts in list(self._superseded.items()):
            await self._delete(number, ts)
            del self._superseded[number]
        if needs_file(view, self._format) and not self._has_no_file:
            return await self._attach(view)
        return True

    def _render(self, view: ReplyView) -> list[RenderedMessage]:
        max_messages = None if self._has_no_file else MAX_MESSAGES
        return render(view, str(self._request.id), self._format, max_messages)

    async def _update_interim(self, number: int, posted: _Posted, message: RenderedMessage) -> bool:
        if posted.is_gone or posted.is_frozen or posted.digest == message.digest:
            return True
        if self._stream is not None and self._stream.ts == posted.ts:
            if await self._fenced(self._stream.append(self.view.text)):
                return True
            await self._end_stream()
        has_room = self._workspace.limiter.acquire_interim_edit()
        return has_room and await self._edit(number, posted, message)

    async def _end_stream(self) -> None:
        """Go on with edits, which say the whole text and so neither lose nor double any."""
        if self._stream is None:
            return
        await self._fenced(self._stream.stop())
        if self._stream.is_stopped_by_user:
            await self._on_stop()
        self._stream = None

    async def _attach(self, view: ReplyView) -> bool:
        try:
            await self._fenced(
                attach_answer(self._runtime, self._workspace, self._request, view.text)
            )
        except Refused as refused:
            log.warning("answer not attached", error=refused.error)
            self._has_no_file = True
            return len(self._render(view)) == len(self._posted)
        return True

    async def _supersede(self, number: int) -> None:
        """Have a message that cannot be edited posted anew, and those after it, to stay in order.

        The old ones go when the new ones are there.
        """
        after = [one for one, posted in self._posted.items() if one >= number and posted.ts]
        for one in after:
            superseded = await self._runtime.db.run(outbox.supersede, self._request.id, one)
            self._superseded[superseded] = self._posted.pop(one).ts

    # One message.

    def _metadata(self, number: int, message: RenderedMessage) -> dict[str, object]:
        request = self._request
        name = request_id(request.team_id, request.channel_id, request.ts)
        return metadata(name, request.reply_id, number, message.part)

    async def _post(self, number: int, message: RenderedMessage) -> None:
        if number in self._posted:
            if await self._find(number):
                return
        else:
            await self._runtime.db.run(outbox.intend, self._request.id, number)
            self._posted[number] = _Posted()
        self._runtime.failpoint("post intended")
        ts, message = await self._post_until_accepted(number, message)
        self._runtime.failpoint("posted")
        posted = self._posted[number]
        posted.ts = ts
        if self._stream is None or self._stream.ts != ts:
            # A stream, on the other hand, shows less than the message that it becomes.
            posted.digest = message.digest
        await self._runtime.db.run(outbox.record, self._request.id, number, ts=ts)
        self._runtime.failpoint("post recorded")

    async def _find(self, number: int) -> bool:
        """Look up a post that is in doubt. Returns whether it is in Slack."""
        if self._absent_from is not None and number > self._absent_from:
            return False
        # What was on its way may not have arrived yet.
        await self._runtime.sleep(ARRIVES_WITHIN)
        ts = await find_post(self._runtime, self._workspace, self._request, number)
        if ts:
            self._posted[number].ts = ts
            await self._runtime.db.run(outbox.record, self._request.id, number, ts=ts)
        else:
            self._absent_from = number
        return bool(ts)

    async def _post_until_accepted(
        self, number: int, message: RenderedMessage
    ) -> tuple[str, RenderedMessage]:
        """Post a message, through limits and refusals. Returns its ts, and what was posted."""
        refusals = 0
        while True:
            await self._runtime.sleep(
                self._workspace.limiter.reserve_post(self._request.channel_id)
            )
            if self._request.is_deleted and not any(one.ts for one in self._posted.values()):
                raise Withdrawn
            try:
                return await self._fenced(self._post_once(number, message)), message
            except chat_api.ThreadGone:
                await self._on_stop()
                raise Withdrawn from None
            except RateLimited as limited:
                await self._runtime.sleep(limited.retry_after)
            except Refused as refused:
                if self._changes_format(refused, message):
                    parts = self._render(self.view)
                    message = parts[min(number, len(parts) - 1)]
                    continue
                refusals += 1
                if refused.error in _CLOSED or refusals == _MAX_REFUSALS:
                    raise DeliveryFailed(refused.error) from None
                log.info("post refused", error=refused.error)
                await self._runtime.sleep(2.0**refusals)

    async def _post_once(self, number: int, message: RenderedMessage) -> str:
        if self._stream is not None and number == 0:
            # Only text is streamed: that a reply is queued, say, is an ordinary message.
            ts = await self._stream.start(self.view.text) if self.view.text else ""
            if ts:
                return ts
            self._stream = None
        described = self._metadata(number, message)
        return await chat_api.post(self._workspace, self._request, message, described)

    async def _edit(self, number: int, posted: _Posted, message: RenderedMessage) -> bool:
        """Edit a message. Returns False when the reply has to be looked at anew."""
        workspace, request = self._workspace, self._request
        described = self._metadata(number, message)
        try:
            await self._fenced(chat_api.edit(workspace, request, posted.ts, message, described))
        except Refused as refused:
            if refused.error == "message_not_found":
                # Somebody deleted it. It is not for the bot to bring it back.
                posted.is_gone = True
                return True
            if refused.error == "streaming_state_conflict":
                # A process before this one left the stream open.
                await self._fenced(chat_api.stop_stream(workspace, request, posted.ts))
            elif not self._changes_format(refused, message):
                log.info("edit refused", error=refused.error)
                posted.is_frozen = True
            return False
        posted.digest = message.digest
        self._runtime.failpoint("edited")
        return True

    async def _delete(self, number: int, ts: str) -> None:
        """Delete a message that shows nothing of the reply any more."""
        if ts:
            await self._fenced(chat_api.delete(self._workspace, self._request, ts))
        await self._runtime.db.run(outbox.delete_post, self._request.id, number)

    def _changes_format(self, refused: Refused, message: RenderedMessage) -> bool:
        """Go on with a format that Slack may take rather. Returns False when that would not
        help."""
        following = self._format.after(message) if refused.error in _UNSHOWABLE else None
        if following is None:
            return False
        log.warning("message format refused", error=refused.error)
        self._format = following
        return True

    async def _fenced(self, change: Coroutine[Any, Any, T]) -> T:
        return await fenced(self._lease_left, change)
