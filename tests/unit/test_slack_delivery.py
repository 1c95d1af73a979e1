"""One reply on its way into Slack, with Slack's refusals to the call and a clock of the test's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import pytest
from colloquy import AsyncConversationClient
from colloquy_slack.database import inbox, outbox
from colloquy_slack.database.engine import Database, migrate
from colloquy_slack.database.inbox import NewRequest
from colloquy_slack.outgoing.delivery import Delivery
from colloquy_slack.outgoing.lease_fence import LeaseExpired
from colloquy_slack.outgoing.reply_messages import ARRIVES_WITHIN, DeliveryFailed
from colloquy_slack.outgoing.reply_view import Phase, ReplyView
from colloquy_slack.runtime import Runtime
from colloquy_slack.slack_api import (
    InDoubt,
    RateLimited,
    Refused,
    SlackApi,
    SlackError,
    TokenRejected,
)
from colloquy_slack.workspaces.rate_limiter import RateLimiter
from colloquy_slack.workspaces.workspace import Workspace
from slack_sdk.web.async_client import AsyncWebClient

GENERATING = ReplyView(
    Phase.GENERATING, "Some words of an answer that is being written, and more to come."
)
WHOLE = ReplyView(
    Phase.COMPLETED, "Some words of an answer that is being written, and it is whole."
)

Trouble = Callable[[dict[str, Any]], SlackError | None]


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


class Slack(SlackApi):
    """What is called, what goes wrong, and which messages stand."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(cast(AsyncWebClient, None), clock.sleep)
        self.thread_is_gone = False
        self.gates: dict[str, asyncio.Event] = {}
        self.calls: list[str] = []
        self.troubles: dict[str, Trouble] = {}
        self.messages: dict[str, dict[str, Any]] = {}
        self.called = asyncio.Event()

    async def read(self, _method: str, /, **_given: Any) -> dict[str, Any]:
        return {"messages": []}

    async def call(self, method: str, /, **given: Any) -> dict[str, Any]:
        self.calls.append(method)
        self.called.set()
        trouble = self.troubles.get(method)
        if method in self.gates:
            await self.gates[method].wait()
        problem = trouble(given) if trouble else None
        if problem is not None:
            raise problem
        ts = str(given.get("ts") or f"{len(self.calls)}.0")
        if method == "chat.delete":
            del self.messages[ts]
        elif method != "chat.stopStream":
            self.messages[ts] = given
        thread_ts = None if self.thread_is_gone else given.get("thread_ts")
        return {"ts": ts, "message": {"ts": ts, "thread_ts": thread_ts}}

    async def until(self, method: str) -> None:
        """Waits until a method was called."""
        async with asyncio.timeout(60):
            while method not in self.calls:
                self.called.clear()
                await self.called.wait()


def always(problem: SlackError) -> Trouble:
    return lambda _: problem


def times(number: int, problem: SlackError) -> Trouble:
    left = [problem] * number
    return lambda _: left.pop() if left else None


class Stage:
    def __init__(self, db: Database) -> None:
        self.clock = Clock()
        self.slack = Slack(self.clock)
        self.runtime = Runtime(db, clock=self.clock, now=self.clock, sleep=self.clock.sleep)
        self.limiter = RateLimiter(self.clock)
        self.lease_left = 60.0
        self.is_stopped = False

    async def begin(self, *, is_native: bool = False, ts: str = "1.0") -> Delivery:
        """A delivery of a request that just came, or of one that a process before left."""
        asked = NewRequest(
            team_id="T1",
            channel_id="C1",
            ts=ts,
            thread_ts="1.0",
            external_id="slack:T1:C1:1.0",
            user_id="U1",
            received_at=self.clock.now,
        )
        await self.runtime.db.run(inbox.store, asked)
        request = await self.runtime.db.run(inbox.by_ts, "T1", "C1", ts)
        assert request is not None
        posts = await self.runtime.db.run(outbox.posts, request.id)
        self.request = request
        workspace = Workspace(
            team_id="T1",
            bot_user_id="UBOT",
            bot_id="B1",
            url="https://example.slack.com/",
            slack=self.slack,
            colloquy=cast(AsyncConversationClient, None),
            limiter=self.limiter,
            is_native=is_native,
        )

        async def stop() -> None:
            self.is_stopped = True

        return Delivery(self.runtime, workspace, request, lambda: self.lease_left, stop, posts)

    async def deliver(self, *views: ReplyView, after: str = "chat.postMessage", **how: Any) -> None:
        """Shows the views one after the other, the next one when the method was called."""
        delivery = await self.begin(**how)
        delivery.show(views[0])
        running = asyncio.create_task(delivery.run())
        for view in views[1:]:
            await self.slack.until(after)
            delivery.show(view)
        async with asyncio.timeout(60):
            await running

    @property
    def shown(self) -> list[str]:
        """The kinds of the blocks of each message, and its text."""
        return [
            " ".join(str(block.get("text") or block["type"]) for block in message["blocks"])
            for message in self.slack.messages.values()
        ]


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    migrate(f"sqlite:///{tmp_path}/slack.db")
    db = Database(f"sqlite:///{tmp_path}/slack.db")
    yield Stage(db)
    await db.close()


def has_thumbs(given: dict[str, Any]) -> bool:
    return any(block["type"] == "context_actions" for block in given.get("blocks", []))


@pytest.mark.parametrize("views", [(WHOLE,), (GENERATING, WHOLE)], ids=["posted", "edited"])
async def test_where_thumbs_are_refused_the_look_of_the_text_stays(
    stage: Stage, views: tuple[ReplyView, ...]
) -> None:
    for method in ("chat.postMessage", "chat.update"):
        stage.slack.troubles[method] = lambda given: (
            Refused("invalid_blocks") if has_thumbs(given) else None
        )
    await stage.deliver(*views)
    (message,) = stage.slack.messages.values()
    assert message["blocks"][0] == {"type": "markdown", "text": WHOLE.text}
    assert message["blocks"][-1]["type"] == "actions"


@pytest.mark.parametrize("error", ["edit_window_closed", "an_error_of_tomorrow"])
@pytest.mark.parametrize("delete", [None, "cant_delete_message"])
async def test_a_reply_whose_edits_are_refused_is_posted_anew_once(
    stage: Stage, error: str, delete: str | None
) -> None:
    stage.slack.troubles["chat.update"] = always(Refused(error))
    if delete:
        stage.slack.troubles["chat.delete"] = always(Refused(delete))
    await stage.deliver(GENERATING, WHOLE)
    assert stage.slack.calls.count("chat.postMessage") == 2
    assert WHOLE.text in stage.shown[-1]
    # The old one, with its Stop button, does not stay.
    assert stage.slack.calls[-1] == "chat.delete"
    assert len(stage.shown) == (2 if delete else 1)
    (post,) = await stage.runtime.db.run(outbox.posts, stage.request.id)
    assert post.number == 0


async def test_a_message_whose_place_was_taken_is_deleted_by_the_next_process(
    stage: Stage,
) -> None:
    await stage.begin()
    row_id, db = stage.request.id, stage.runtime.db
    for number in (0, 1):
        await db.run(outbox.intend, row_id, number)
        await db.run(outbox.record, row_id, number, ts=f"{number}.5")
        stage.slack.messages[f"{number}.5"] = {"blocks": []}
        assert await db.run(outbox.supersede, row_id, number) == -2 - number
    # It died here, with nothing posted anew.
    await stage.deliver(WHOLE)
    (message,) = stage.shown
    assert WHOLE.text in message
    assert [post.number for post in await db.run(outbox.posts, row_id)] == [0]


async def test_a_reply_is_given_up_only_when_it_may_not_be_posted(stage: Stage) -> None:
    stage.slack.troubles["chat.update"] = always(Refused("an_error_of_tomorrow"))
    stage.slack.troubles["chat.postMessage"] = lambda given: (
        Refused("is_archived") if WHOLE.text in str(given) else None
    )
    with pytest.raises(DeliveryFailed, match="is_archived"):
        await stage.deliver(GENERATING, WHOLE)
    # What was there stays.
    assert GENERATING.text in stage.shown[0]


@pytest.mark.parametrize("method", ["chat.postMessage", "chat.update"])
async def test_without_a_token_that_slack_takes_a_reply_waits_for_another(
    stage: Stage, method: str
) -> None:
    stage.slack.troubles[method] = always(TokenRejected("token_revoked"))
    with pytest.raises(TokenRejected):
        await stage.deliver(GENERATING, WHOLE)
    del stage.slack.troubles[method]
    await stage.deliver(WHOLE)
    (message,) = stage.shown
    assert WHOLE.text in message


@pytest.mark.parametrize("in_doubt", [False, True])
async def test_of_a_deleted_question_nothing_is_posted(stage: Stage, in_doubt: bool) -> None:
    if in_doubt:
        stage.slack.troubles["chat.postMessage"] = times(1, InDoubt("dropped"))
    delivery = await stage.begin()
    delivery.show(GENERATING)
    stage.request.is_deleted = not in_doubt
    running = asyncio.create_task(delivery.run())
    if in_doubt:
        await stage.slack.until("chat.postMessage")
        stage.request.is_deleted = True
    delivery.show(WHOLE)
    await asyncio.wait_for(running, 60)
    assert not stage.slack.messages


@pytest.mark.parametrize("end", ["told", "lease"])
async def test_a_post_on_its_way_is_waited_for_only_while_the_lease_is_held(
    stage: Stage, end: str
) -> None:
    gate = stage.slack.gates["chat.postMessage"] = asyncio.Event()
    delivery = await stage.begin()
    delivery.show(GENERATING)
    stage.lease_left = 0.05 if end == "lease" else 60.0
    running = asyncio.create_task(delivery.run())
    await stage.slack.until("chat.postMessage")
    if end == "lease":
        stage.lease_left = 0.0
        with pytest.raises(LeaseExpired):
            await asyncio.wait_for(running, 60)
        assert not stage.slack.messages
        return
    running.cancel()
    await asyncio.sleep(0.02)
    assert not running.done()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert len(stage.slack.messages) == 1


async def test_what_was_on_its_way_is_looked_for_when_it_arrived(stage: Stage) -> None:
    stage.slack.troubles["chat.postMessage"] = times(1, InDoubt("dropped"))
    await stage.deliver(WHOLE)
    assert ARRIVES_WITHIN in stage.clock.slept
    assert len(stage.slack.messages) == 1


async def test_replies_that_wait_do_not_slow_the_one_that_is_written(stage: Stage) -> None:
    delivery = await stage.begin()
    delivery.show(ReplyView(Phase.QUEUED))
    running = asyncio.create_task(delivery.run())
    await stage.slack.until("chat.postMessage")
    assert not stage.limiter.live
    delivery.show(GENERATING)
    await stage.slack.until("chat.update")
    assert len(stage.limiter.live) == 1
    delivery.show(WHOLE)
    await running
    assert not stage.limiter.live


async def test_an_answer_to_a_deleted_thread_does_not_stand_in_the_channel(stage: Stage) -> None:
    stage.slack.thread_is_gone = True
    stage.slack.troubles["chat.delete"] = times(1, RateLimited(3.0))
    await stage.deliver(GENERATING)
    assert not stage.slack.messages
    assert stage.is_stopped


async def test_a_refusal_that_nobody_knows_may_pass_within_a_minute(stage: Stage) -> None:
    stage.slack.troubles["chat.postMessage"] = times(4, Refused("an_error_of_tomorrow"))
    await stage.deliver(WHOLE)
    assert WHOLE.text in stage.shown[0]
    stage.slack.troubles["chat.postMessage"] = always(Refused("an_error_of_tomorrow"))
    with pytest.raises(DeliveryFailed, match="an_error_of_tomorrow"):
        await stage.deliver(WHOLE, ts="2.0")
    assert sum(stage.clock.slept) < 120


@pytest.mark.parametrize("method", ["chat.delete", "chat.stopStream"])
async def test_a_last_call_that_is_refused_for_its_rate_waits(stage: Stage, method: str) -> None:
    stage.slack.troubles[method] = times(2, RateLimited(30.0))
    if method == "chat.delete":
        stage.slack.troubles["chat.update"] = always(Refused("edit_window_closed"))
        await stage.deliver(GENERATING, WHOLE)
    else:
        await stage.deliver(GENERATING, WHOLE, after="chat.startStream", is_native=True)
    assert stage.slack.calls.count(method) == 3
    assert stage.clock.slept.count(30.0) >= 2
    assert WHOLE.text in stage.shown[0]


async def test_a_stream_that_is_refused_for_its_rate_is_an_ordinary_message(stage: Stage) -> None:
    stage.slack.troubles["chat.startStream"] = always(RateLimited(30.0))
    await stage.deliver(GENERATING, WHOLE, is_native=True)
    assert stage.slack.calls[:2] == ["chat.startStream", "chat.postMessage"]
    assert 30.0 not in stage.clock.slept


@pytest.mark.parametrize(
    ("phase", "words"),
    [(Phase.QUEUED, "Queued"), (Phase.OFFLINE, "cannot reach"), (Phase.WAITING, "In line")],
)
async def test_a_stream_begins_with_text_and_not_before(
    stage: Stage, phase: Phase, words: str
) -> None:
    delivery = await stage.begin(is_native=True)
    delivery.show(ReplyView(phase))
    running = asyncio.create_task(delivery.run())
    await stage.slack.until("chat.postMessage")
    await asyncio.sleep(0)
    assert words in stage.shown[0]
    delivery.show(WHOLE)
    await running
    assert "chat.startStream" not in stage.slack.calls
    assert WHOLE.text in stage.shown[0]
