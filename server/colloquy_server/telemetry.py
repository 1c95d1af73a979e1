"""Traces, metrics and reports of the unexpected: off unless a setting says where to.

Names follow OpenTelemetry's semantic conventions for RPC and for generative AI. What people say is
in none of it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import sentry_sdk
from opentelemetry.metrics import MeterProvider, NoOpMeterProvider, Observation
from opentelemetry.trace import NoOpTracerProvider, SpanKind, Status, StatusCode, TracerProvider

from colloquy_server.logs import lost_lines

if TYPE_CHECKING:
    from sentry_sdk.types import Event, Hint

_NAME = "colloquy"

# Statuses that are the server's fault, as the conventions for gRPC servers have it.
_FAULTS = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)


class Call:
    """One call of the API; `status` is the name of the status that the caller gets."""

    status = "OK"


class Generation:
    """One request to a provider."""

    def __init__(self) -> None:
        self.first_text_at: float | None = None
        self.tokens: dict[str, int] = {}
        """What the provider counted, by `input` and `output`, if it says."""
        self.error = ""

    def note_error(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: object
    ) -> None:
        """How the request ended, as an exit of its context."""
        if error is not None:
            self.error = str(getattr(error, "reason", type(error).__name__))

    def note_text(self) -> None:
        """Text came."""
        if self.first_text_at is None:
            self.first_text_at = time.monotonic()

    def note_usage(self, input_tokens: int, output_tokens: int) -> None:
        """How many tokens the provider counted."""
        self.tokens = {"input": input_tokens, "output": output_tokens}


class Telemetry:
    """What the server tells of itself."""

    def __init__(
        self, tracers: TracerProvider | None = None, meters: MeterProvider | None = None
    ) -> None:
        """Without providers nothing is told, at no cost."""
        self._tracers = tracers or NoOpTracerProvider()
        self._meters = meters or NoOpMeterProvider()
        self._tracer = self._tracers.get_tracer(_NAME)
        meter = self._meters.get_meter(_NAME)
        self._calls = meter.create_histogram("rpc.server.call.duration", "s")
        self._generations = meter.create_histogram("gen_ai.client.operation.duration", "s")
        self._first_texts = meter.create_histogram(
            "gen_ai.client.operation.time_to_first_chunk", "s"
        )
        self._tokens = meter.create_histogram("gen_ai.client.token.usage", "{token}")
        meter.create_observable_counter(
            "colloquy.log.lost_lines", [lambda _options: [Observation(lost_lines())]], "{line}"
        )

    @contextmanager
    def call(self, method: str) -> Iterator[Call]:
        """Around one call of the API; `method` is its full name with a leading slash."""
        call = Call()
        started = time.monotonic()
        attributes = {"rpc.system.name": "grpc", "rpc.method": method.removeprefix("/")}
        with self._tracer.start_as_current_span(
            attributes["rpc.method"],
            kind=SpanKind.SERVER,
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield call
            finally:
                span.set_attribute("rpc.response.status_code", call.status)
                if call.status in _FAULTS:
                    span.set_status(Status(StatusCode.ERROR))
                    attributes["error.type"] = call.status
                attributes["rpc.response.status_code"] = call.status
                self._calls.record(time.monotonic() - started, attributes)

    @contextmanager
    def generation(self, provider_id: str, model_id: str) -> Iterator[Generation]:
        """Around one request to a provider."""
        generation = Generation()
        started = time.monotonic()
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": provider_id,
            "gen_ai.request.model": model_id,
        }
        with self._tracer.start_as_current_span(
            f"chat {model_id}",
            kind=SpanKind.CLIENT,
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield generation
            finally:
                if generation.error:
                    attributes["error.type"] = generation.error
                    span.set_status(Status(StatusCode.ERROR))
                self._generations.record(time.monotonic() - started, attributes)
                if generation.first_text_at is not None:
                    self._first_texts.record(generation.first_text_at - started, attributes)
                for kind, count in generation.tokens.items():
                    span.set_attribute(f"gen_ai.usage.{kind}_tokens", count)
                    self._tokens.record(count, {**attributes, "gen_ai.token.type": kind})

    def unexpected(self, error: BaseException) -> None:
        """Reports an error that nobody thought of, if there is somewhere to report it."""
        sentry_sdk.capture_exception(error)

    def close(self) -> None:
        """Sends what still waits."""
        for provider in (self._tracers, self._meters):
            shutdown = getattr(provider, "shutdown", None)
            if shutdown is not None:
                shutdown()


def open_telemetry(otlp_endpoint: str | None, sentry_dsn: str | None) -> Telemetry:
    """What OTEL_EXPORTER_OTLP_ENDPOINT and SENTRY_DSN ask for."""
    if sentry_dsn:
        sentry_sdk.init(
            sentry_dsn,
            default_integrations=False,
            include_local_variables=False,  # they hold what people said, and keys
            send_default_pii=False,
            before_send=_without_messages,
        )
    if not otlp_endpoint:
        return Telemetry()
    # Only who exports pays for loading the exporters.
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.metrics import MeterProvider as SdkMeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider as SdkTracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create({"service.name": _NAME})
    tracers = SdkTracerProvider(resource=resource)
    tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=otlp_endpoint)))
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(endpoint=otlp_endpoint))
    return Telemetry(tracers, SdkMeterProvider([reader], resource=resource))


def _without_messages(event: Event, _hint: Hint) -> Event:
    """Takes the exceptions' messages out of a report: they may hold what people said, and keys."""
    for exception in event.get("exception", {}).get("values", []):
        exception["value"] = ""
    return event
