"""Telemetry tells how calls and requests end, and nothing of what people say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from server import app
from server.telemetry import Telemetry
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
