"""Traces, metrics and reports of the unexpected: off unless a setting says where to.

Names follow OpenTelemetry's semantic conventions for RPC and for generative AI. What people say is
in none of it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import sentry_sdk
from colloquy.operations.metrics import (
    Exporter,
    Instruments,
    Observed,
    describe_process,
    host_and_port,
)
from opentelemetry.context import Context
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import NoOpTracerProvider, SpanKind, Status, StatusCode, TracerProvider

from colloquy_server import metrics
from colloquy_server.logs import lost_lines

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
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
        self,
        tracers: TracerProvider | None = None,
        meters: MeterProvider | None = None,
        exporter: Exporter | None = None,
    ) -> None:
        """Without providers nothing is told, at no cost. `exporter` is the one of the meters."""
        self.counts = meters is not None
        """Whether anybody wants metrics."""
        self._exporter = exporter
        self._tracers = tracers or NoOpTracerProvider()
        self._tracer = self._tracers.get_tracer(_NAME)
        instruments = self._instruments = Instruments(meters, _NAME, metrics.INSTRUMENTS)
        self._calls = instruments.histogram("rpc.server.call.duration")
        self._active = instruments.up_down_counter("colloquy.call.active")
        self._generations = instruments.histogram("gen_ai.client.operation.duration")
        self._first_texts = instruments.histogram("gen_ai.client.operation.time_to_first_chunk")
        self._tokens = instruments.histogram("gen_ai.client.token.usage")
        self._replies = instruments.counter("colloquy.reply.ended")
        self._attempts = instruments.histogram("colloquy.reply.attempts")
        self._reply_tokens = instruments.counter("colloquy.reply.tokens")
        self._reply_costs = instruments.counter("colloquy.reply.cost_usd")
        self._failures = instruments.counter("colloquy.provider.failures")
        self._lost_leases = instruments.counter("colloquy.lease.lost")
        self._takeovers = instruments.counter("colloquy.lease.taken_over")
        self._waits = instruments.histogram("db.client.connection.wait_time")
        self.observe("colloquy.log.lost_lines", lambda: [(lost_lines(), {})])

    def listen(self) -> int:
        """Lets Prometheus come, if it is to; returns the port, or 0. Raises OSError."""
        return self._exporter.listen() if self._exporter is not None else 0

    def observe(self, name: str, observed: Observed) -> None:
        """Has an instrument say what is so whenever somebody asks."""
        self._instruments.observe(name, observed)

    @contextmanager
    def call(
        self, method: str, system: str = "grpc", trace: Context | None = None
    ) -> Iterator[Call]:
        """Around one call of the API; `method` is its full name with a leading slash, `system` one
        of the names that the conventions have, `trace` what its caller says that it is part of."""
        call = Call()
        started = time.monotonic()
        attributes = {"rpc.system.name": system, "rpc.method": method.removeprefix("/")}
        self._active.add(1, active := attributes.copy())
        with self._tracer.start_as_current_span(
            attributes["rpc.method"],
            context=trace,
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
                self._active.add(-1, active)
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

    def reply_ended(
        self,
        model_id: str,
        state: str,
        error: str,
        *,
        attempts: int,
    ) -> None:
        """A reply's end was stored."""
        model = {metrics.MODEL: model_id}
        ended = {**model, metrics.STATE: state}
        self._replies.add(1, {**ended, metrics.ERROR: error} if error else ended)
        self._attempts.record(attempts, model)

    def used(self, model_id: str, tokens: Mapping[str, int], cost_usd: float) -> None:
        """A use of a model was booked; `tokens` are by the values of `gen_ai.token.type`."""
        model = {metrics.MODEL: model_id}
        for kind, count in tokens.items():
            self._reply_tokens.add(count, {**model, metrics.TOKEN: kind})
        self._reply_costs.add(cost_usd, model)

    def provider_failed(self, model_id: str, error: str, *, is_retried: bool) -> None:
        """A request for a reply failed, and is made again or not."""
        retried = "true" if is_retried else "false"
        about = {metrics.MODEL: model_id, metrics.ERROR: error, metrics.RETRIED: retried}
        self._failures.add(1, about)

    def lease_lost(self, cause: str) -> None:
        """This process let go of a reply; `cause` is `expired` or `fenced`."""
        self._lost_leases.add(1, {metrics.CAUSE: cause})

    def lease_taken_over(self, cause: str) -> None:
        """This process took a reply over; `cause` is `expired` or `released`."""
        self._takeovers.add(1, {metrics.CAUSE: cause})

    def database_waited(self, pool: str, seconds: float) -> None:
        """A transaction waited for so long to begin. May be called in any thread."""
        self._waits.record(seconds, {metrics.POOL: pool})

    def unexpected(self, error: BaseException) -> None:
        """Reports an error that nobody thought of, if there is somewhere to report it."""
        sentry_sdk.capture_exception(error)

    def close(self) -> None:
        """Sends what still waits."""
        shutdown = getattr(self._tracers, "shutdown", None)
        if shutdown is not None:
            shutdown()
        if self._exporter is not None:
            self._exporter.close()


def open_telemetry(
    otlp_endpoint: str | None,
    sentry_dsn: str | None,
    prometheus_address: str | None = None,
    worker: int = 1,
) -> Telemetry:
    """What OTEL_EXPORTER_OTLP_ENDPOINT, SENTRY_DSN and PROMETHEUS_ADDRESS ask for. Each worker
    listens for Prometheus on a port of its own, which are counted from the address's on: one page
    of several processes would have to mix their numbers, or tell those of one by chance."""
    if sentry_dsn:
        sentry_sdk.init(
            sentry_dsn,
            default_integrations=False,
            include_local_variables=False,  # they hold what people said, and keys
            send_default_pii=False,
            before_send=_without_messages,
        )
    if not (otlp_endpoint or prometheus_address):
        return Telemetry()
    resource = describe_process(_NAME, "colloquy-server")
    exporter = Exporter(resource, otlp_endpoint, _address(prometheus_address, worker))
    tracers = _tracers(resource, otlp_endpoint) if otlp_endpoint else None
    return Telemetry(tracers, exporter.meters, exporter)


def _tracers(resource: Resource, otlp_endpoint: str) -> TracerProvider:
    # Only who exports pays for loading the exporter.
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider as SdkTracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    tracers = SdkTracerProvider(resource=resource)
    tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=otlp_endpoint)))
    return tracers


def _address(address: str | None, worker: int) -> tuple[str, int] | None:
    if address is None:
        return None
    host, port = host_and_port(address)
    return host, port + worker - 1 if port else 0


def _without_messages(event: Event, _hint: Hint) -> Event:
    """Takes the exceptions' messages out of a report: they may hold what people said, and keys."""
    for exception in event.get("exception", {}).get("values", []):
        exception["value"] = ""
    return event
