"""One request from the inbox to its reply in Slack: what is sent to the server, what comes back.

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
from colloquy.errors import DeadlineExceeded

from colloquy_slack.database import inbox, thread_reads
from colloquy_slack.database.models import Kind, Post, Request, State
from colloquy_slack.external_ids import request_id
from colloquy_slack.logs import describe
from colloquy_slack.outgoing.delivery import Delivery
from colloquy_slack.outgoing.lease_fence import LeaseExpired
from colloquy_slack.outgoing.refusals import tell_refusal
from colloquy_slack.outgoing.reply_messages import DeliveryFailed
from colloquy_slack.outgoing.reply_view import CUT_OFF, Phase, ReplyView
from colloquy_slack.runtime import Runtime
from colloquy_slack.serving.backoff import BUDGET_EXCEEDED, Backoff, phase_during
from colloquy_slack.serving.conversation_lock import ConversationLock
from colloquy_slack.serving.conversation_setup import open_conversation, refresh
from colloquy_slack.serving.message_preparation import prepare_message
from colloquy_slack.serving.thinking_status import show_thinking
from colloquy_slack.slack_api import TokenRejected
from colloquy_slack.workspaces.workspace import Workspace

log = structlog.get_logger()

ACCEPT_TIMEOUT = 5.0
"""Seconds that the server may take to accept a message; one that hangs is asked again."""

_FINAL_PHASES = {
    Message.STATE_COMPLETED: Phase.COMPLETED,
    Message.STATE_CANCELLED: Phase.CANCELLED,
    Message.STATE_FAILED: Phase.FAILED,
}


class ReplyJob:
    """One request being answered."""

    def __init__(
        self,
        runtime: Runtime,
        workspace: Workspace,
        request: Request,
        lock: ConversationLock,
        lease_left: Callable[[], float],
        posts: Sequence[Post],
    ) -> None:
        """`lock` is owned until the server has the message: a conversation keeps its order. `posts`
        is what the outbox holds for the request."""
        self._runtime, self._workspace, self._request = runtime, workspace, request
        self._lock = lock
        self.request_id = request_id(request.team_id, request.channel_id, request.ts)
        """What it is known by at the server, and followed by through all logs."""
        self._delivery = Delivery(runtime, workspace, request, lease_left, self._on_stop, posts)
        # What the server accepted, and how far it has come.
        self._reply: ReplyText | None = None
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
        if self._reply is not None:
            self._to_cancel.set()
        elif not self._delivery.view.is_final:
            self._show_waiting(Phase.STOPPING)

    async def run(self) -> bool:
        """Bring the request to its end. Returns False when that is left to another process or
        time: the lease expired, or Slack wants another token.
        """
        is_done = True
        try:
            async with asyncio.TaskGroup() as group:
                cancelling = group.create_task(self._cancel_when_stopped())
                following = group.create_task(self._follow())
                thinking = group.create_task(
                    show_thinking(self._runtime, self._workspace, self._request, self._delivery)
                )
                following.add_done_callback(lambda _: (cancelling.cancel(), thinking.cancel()))
                group.create_task(self._delivery.run())
        except* (LeaseExpired, TokenRejected) as left:
            log.info("reply left open", request=self.request_id, why=describe(left))
            is_done = False
        except* DeliveryFailed as failed:
            why = str(failed.exceptions[0])
            log.warning("reply not delivered", request=self.request_id, why=why)
            await tell_refusal(self._workspace, self._request, why)
        if not is_done:
            return False
        await self._runtime.db.run(inbox.finish, self._request.id)
        self._runtime.failpoint("reply delivered")
        return True

    # What is sent to the server, and what comes back.

    async def _follow(self) -> None:
        """Send the request and follow its reply, through failures of the server."""
        backoff = Backoff()
        async with AsyncExitStack() as lock:
            await lock.enter_async_context(self._lock.acquired(self._show_waiting))
            while True:
                try:
                    await self._send_and_follow(lock.aclose)
                except ColloquyError as error:
                    delay = backoff.next_delay(error)
                    if delay is None:
                        self._show_refusal(error)
                        return
                    log.info("server call failed", request=self.request_id, error=describe(error))
                    if self._reply is None:
                        self._lock.set_phase(phase_during(error))
                        self._show_waiting(phase_during(error))
                else:
                    return
                if self._request.is_stopped:
                    await self._runtime.sleep(delay)
                else:
                    # One that was not sent yet may have been deleted: that needs no server.
                    await self._runtime.wait(self._stopped, delay)

    async def _send_and_follow(self, release_lock: Callable[[], Awaitable[None]]) -> None:
        if self._request.content is None and not await self._prepare():
            await self._set_fields(text="", files=[], content="")
            self._delivery.show(ReplyView(Phase.CANCELLED, is_repeatable=False))
            return
        if not self._request.conversation_id:
            await self._open_conversation()
        elif self._request.kind is Kind.REGENERATE and self._reply is None:
            await refresh(self._runtime, self._workspace, self._request)
        if self._request.is_stopped:
            await self._cancel()
        try:
            async with asyncio.timeout(ACCEPT_TIMEOUT) as deadline, self._call() as events:
                async for event in events:
                    if event.HasField("accepted"):
                        deadline.reschedule(None)
                        await self._accepted(event.accepted)
                        await release_lock()
                    self._apply(event)
        except TimeoutError:
            raise DeadlineExceeded(f"not accepted within {ACCEPT_TIMEOUT:.0f} s") from None

    def _call(self) -> AsyncReply:
        request, colloquy = self._request, self._workspace.colloquy
        if request.kind is Kind.REGENERATE:
            return colloquy.regenerate(request.target_reply_id, request_id=self.request_id)
        return colloquy.send(
            request.conversation_id,
            request.content or "",
            attachment_ids=request.attachment_ids,
            author=User(**request.author),
            request_id=self.request_id,
        )

    async def _accepted(self, accepted: ConversationEvent.Accepted) -> None:
        self._reply = ReplyText(accepted.reply)
        await self._set_fields(
            state=State.OPEN,
            conversation_id=accepted.reply.conversation_id,
            reply_id=accepted.reply.id,
        )
        self._runtime.failpoint("reply accepted")
        if self._request.is_stopped:
            self._to_cancel.set()

    def _apply(self, event: ConversationEvent) -> None:
        """Apply an event by the two rules: a message replaces, a delta is appended."""
        reply = self._reply
        if event.HasField("deleted"):
            self._show_failure("The conversation was deleted.")
            return
        if reply is None:
            return
        if event.HasField("message") and event.message.id == reply.message.id:
            reply.replace(event.message)
        elif event.HasField("delta"):
            reply.append(event.delta)
        message, text = reply.message, reply.text
        phase = Phase.GENERATING if text else Phase.THINKING
        if is_final(message):
            phase = _FINAL_PHASES[message.state]
        elif not text and self._delivery.view.text:
            # A new attempt begins: until it has text, that of the last one stands.
            return
        elif not text and message.state == Message.STATE_QUEUED:
            phase = Phase.QUEUED
        notes = tuple(self._request.notes)
        if phase is Phase.COMPLETED and message.finish_reason == "length":
            notes = (CUT_OFF, *notes)
        link = self._workspace.web_link(message.conversation_id)
        self._delivery.show(
            ReplyView(phase, text, _model_of(message), message.error.message, notes, web_link=link)
        )

    def _show_waiting(self, phase: Phase) -> None:
        """Show what the request waits for."""
        self._delivery.show(ReplyView(Phase.STOPPING if self._request.is_stopped else phase))

    def _show_refusal(self, error: ColloquyError) -> None:
        log.warning("server refused the request", request=self.request_id, error=describe(error))
        told = "; ".join(f"{what}" for what in error.fields.values()) or error.message
        if error.reason == BUDGET_EXCEEDED:
            told = f"{told} Try again then; `/colloquy usage` shows what you used."
        self._delivery.show(ReplyView(Phase.FAILED, error=told, notes=tuple(self._request.notes)))

    def _show_failure(self, why: str) -> None:
        text = self._reply.text if self._reply else ""
        self._delivery.show(ReplyView(Phase.FAILED, text, error=why, is_repeatable=False))

    # What is done before it is sent, each stored when it is done.

    async def _prepare(self) -> bool:
        """Fix what the server gets. Returns False when the request was deleted by then."""
        if not self._request.is_deleted:
            # Before files are fetched: a server that is away does not have them fetched in vain.
            await self._open_conversation()
            while self._request.content is None:
                prepared = await prepare_message(self._runtime, self._workspace, self._request)
                fields = await self._runtime.db.run(
                    thread_reads.fix_content, self._request, prepared.progress, prepared.fields
                )
                await self._set_fields(**fields)
            self._runtime.failpoint("message prepared")
        return not self._request.is_deleted

    async def _open_conversation(self) -> None:
        # Stored with the reply: until then it is found again by its external_id.
        self._request.conversation_id = await open_conversation(
            self._runtime, self._workspace, self._request
        )

    async def _set_fields(self, **values: object) -> None:
        """Set fields of the request, here and in the inbox, which knows whether it was stopped."""
        for name, value in values.items():
            setattr(self._request, name, value)
        self._request.is_stopped, self._request.is_deleted = await self._runtime.db.run(
            inbox.set_fields, self._request.id, **values
        )

    # Stopping.

    async def _on_stop(self) -> None:
        await self._runtime.db.run(inbox.mark_stopped, self._request.team_id, self._request.id)
        self.stop()

    async def _cancel_when_stopped(self) -> None:
        """Cancel the reply once it is to be stopped, however long the server is away."""
        await self._to_cancel.wait()
        backoff = Backoff()
        while True:
            try:
                await self._cancel()
                return
            except ColloquyError as error:
                delay = backoff.next_delay(error)
                log.info("reply not cancelled", request=self.request_id, error=describe(error))
            if delay is None:
                return
            await self._runtime.sleep(delay)

    async def _cancel(self) -> None:
        await self._workspace.colloquy.cancel_reply(
            conversation_id=self._request.conversation_id, request_id=self.request_id
        )


def _model_of(message: Message) -> str:
    """Who answered, and who could not."""
    if message.requested_model in ("", message.model):
        return message.model
    return f"{message.model} instead of {message.requested_model}"
