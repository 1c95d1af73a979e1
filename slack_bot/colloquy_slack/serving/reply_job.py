"""One request from the inbox to its reply in Slack: what is said to the server, what comes back.

Whatever happens in between, doing it all again does it once: what the server gets is fixed before
the first try and named by its request_id, and `Delivery` knows what is in Slack.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack

import structlog
from colloquy import AsyncReply, ColloquyError, ReplyText, is_final
from colloquy.api.conversation_service_pb2 import ConversationEvent
from colloquy.api.resources_pb2 import Message, User
from colloquy.errors import DeadlineExceeded, InvalidArgument

from colloquy_slack import mentions
from colloquy_slack.database import inbox, preferences
from colloquy_slack.database.models import Kind, Post, Request, State
from colloquy_slack.external_ids import author, request_id
from colloquy_slack.outgoing.delivery import Delivery, GaveUp
from colloquy_slack.outgoing.lease_fence import LeaseLost
from colloquy_slack.outgoing.rendering import Phase, View
from colloquy_slack.serving.attachments import Fetched, fetch_files
from colloquy_slack.serving.backoff import Patience, phase_while
from colloquy_slack.serving.conversation_lock import Turn
from colloquy_slack.slack_api import NotLetIn, Refused, SlackProblem
from colloquy_slack.workspaces.workspace import Tools, Workspace

log = structlog.get_logger()

ANSWER_WITHIN = 5.0
"""Seconds that the server may take to accept a message; one that hangs is asked again."""

_STATES = {
    Message.STATE_COMPLETED: Phase.COMPLETED,
    Message.STATE_CANCELLED: Phase.CANCELLED,
    Message.STATE_FAILED: Phase.FAILED,
}
_STATUS_EVERY = 90.0
"""Seconds between two statuses: Slack takes one away after two minutes."""

# Slack has no status to show here, and will not have one later.
_NO_STATUS = {"unknown_method", "missing_scope", "method_deprecated", "feature_not_enabled"}


class Exchange:
    """One request being answered."""

    def __init__(
        self,
        tools: Tools,
        workspace: Workspace,
        request: Request,
        turn: Turn,
        lease_left: Callable[[], float],
        posts: Sequence[Post],
    ) -> None:
        """`turn` is held until the server has the message: a conversation keeps its order. `posts`
        is what the outbox holds for the request."""
        self._tools, self._workspace, self._request, self._turn = tools, workspace, request, turn
        self._name = request_id(request.team_id, request.channel_id, request.ts)
        self._delivery = Delivery(tools, workspace, request, lease_left, self._stop, posts)
        self._held: ReplyText | None = None
        self._stopped = asyncio.Event()
        # Set when a reply that the server has is to be stopped.
        self._to_cancel = asyncio.Event()

    @property
    def is_stopped(self) -> bool:
        """Whether it was told to stop."""
        return self._request.is_stopped

    @property
    def is_answered(self) -> bool:
        """Whether all of the answer came."""
        return self._delivery.view.phase is Phase.COMPLETED

    def stop(self, *, is_deleted: bool = False) -> None:
        """Stop the reply, now or as soon as the server has it. The inbox knows of it already."""
        self._request.is_stopped = True
        self._request.is_deleted |= is_deleted
        self._stopped.set()
        if self._held is not None:
            self._to_cancel.set()
        elif not self._delivery.view.is_final:
            self._show_waiting(Phase.STOPPING)

    async def run(self) -> bool:
        """Bring the request to its end. Returns False when that is left to another process or
        time: the lease is another's now, or Slack wants another token.
        """
        is_ended = True
        try:
            async with asyncio.TaskGroup() as group:
                cancelling = group.create_task(self._cancel_when_stopped())
                following = group.create_task(self._follow())
                thinking = group.create_task(self._say_thinking())
                following.add_done_callback(lambda _: (cancelling.cancel(), thinking.cancel()))
                group.create_task(self._delivery.run())
        except* (LeaseLost, NotLetIn) as left:
            log.info("reply left open", request=self._name, why=repr(left.exceptions[0]))
            is_ended = False
        except* GaveUp as given_up:
            log.warning("reply not delivered", request=self._name, why=str(given_up.exceptions[0]))
        if not is_ended:
            return False
        await self._tools.db.run(inbox.change, self._request.id, state=State.DONE)
        self._tools.reached("reply delivered")
        return True

    # What is said to the server, and what comes back.

    async def _follow(self) -> None:
        patience = Patience()
        async with AsyncExitStack() as turn:
            await turn.enter_async_context(self._turn.taken(self._show_waiting))
            while True:
                try:
                    await self._say(turn.aclose)
                except ColloquyError as error:
                    wait = patience.wait_after(error)
                    if wait is None:
                        self._show_refusal(error)
                        return
                    log.info("server not reached", request=self._name, problem=repr(error))
                    if self._held is None:
                        self._turn.tell(phase_while(error))
                        self._show_waiting(phase_while(error))
                else:
                    return
                if self._request.is_stopped:
                    await self._tools.sleep(wait)
                else:
                    # One that was not sent yet may have been deleted: that needs no server.
                    await self._tools.wait(self._stopped, wait)

    async def _say(self, give_turn: Callable[[], Awaitable[None]]) -> None:
        """Say it to the server and follow the reply to its end."""
        if self._request.content is None and not await self._make_ready():
            await self._change(text="", files=[], content="")
            self._delivery.show(View(Phase.CANCELLED, is_repeatable=False))
            return
        if not self._request.conversation_id:
            await self._open_conversation()
        if self._request.is_stopped:
            await self._cancel()
        try:
            async with asyncio.timeout(ANSWER_WITHIN) as deadline, self._call() as reply:
                async for event in reply:
                    if event.HasField("accepted"):
                        deadline.reschedule(None)
                        await self._accepted(event.accepted)
                        await give_turn()
                    self._take(event)
        except TimeoutError:
            raise DeadlineExceeded(f"not accepted within {ANSWER_WITHIN:.0f} s") from None

    def _call(self) -> AsyncReply:
        request, colloquy = self._request, self._workspace.colloquy
        if request.kind is Kind.REGENERATE:
            return colloquy.regenerate(request.target_reply_id, request_id=self._name)
        return colloquy.send(
            request.conversation_id,
            request.content or "",
            attachment_ids=request.attachment_ids,
            author=User(**request.author),
            request_id=self._name,
        )

    async def _accepted(self, accepted: ConversationEvent.Accepted) -> None:
        self._held = ReplyText(accepted.reply)
        self._delivery.reply_id = accepted.reply.id
        await self._change(
            state=State.OPEN,
            conversation_id=accepted.reply.conversation_id,
            reply_id=accepted.reply.id,
        )
        self._tools.reached("reply accepted")
        if self._request.is_stopped:
            self._to_cancel.set()

    def _take(self, event: ConversationEvent) -> None:
        """Take an event by the two rules: a message replaces, a delta is appended."""
        held = self._held
        if event.HasField("deleted"):
            self._show_end("The conversation was deleted.")
            return
        if held is None:
            return
        if event.HasField("message") and event.message.id == held.message.id:
            held.replace(event.message)
        elif event.HasField("delta"):
            held.append(event.delta)
        message, text = held.message, held.text
        phase = Phase.WRITING if text else Phase.THINKING
        if is_final(message):
            phase = _STATES[message.state]
        elif not text and self._delivery.view.text:
            # A new attempt begins: until it has text, that of the last one stands.
            return
        elif not text and message.state == Message.STATE_QUEUED:
            phase = Phase.QUEUED
        self._delivery.show(
            View(phase, text, message.model, message.error.message, tuple(self._request.notes))
        )

    def _show_waiting(self, phase: Phase) -> None:
        """Show what the request waits for."""
        self._delivery.show(View(Phase.STOPPING if self._request.is_stopped else phase))

    def _show_refusal(self, error: ColloquyError) -> None:
        log.warning("refused by the server", request=self._name, problem=repr(error))
        told = "; ".join(f"{what}" for what in error.fields.values()) or error.message
        self._delivery.show(View(Phase.FAILED, error=told, notes=tuple(self._request.notes)))

    def _show_end(self, why: str) -> None:
        text = self._held.text if self._held else ""
        self._delivery.show(View(Phase.FAILED, text, error=why, is_repeatable=False))

    # Steps before it is said, each stored when it is done.

    async def _make_ready(self) -> bool:
        """Do all that is done before it is sent. Returns False when it was deleted by then."""
        if not self._request.is_deleted:
            # Before files are fetched: a server that is away does not have them fetched in vain.
            await self._open_conversation()
            await self._prepare()
        return not self._request.is_deleted

    async def _prepare(self) -> None:
        """Fix what the server gets: words, files, author."""
        request, now = self._request, self._tools.now()
        people = {
            user: (await self._workspace.person(user, now)).name
            for user in mentions.users_in(request.text)
            if user != self._workspace.bot_user_id
        }
        content = mentions.plain(request.text, people, self._workspace.bot_user_id)
        fetched = Fetched()
        if request.files:
            fetched = await fetch_files(self._tools, self._workspace, request.files)
        named = await self._workspace.person(request.user_id, now)
        if not content:
            content = _without_words(named.name, fetched)
        user = author(request.team_id, request.user_id, named.name, named.avatar_url)
        await self._change(
            content=content,
            attachment_ids=fetched.attachment_ids,
            notes=fetched.notes,
            author={
                "external_id": user.external_id,
                "display_name": user.display_name,
                "avatar_url": user.avatar_url,
            },
        )
        self._tools.reached("message prepared")

    async def _open_conversation(self) -> None:
        request = self._request
        model = await self._tools.db.run(
            preferences.model_for, request.team_id, request.channel_id, request.user_id
        )
        colloquy = self._workspace.colloquy
        try:
            conversation = await colloquy.create_conversation(
                external_id=request.external_id, model=model
            )
        except InvalidArgument:
            if not model:
                raise
            # The model that was chosen is gone: the default one answers.
            conversation = await colloquy.create_conversation(external_id=request.external_id)
        # Stored with the reply: until then it is found again by its external_id.
        request.conversation_id = conversation.id

    async def _change(self, **values: object) -> None:
        for name, value in values.items():
            setattr(self._request, name, value)
        self._request.is_stopped, self._request.is_deleted = await self._tools.db.run(
            inbox.change, self._request.id, **values
        )

    # Stopping, and what is shown beside the reply.

    async def _stop(self) -> None:
        await self._tools.db.run(inbox.stop, self._request.team_id, self._request.id)
        self.stop()

    async def _cancel_when_stopped(self) -> None:
        """Cancel the reply once it is to be stopped, however long the server is away."""
        await self._to_cancel.wait()
        patience = Patience()
        while True:
            try:
                await self._cancel()
                return
            except ColloquyError as error:
                wait = patience.wait_after(error)
                log.info("not cancelled", request=self._name, problem=repr(error))
            if wait is None:
                return
            await self._tools.sleep(wait)

    async def _cancel(self) -> None:
        await self._workspace.colloquy.cancel_reply(
            conversation_id=self._request.conversation_id, request_id=self._name
        )

    async def _say_thinking(self) -> None:
        """Have Slack show that something happens, where it can."""
        # Elsewhere the first message says it, about as soon, and ends a status.
        is_wanted = self._request.is_direct or self._workspace.is_native
        if not (is_wanted and self._request.thread_ts and self._workspace.has_status):
            return
        while self._delivery.needs_status:
            try:
                await self._workspace.slack.call(
                    "assistant.threads.setStatus",
                    channel_id=self._request.channel_id,
                    thread_ts=self._request.thread_ts,
                    status="is thinking…",
                )
            except SlackProblem as problem:
                if isinstance(problem, Refused) and problem.error in _NO_STATUS:
                    self._workspace.has_status = False
                self._delivery.miss_status()
                return
            await self._tools.sleep(_STATUS_EVERY)


def _without_words(name: str, fetched: Fetched) -> str:
    if fetched.attachment_ids:
        return f"{name} shared this without a word."
    return f"{name} called you without saying what it is about."
