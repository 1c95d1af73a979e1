"""Telemetry tells how calls and requests end, and nothing of what people say."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import grpc
import pytest
from colloquy.api import conversation_service_pb2 as api
from colloquy_server import app, telemetry
from colloquy_server import metrics as server_metrics
from colloquy_server.telemetry import Telemetry
from colloquy_slack import metrics as bot_metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.fakes.provider import Answer
from tests.harness import Colloquy, settle

SAID = "a secret that nobody else should read"


class Told:
    """What a server tells."""

    def __init__(self) -> None:
        self.spans = InMemorySpanExporter()
        self.reader = InMemoryMetricReader()
        tracers = TracerProvider()
        tracers.add_span_processor(SimpleSpanProcessor(self.spans))
        self.telemetry = Telemetry(tracers, MeterProvider([self.reader]))

    def metrics(self) -> dict[str, list[dict[str, Any]]]:
        data = self.reader.get_metrics_data()
        assert data is not None
        return {
            metric.name: [dict(point.attributes or {}) for point in metric.data.data_points]
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def calls(self) -> set[tuple[str, str]]:
        """The methods that were called, each with the status that its caller got."""
        return {
            (str(call["rpc.method"]).rpartition("/")[2], str(call["rpc.response.status_code"]))
            for call in self.metrics().get("rpc.server.call.duration", [])
        }


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    told = Told()
    monkeypatch.setattr(app, "open_telemetry", lambda *_: told.telemetry)
    return told


async def test_calls_and_requests_to_providers_are_told_with_their_true_ends(
    told: Told, tmp_path: Path
) -> None:
    async with Colloquy(tmp_path) as colloquy:
        alice = await colloquy.account()
        conversation = await alice.create(title="Told")
        colloquy.provider.script(Answer(status=503), Answer(tokens=5))
        await alice.send(conversation.id, SAID).reply()
        # A call is told a moment after its caller has the answer.
        await settle(lambda: ("SendMessage", "OK") in told.calls())
        metrics = told.metrics()
    requests = metrics["gen_ai.client.operation.duration"]
    assert {request.get("error.type") for request in requests} == {None, "PROVIDER_UNAVAILABLE"}
    assert metrics["gen_ai.client.token.usage"]
    assert metrics["gen_ai.client.operation.time_to_first_chunk"]
    spans = told.spans.get_finished_spans()
    assert "chat test-model" in {span.name for span in spans}
    everything = " ".join(span.to_json() for span in spans)
    assert SAID not in everything
    assert alice.key not in everything


async def test_a_refused_call_is_told_with_the_status_that_its_caller_got(
    told: Told, tmp_path: Path
) -> None:
    async with Colloquy(tmp_path) as colloquy:
        alice = await colloquy.account()
        with pytest.raises(Exception, match="NOT_FOUND"):
            await alice.message("01890000-0000-7000-8000-000000000000")
        await settle(lambda: ("GetMessage", "NOT_FOUND") in told.calls())


async def test_a_watcher_who_leaves_in_the_middle_of_an_event_is_no_fault_of_the_servers(
    told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unexpected: list[BaseException] = []
    monkeypatch.setattr(told.telemetry, "unexpected", unexpected.append)
    async with Colloquy(tmp_path) as colloquy:
        alice = await colloquy.account()
        conversation = await alice.create(title="Told")
        request = api.GetConversationRequest(conversation_id=conversation.id)
        token = (await alice.call("GetConversation", request)).resume_token
        for _ in range(8):  # MiB: more than gRPC takes ahead of a reader
            colloquy.provider.script(Answer(pieces=["x" * (1 << 20)]))
            await alice.send(conversation.id).rest()
        # Who takes little ahead, reads the first event and then nothing more.
        options = [("grpc.http2.lookahead_bytes", 65_536), ("grpc.use_local_subchannel_pool", 1)]
        for _ in range(2):
            channel = grpc.aio.insecure_channel(f"127.0.0.1:{colloquy.app.port}", options=options)
            watch = alice.on(channel).watch(conversation.id, token)
            await watch.next()
            await asyncio.sleep(0.1)  # nothing tells that the server is in the middle of a write
            watch.cancel()
            await channel.close()
        await settle(lambda: ("WatchConversation", "CANCELLED") in told.calls())
        await settle(lambda: not colloquy.app.feeds._feeds)
    assert told.calls() & {("WatchConversation", "INTERNAL")} == set()
    assert unexpected == []


def test_lines_that_the_log_lost_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "lost_lines", lambda: 7)
    data = Told().reader.get_metrics_data()
    assert data is not None
    (metric,) = [
        metric
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    ]
    assert metric.name == "colloquy.log.lost_lines"
    assert [point.value for point in metric.data.data_points] == [7]  # type: ignore[union-attr]


def test_each_worker_has_a_port_of_its_own_for_prometheus() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        third = telemetry.open_telemetry(None, None, f"127.0.0.1:{port - 2}", worker=3)
        taken.listen()
        with pytest.raises(OSError, match=f"127.0.0.1:{port} for Prometheus: "):
            third.listen()
    third.close()


def test_a_table_has_a_name_once_and_says_what_its_labels_mean() -> None:
    for table in (server_metrics, bot_metrics):
        names = [instrument.name for instrument in table.INSTRUMENTS]
        assert len(names) == len(set(names))
        used = {label for instrument in table.INSTRUMENTS for label in instrument.labels}
        assert used == table.LABELS.keys()
