"""What the server and the bot count is what happened, by OTLP and to Prometheus alike."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from colloquy.api import conversation_service_pb2 as api
from colloquy.api import resources_pb2 as resources
from colloquy_server.database.models import Message
from colloquy_server.database.transactions import EVERY_ACCOUNT, Session
from colloquy_server.replies.bus import PostgresBus
from sqlalchemy import update

from scripts.generate_metrics_docs import PROCESS, TABLES, exported
from tests.fakes.provider import Answer
from tests.fleets import ANY
from tests.harness import Caller, Colloquy, Stream, settle
from tests.metrics import Collector, Points, scraped
from tests.slack_harness import SlackStage

pytestmark = pytest.mark.timeout(180)

ANYWHERE = "127.0.0.1:0"
PRIVATE = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-|colloquy_|[TCU]0[A-Z0-9]{6,}|xoxb|xapp")
"""Ids of ours and of Slack's, and keys."""

COUNTS = {
    "prompt_tokens": 100,
    "completion_tokens": 5,
    "total_tokens": 105,
    "prompt_tokens_details": {"cached_tokens": 60},
}


async def told(port: int, condition: Callable[[Points], bool], patience: float = 60) -> Points:
    """What Prometheus gets once a condition holds; what waits is looked at every few seconds."""
    async with asyncio.timeout(patience):
        while not condition(points := await scraped(port)):  # noqa: ASYNC110 - as Prometheus does
            await asyncio.sleep(0.1)
    return points


def check_names(points: Points) -> None:
    """Nothing is told that is not in the tables, nor anything that is somebody's."""
    known = [exported(instrument) for table in TABLES for instrument in table]
    labels = {name: one.labels for one in known for name in one.samples}
    for point in points.points:
        if point.name in PROCESS or point.name in ("target_info", "python_info"):
            continue
        assert point.labels.keys() <= labels[point.name] | {"le"}, point
        assert not PRIVATE.search(" ".join(point.labels.values())), point


async def let_go(colloquy: Colloquy, reply_id: str, strikes: int = 0) -> None:
    """Has the owner of a reply lose it, whose lease then is over; so many died of it before."""
    app = colloquy.app
    app.replies.ownership.fence(app.replies.ownership.live[reply_id])

    def expire(s: Session) -> None:
        changed = update(Message).where(Message.id == reply_id)
        s.execute(changed.values(lease_until=1, strikes=strikes))

    await app.db.write(EVERY_ACCOUNT, expire)
    app.replies.ownership.has_work.set()


async def test_what_became_of_replies_is_counted(tmp_path: Path) -> None:
    async with (
        Collector() as collector,
        Colloquy(
            tmp_path, prometheus_address=ANYWHERE, otel_exporter_otlp_endpoint=collector.endpoint
        ) as colloquy,
    ):
        port = colloquy.app.metrics_port
        alice = await colloquy.account()
        conversation = await alice.create(title="Counted")
        gate = asyncio.Event()
        colloquy.provider.script(
            Answer(status=503),
            Answer(tokens=5, counts=COUNTS),
            Answer(status=400),
            *(Answer(gate_after=2, gate=asyncio.Event()) for _ in range(3)),
            Answer(gate_after=2, gate=gate),
        )
        ended = [await alice.send(conversation.id).reply() for _ in range(2)]
        ended.append(await cancelled(alice, conversation.id))

        stream, reply_id = await begun(alice, conversation.id)
        await let_go(colloquy, reply_id, strikes=2)
        ended.append(await stream.reply())

        stream, reply_id = await begun(alice, conversation.id)
        waiting = alice.send(conversation.id)
        await waiting.accepted()
        now = await told(port, lambda points: points.sum("colloquy_reply_queued") == 1)
        assert now.sum("colloquy_reply_live") == 1
        assert now.sum("colloquy_reply_stuck") == 0
        assert now.sum("colloquy_reply_limit") == 400
        assert now.sum("colloquy_reply_oldest_waiting_seconds") >= 0
        assert now.sum("colloquy_watcher_open", colloquy_watched="conversation") == 2
        method = "conversation.v1.ConversationService/SendMessage"
        assert now.sum("colloquy_call_active", rpc_method=method, rpc_system_name="grpc") == 2
        await let_go(colloquy, reply_id)
        await colloquy.provider.wait_for_requests(7)
        gate.set()
        ended += [await stream.reply(), await waiting.reply()]
        (booked,) = (await alice.call("GetUsage", api.GetUsageRequest())).rows
        # A call is told a moment after its caller has the answer.
        name = "rpc_server_call_duration_seconds_count"
        last = await told(port, lambda points: points.sum(name, rpc_method=method) == 6)
        await colloquy.stop()
        sent = collector.latest("colloquy")

    states = [resources.Message.State.Name(reply.state) for reply in ended]
    completed = "STATE_COMPLETED"
    failed = "STATE_FAILED"
    assert states == [completed, failed, "STATE_CANCELLED", failed, completed, completed]
    check_names(last)
    replies = "colloquy_reply_ended_total"
    model = {"gen_ai_request_model": "test-model"}
    assert last.sum(replies, colloquy_reply_state="completed", **model) == 3
    assert last.sum(replies, error_type="PROVIDER_REJECTED", **model) == 1
    assert last.sum(replies, error_type="REPLY_ABANDONED", **model) == 1
    assert last.sum(replies, colloquy_reply_state="cancelled", **model) == 1
    failures = "colloquy_provider_failures_total"
    assert last.sum(failures, error_type="PROVIDER_UNAVAILABLE", colloquy_retried="true") == 1
    assert last.sum(failures, error_type="PROVIDER_REJECTED", colloquy_retried="false") == 1
    assert last.sum("colloquy_reply_attempts_sum") == sum(reply.attempt for reply in ended)
    assert ended[4].attempt == 2
    tokens = "colloquy_reply_tokens_total"
    used = [reply.usage for reply in ended]
    for kind in ("input", "output"):
        # What providers told; with what is estimated of answers that this process itself cut off.
        said = sum(getattr(usage, f"{kind}_tokens") for usage in used)
        assert said < last.sum(tokens, gen_ai_token_type=kind) <= getattr(booked, f"{kind}_tokens")
    assert last.sum(tokens, gen_ai_token_type="cached") == 60
    costs = last.sum("colloquy_reply_cost_usd_total")
    assert sum(usage.cost_usd for usage in used) < costs <= booked.cost_usd
    assert last.sum("colloquy_lease_lost_total", colloquy_lease_cause="fenced") == 2
    assert last.sum("colloquy_lease_taken_over_total", colloquy_lease_cause="expired") == 2
    waits = "db_client_connection_wait_time_seconds_count"
    for pool in ("read", "write", "write_first"):
        assert last.sum(waits, db_client_connection_pool_name=pool) > 0
    assert last.sum("colloquy_reply_live") == 0
    assert last.sum("colloquy_call_active") == 0
    assert last.sum("colloquy_bus_up") == 1
    # What was sent says the same.
    assert sent.sum("colloquy.reply.ended") == last.sum(replies)
    assert sent.sum("colloquy.reply.cost_usd") == pytest.approx(costs)
    assert sent.sum("colloquy.lease.taken_over") == 2
    assert sent.labels("gen_ai.client.operation.duration")


async def begun(caller: Caller, conversation_id: str) -> tuple[Stream, str]:
    """A reply in the middle of its text, and its id."""
    stream = caller.send(conversation_id)
    reply_id = (await stream.accepted()).reply.id
    await stream.until("delta")
    return stream, reply_id


async def cancelled(caller: Caller, conversation_id: str) -> resources.Message:
    stream, reply_id = await begun(caller, conversation_id)
    await caller.cancel(reply_id)
    return await stream.reply()


@ANY
async def test_a_server_that_nobody_watches_measures_nothing(colloquy: Colloquy) -> None:
    app = colloquy.app
    assert app.metrics_port == 0
    assert not app.telemetry.counts
    assert type(app.db).__name__ == "SqliteDatabase"
    assert "look at the backlog" not in {loop.name for loop in app.upkeep._loops}


async def test_a_bus_that_is_down_tells_so_and_how_much_waits() -> None:
    bus = PostgresBus("postgresql://nobody@127.0.0.1:1/nothing")
    assert bus.disconnects == 0
    await bus.start()
    bus.publish({"kind": "work"})
    await settle(lambda: bus.disconnects > 1, 60)  # each of its two connections tries
    assert (bus.is_up, bus.waiting) == (False, 1)
    await bus.stop()


async def test_what_the_bot_does_in_slack_is_counted(tmp_path: Path) -> None:
    async with (
        Collector() as collector,
        Colloquy(tmp_path) as colloquy,
        SlackStage(
            colloquy,
            slack_prometheus_address=ANYWHERE,
            otel_exporter_otlp_endpoint=collector.endpoint,
        ) as stage,
    ):
        port = stage.bot.metrics_port
        gate = asyncio.Event()
        colloquy.provider.script(Answer(tokens=40, gate_after=20, gate=gate))
        asked = stage.alice.post(stage.general, "Hello", mention=True)
        await stage.slack.wait_for(lambda: stage.slack.bot_messages(stage.general, asked.ts))
        now = await told(port, lambda points: points.sum("colloquy_slack_request_unfinished") == 1)
        assert now.sum("colloquy_slack_request_live") == 1
        assert now.sum("colloquy_slack_workspaces") == 1
        assert now.sum("colloquy_slack_request_oldest_seconds") >= 0
        stage.slack.fail("chat.update", retry_after=1)
        gate.set()
        await stage.answered(stage.general, asked.ts, seconds=60)
        last = await told(port, lambda points: points.sum("colloquy_slack_request_live") == 0)
        calls = stage.slack.calls("chat.update")
        await stage.stop()
        sent = collector.latest("colloquy-slack")

    check_names(last)
    edits = "colloquy_slack_call_duration_seconds_count"
    of_edits = {"colloquy_slack_method": "chat.update"}
    assert last.sum(edits, **of_edits) == len(calls) > 1
    assert last.sum(edits, error_type="rate_limited", **of_edits) == 1
    assert last.sum("colloquy_slack_rate_limit_wait_seconds_sum", **of_edits) == 1
    received = "colloquy_slack_event_received_total"
    assert last.sum(received, colloquy_slack_event="app_mention") >= 1
    assert sent.sum("colloquy.slack.call.duration") >= last.sum(edits)
    assert sent.sum("colloquy.slack.rate_limit.wait") == 1
