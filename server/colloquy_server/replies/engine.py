"""The reply engine: takes prompts in, writes replies, stops them, and keeps their leases.

A reply is a task of this process, tied to nobody's call. Its row is its job: what this process
owns it writes and renews; what other processes left behind it takes over. The rules of that are
in `repository.leases`; what watchers see goes through `Feeds`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeVar

import structlog

from colloquy_server.clock import boottime
from colloquy_server.concurrency import Lines, Turns, unbroken
from colloquy_server.context.builder import ContextBuilder
from colloquy_server.database.engine import EVERY_ACCOUNT, Database, DatabaseUnavailable, Session
from colloquy_server.database.models import MICROS, Attachment, Conversation, Message, State
from colloquy_server.database.repository import access, cancelling, conversations, leases, messages
from colloquy_server.database.repository.changes import Change, Fenced, Lease
from colloquy_server.database.repository.leases import Outcome, Step, Text
from colloquy_server.database.repository.messages import Prompt, Sent
from colloquy_server.errors import NotFound
from colloquy_server.providers.catalog import Catalog, ModelError
from colloquy_server.providers.client import ProviderError, Providers
from colloquy_server.replies.bus import Bus, Event
from colloquy_server.replies.feeds import Feed, Feeds
from colloquy_server.replies.generation import LiveReply, Retries, Writer
from colloquy_server.replies.publishing import Publisher
from colloquy_server.replies.suspend_detection import Wakefulness
from colloquy_server.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")

log = structlog.get_logger()

_CANCEL_PATIENCE = 0.7
"""Seconds in which an owner has to end a reply that was cancelled, before it is ended for it."""

_PLACES = 8
_PLACES_EACH = 4
"""Requests that are stored at the same time, and of these how many of one account."""

_DATABASE_PAUSE = 0.2
"""Seconds between tries to store something while the database is away."""

_HAND_BACK_PATIENCE = 3.0
"""Seconds that a process which shuts down waits for transactions that may make replies its own."""

_STORING_PAUSE = 0.05
"""Seconds between looks whether a send that is being stored has become a reply."""

_WENT_WRONG = "Something went wrong in the server. Try again."


@dataclass(frozen=True, slots=True)
class Started:
    """A prompt and its reply, stored, and the feed to watch them in: to be closed by the caller."""

    sent: Sent
    feed: Feed


class Replies:
    """All replies that this process writes."""

    def __init__(
        self,
        db: Database,
        feeds: Feeds,
        catalog: Catalog,
        providers: Providers,
        contexts: ContextBuilder,
        bus: Bus,
        settings: Settings,
    ) -> None:
        self.live: dict[str, LiveReply] = {}
        self.has_work = asyncio.Event()
        """Set when replies may wait for a place, or titles be owed."""
        self.others_wait = False
        """Whether replies of free conversations wait for a place in this process."""
        self.is_draining = False
        self._has_ended = False
        self._db = db
        self._feeds = feeds
        self._catalog = catalog
        self._settings = settings
        self._contexts = contexts
        self._wakefulness = Wakefulness(
            lambda: self.live, self._verify, lambda: self.publisher.publish_all()
        )
        self.publisher = Publisher(self.live, feeds, bus, self._wakefulness, self.lose)
        self._writer = Writer(
            providers,
            Retries(settings.provider_attempts, settings.retry_base),
            on_attempt=self._begin_attempt,
            on_text=self.publisher.take,
            on_retry=_log_retry,
        )
        self._hurry = asyncio.Event()
        self._bus = bus
        self._reserved = 0
        self._lines = Lines()
        self._turns = Turns(_PLACES, each=_PLACES_EACH)
        self._cancels: set[asyncio.Task[None]] = set()
        bus.subscribe(self._on_event)

    # --- what callers ask for -----------------------------------------------------------------

    async def send(self, account_id: str, prompt: Prompt) -> Started:
        """Stores a prompt and its reply, and sees to it that the reply is written.

        Raises NotFound, InvalidField, RequestIdReused, ConversationBusy, QueueFull.
        """
        check = self._check("")
        limit = self._settings.max_queued_per_conversation
        return await self._place(
            account_id,
            prompt.conversation_id,
            lambda s, lease: messages.send(s, account_id, prompt, check, lease, limit),
        )

    async def regenerate(
        self, account_id: str, message_id: str, model: str, request_id: str | None
    ) -> Started:
        """Stores a new reply to the same prompt, and sees to it that it is written.

        Raises NotFound, InvalidField, RequestIdReused, QueueFull.
        """
        check = self._check(model)
        limit = self._settings.max_queued_per_conversation
        return await self._place(
            account_id,
            message_id,
            lambda s, lease: messages.regenerate(
                s, account_id, message_id, model, request_id, check, lease, limit
            ),
        )

    def _check(self, model_id: str) -> messages.Check:
        """A check that the model, or else the conversation's, can be used and takes the prompt."""

        def check(conversation: Conversation, content: str, files: Sequence[Attachment]) -> str:
            model = self._catalog.resolve(model_id or conversation.model)
            self._contexts.check_fits(
                conversation.account_id, model, conversation.system_prompt, content, files
            )
            return model.id

        return check

    async def cancel(self, account_id: str, message_id: str) -> Message:
        """Stops a reply; returns it as it then stands. Raises NotFound, InvalidField."""
        asked = await self._db.write_first(account_id, cancelling.cancel, message_id)
        reply = await self._cancelled(account_id, asked)
        assert reply is not None
        return reply

    async def cancel_request(
        self, account_id: str, conversation_id: str, request_id: str
    ) -> Message | None:
        """Stops the reply of a request; None when the request has not come. Raises NotFound."""
        asked = await self._db.write_first(
            account_id, cancelling.cancel_request, account_id, conversation_id, request_id
        )
        return await self._cancelled(account_id, asked)

    async def delete_conversation(self, account_id: str, conversation_id: str) -> None:
        """Deletes a conversation and stops its replies. Raises NotFound."""
        change, live = await unbroken(
            self._db.write(account_id, conversations.delete, conversation_id)
        )
        self._forget(live)
        self._feeds.apply(change)
        self.has_work.set()

    async def delete_account(self, account_id: str) -> None:
        """Deletes an account with all that is in it. Raises NotFound."""
        gone, live = await unbroken(
            self._db.write(EVERY_ACCOUNT, access.delete_account, account_id)
        )
        self._forget(live)
        for conversation_id in gone:
            self._feeds.apply(Change(conversation_id, 0, deleted=True))
        self.has_work.set()

    # --- taking replies on --------------------------------------------------------------------

    @property
    def room(self) -> int:
        """How many more replies this process may write."""
        if self.is_draining:
            return 0
        return self._settings.max_live_replies - len(self.live) - self._reserved

    @property
    def lease(self) -> Lease:
        """What this process asks for when it takes a reply on."""
        ttl = int(self._settings.lease_ttl * MICROS)
        return Lease(ttl, self._settings.max_live_replies_per_account)

    async def _place(
        self, account_id: str, line: str, store: Callable[[Session, Lease | None], Sent]
    ) -> Started:
        """Stores a request and starts what it made; also when its caller goes away meanwhile.

        Those of one `line` wait for each other here, not at the lock of their conversation's row:
        there each would hold a connection that others need. Accounts take turns, so that a thousand
        requests of one delay another's by those that are being stored.
        """
        queue = self._lines.of(line)

        async def in_turn() -> Started:
            async with queue, self._turns.place(account_id):
                return await place()

        async def place() -> Started:
            has_room = self.room > 0
            self._reserved += has_room
            lease = self.lease if has_room else None
            deadline = self._deadline()
            try:
                sent = await self._db.write(account_id, store, lease)
            finally:
                self._reserved -= has_room
            feed = self._feeds.open_at(account_id, sent.change)
            if sent.owned:
                self._launch(sent.reply, deadline, is_new=True)
            elif lease is None:
                self._bus.publish({"kind": "work"})  # another process may have room
            if sent.interrupted is not None:
                self._spawn(self._interrupt(account_id, sent.interrupted))
            return Started(sent, feed)

        task = asyncio.create_task(in_turn())
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(self._close_unwatched)
            raise

    def _close_unwatched(self, task: asyncio.Task[Started]) -> None:
        if not task.cancelled() and task.exception() is None:
            self._feeds.close(task.result().feed)

    async def take(
        self,
        account_id: str,
        fn: Callable[Concatenate[Session, P], Step | None],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Step | None:
        """Runs a transaction that may make this process the owner of a reply, and starts on it."""

        async def take() -> Step | None:
            deadline = self._deadline()
            try:
                step = await self._db.write_first(account_id, fn, *args, **kwargs)
            finally:
                self._reserved -= 1
            if step is not None:
                self._adopt(step, deadline)
            return step

        self._reserved += 1
        return await unbroken(take())

    def _adopt(self, step: Step, deadline: float) -> None:
        self._feeds.apply(step.change)
        if step.owned is not None:
            is_new = step.owned.epoch == 1
            self._launch(step.owned, deadline, is_new=is_new)

    def _deadline(self) -> float:
        """When a lease that is asked for now is over, by this process's clock."""
        return boottime() + self._settings.lease_ttl

    def _launch(self, row: Message, deadline: float, *, is_new: bool) -> None:
        if self._has_ended:  # too late to hand it back: its lease runs out
            return
        before = self.live.get(row.id)
        if before is not None:
            self.lose(before)
        reply = LiveReply.of(row, deadline, is_new=is_new)
        self.live[row.id] = reply
        self._wakefulness.begin()
        self._feeds.live[row.conversation_id] = reply
        reply.generation = asyncio.create_task(self._generate(reply))
        reply.task = asyncio.create_task(self._see_through(reply))

    # --- writing ------------------------------------------------------------------------------

    async def _generate(self, reply: LiveReply) -> Outcome:
        try:
            model = self._catalog.resolve(reply.model)
        except ModelError as error:
            return _failure(reply, error.reason, error.fields["model"])
        request = await self._while_owner(reply, self._contexts.build, reply.message_id, model)
        reply.receipt = request.given.dump()

        async def instead(error: ProviderError) -> list[dict[str, Any]] | None:
            nonlocal request
            other = await self._while_owner(
                reply,
                partial(self._contexts.instead, is_too_long=error.is_too_long),
                reply.message_id,
                model,
                request,
            )
            if other is None:
                return None
            request = other
            reply.receipt = request.given.dump()
            return request.messages

        outcome = await self._writer.write(reply, model, request.messages, instead)
        if outcome.input_tokens is not None:
            self._contexts.learn(reply.account_id, model, request, outcome.input_tokens)
        return outcome

    async def _see_through(self, reply: LiveReply) -> None:
        """Waits for a reply's end, whatever it is, and stores it."""
        assert reply.generation is not None
        try:
            outcome = await reply.generation
        except Fenced:
            return self.lose(reply)
        except asyncio.CancelledError:
            if reply.is_lost or (self.is_draining and not reply.is_cancelled):
                return None  # somebody else's now, or handed back
            if not reply.is_cancelled:
                log.error("reply was cut off", message_id=reply.message_id)
                outcome = _failure(reply, "INTERNAL", _WENT_WRONG)
            else:
                outcome = Outcome(State.CANCELLED, reply.whole_text())
        except Exception:
            log.exception("reply failed", message_id=reply.message_id)
            outcome = _failure(reply, "INTERNAL", _WENT_WRONG)
        try:
            await self._finish(reply, outcome)
        except Fenced:
            self.lose(reply)
        except Exception:  # its lease runs out, and it is taken up again
            log.exception("reply not stored", message_id=reply.message_id)
            self.lose(reply)
        return None

    async def _finish(self, reply: LiveReply, outcome: Outcome) -> None:
        # The place of this reply goes to the next one here, unless others wait for it longer.
        next_lease = None if self.is_draining or self.others_wait else self.lease
        deadline = self._deadline()
        step = await self._while_owner(
            reply,
            self._db.write_first,
            leases.finish,
            reply.conversation_id,
            reply.message_id,
            reply.epoch,
            replace(outcome, receipt=reply.receipt),
            next_lease,
        )
        self._release(reply)
        self._adopt(step, deadline)
        self.has_work.set()
        log.info(
            "reply finished",
            message_id=reply.message_id,
            account_id=reply.account_id,
            model=reply.model,
            state=outcome.state.name,
            attempt=reply.attempt,
            error=outcome.error_reason or None,
        )

    async def _begin_attempt(self, reply: LiveReply, text: str) -> None:
        async def begin() -> None:
            step = await self._while_owner(
                reply,
                self._db.write_first,
                leases.begin_attempt,
                reply.conversation_id,
                reply.message_id,
                reply.epoch,
                text,
            )
            assert step.owned is not None
            reply.begin(step.owned.attempt, text)
            self._feeds.apply(step.change)

        await unbroken(begin())

    async def _while_owner(
        self,
        reply: LiveReply,
        run: Callable[..., Coroutine[Any, Any, T]],
        *args: Any,
    ) -> T:
        """Runs a transaction about a live reply; goes on trying while the database is away.

        Raises Fenced when the reply is not this process's any more.
        """
        while True:
            if reply.is_lost or boottime() >= reply.deadline:
                raise Fenced
            try:
                return await run(reply.account_id, *args)
            except DatabaseUnavailable:
                log.warning("database is away", message_id=reply.message_id)
                await asyncio.sleep(_DATABASE_PAUSE)

    def _on_event(self, event: Event) -> None:
        kind = event["kind"]
        if kind == "work":
            self.has_work.set()
            return
        reply = self.live.get(event.get("message", ""))
        if reply is None:
            return
        if kind == "cancel":
            self.stop(reply)
        elif kind == "want":
            self.publisher.want(reply, event)

    # --- owning -------------------------------------------------------------------------------

    async def renew(self) -> None:
        """Holds all live replies on; lets go of those that are somebody else's by now, and stops
        those that are to be cancelled."""
        owned = [(reply.message_id, reply.epoch) for reply in self.live.values()]
        if not owned:
            return
        deadline = self._deadline()
        ttl = int(self._settings.lease_ttl * MICROS)
        held = await self._db.write_first(EVERY_ACCOUNT, leases.renew, owned, ttl)
        for message_id, epoch in owned:
            reply = self.live.get(message_id)
            if reply is None or reply.epoch != epoch:
                continue
            if message_id not in held:
                self.lose(reply)
                continue
            reply.deadline = deadline
            if held[message_id] and not reply.is_cancelled:
                self.stop(reply)

    def give_up_expired(self) -> None:
        """Lets go of replies whose lease could not be renewed in time."""
        for reply in list(self.live.values()):
            if boottime() >= reply.deadline:
                self.lose(reply)

    async def _verify(self) -> None:
        """Finds out, after a sleep, which replies are still this process's."""
        while self.live:
            try:
                await self.renew()
                break
            except DatabaseUnavailable:
                self.give_up_expired()
                await asyncio.sleep(_DATABASE_PAUSE)

    # --- letting go ---------------------------------------------------------------------------

    def lose(self, reply: LiveReply) -> None:
        """Lets go of a reply that is not this process's any more: stops, and writes and sends
        nothing more of it."""
        if not reply.is_lost:
            log.warning("reply lost", message_id=reply.message_id, epoch=reply.epoch)
        reply.is_lost = True
        if reply.generation is not None:
            reply.generation.cancel()
        self._release(reply)

    def _release(self, reply: LiveReply) -> None:
        self.publisher.forget(reply)
        if self.live.get(reply.message_id) is reply:
            del self.live[reply.message_id]
        if self._feeds.live.get(reply.conversation_id) is reply:
            del self._feeds.live[reply.conversation_id]

    def _forget(self, message_ids: list[str]) -> None:
        """Lets go of replies whose rows are deleted, and has their owners elsewhere do so."""
        for message_id in message_ids:
            self._bus.publish({"kind": "cancel", "message": message_id})
            reply = self.live.get(message_id)
            if reply is not None:
                self.lose(reply)

    # --- stopping -----------------------------------------------------------------------------

    async def _cancelled(self, account_id: str, asked: cancelling.Cancelling) -> Message | None:
        """Sees a cancel through; returns the reply as it then stands."""
        if asked.change is not None:
            self._feeds.apply(asked.change)
        if asked.reply is None or not asked.is_live:
            return asked.reply
        await unbroken(self._end_live(account_id, asked.reply))
        return await self._db.read(account_id, messages.get, asked.reply.id)

    def stop(self, reply: LiveReply) -> None:
        """Stops a reply of this process: its provider's connection is closed, its text kept."""
        reply.is_cancelled = True
        if reply.generation is not None:
            reply.generation.cancel()

    async def _end_live(self, account_id: str, row: Message) -> None:
        """Has a live reply end that is to be cancelled: by its owner, else over its head."""
        reply = self.live.get(row.id)
        if reply is not None and reply.task is not None:
            self.stop(reply)
            done, _ = await asyncio.wait([reply.task], timeout=_CANCEL_PATIENCE)
            if done and not reply.is_lost:
                return
        elif await self._ended_elsewhere(account_id, row):
            return
        text, attempt = self._known(row)
        lease = self.lease if self.room > 0 and not self.others_wait else None
        ended = await self.take(
            account_id, cancelling.force_cancel, row.conversation_id, row.id, lease, text, attempt
        )
        if ended is not None and reply is not None:
            self.lose(reply)

    async def _interrupt(self, account_id: str, row: Message) -> None:
        try:
            await self._end_live(account_id, row)
        except DatabaseUnavailable:  # its owner hears of it with its next renewal
            log.warning("database is away", message_id=row.id)

    async def _ended_elsewhere(self, account_id: str, row: Message) -> bool:
        """Tells the owner, another process, to cancel a reply, and waits for it to end."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _CANCEL_PATIENCE
        try:
            feed = await self._feeds.open(account_id, row.conversation_id)
        except NotFound:
            return True
        try:
            self._bus.publish({"kind": "cancel", "message": row.id})
            while await feed.changed(until - loop.time()):
                state = await self._db.read(account_id, messages.state, row.id)
                if state != State.GENERATING:
                    return True
        finally:
            self._feeds.close(feed)
        return False

    def _known(self, row: Message) -> tuple[str, int]:
        """The text of a live reply that watchers of this process have seen, and its attempt."""
        live = self._feeds.live.get(row.conversation_id)
        if live is None or live.message_id != row.id:
            return "", 0
        return live.text, live.attempt

    async def take_over(self, row: Message) -> None:
        """Takes over a reply of an owner whose lease is over."""
        text, attempt = self._known(row)
        await self.take(
            row.account_id,
            leases.take_over,
            row.conversation_id,
            row.id,
            self.lease,
            text,
            attempt,
        )

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._cancels.add(task)
        task.add_done_callback(self._cancels.discard)

    # --- shutting down ------------------------------------------------------------------------

    def hurry(self) -> None:
        """Ends the grace of a drain."""
        self._hurry.set()

    async def drain(self, grace: float) -> None:
        """Takes on nothing more, lets live replies finish for `grace` seconds, and hands the
        others back, so that another process goes on with them at once."""
        self.is_draining = True
        try:
            async with asyncio.timeout(grace):
                while (self.live or self._reserved) and not self._hurry.is_set():
                    hurry = asyncio.create_task(self._hurry.wait())
                    tasks = [reply.task for reply in self.live.values() if reply.task]
                    # A reply that is just being stored is not there to be waited for.
                    patience = None if self.live else _STORING_PAUSE
                    await asyncio.wait(
                        [*tasks, hurry], timeout=patience, return_when=asyncio.FIRST_COMPLETED
                    )
                    hurry.cancel()
        except TimeoutError:
            pass
        await self._hand_back()
        self._bus.publish({"kind": "work"})
        self._wakefulness.stop()

    async def _hand_back(self) -> None:
        """Gives all live replies up, also those that come from transactions still on their way."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _HAND_BACK_PATIENCE
        while self.live or (self._reserved and loop.time() < until):
            left = list(self.live.values())
            for reply in left:
                if reply.generation is not None:
                    reply.generation.cancel()
            tasks = (reply.task for reply in left if reply.task)
            await asyncio.gather(*tasks, return_exceptions=True)
            left = [reply for reply in left if self.live.get(reply.message_id) is reply]
            if left:
                try:
                    await self._db.write_first(EVERY_ACCOUNT, leases.hand_back, texts_of(left))
                except DatabaseUnavailable:  # then the leases run out
                    log.warning("database is away", replies=len(left))
            for reply in left:
                self._release(reply)
                log.info("reply handed back", message_id=reply.message_id)
            await asyncio.sleep(0.01 if self._reserved else 0)
        self._has_ended = True


def texts_of(replies: list[LiveReply]) -> list[Text]:
    """What a checkpoint of these replies saves."""
    return [
        Text(reply.message_id, reply.epoch, reply.attempt, reply.text)
        for reply in replies
        if boottime() < reply.deadline
    ]


def _failure(reply: LiveReply, reason: str, message: str) -> Outcome:
    return Outcome(State.FAILED, reply.whole_text(), error_reason=reason, error_message=message)


def _log_retry(reply: LiveReply, error: ProviderError, delay: float) -> None:
    log.warning(
        "provider failed",
        message_id=reply.message_id,
        model=reply.model,
        reason=error.reason,
        detail=error.detail,
        retry_in=round(delay, 1),
    )
