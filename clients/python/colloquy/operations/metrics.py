"""Metrics: what a process counts and measures, and how others get it.

A table of `Instrument` says all that there is; nothing is recorded that is not in it. It is sent by
OTLP, fetched by Prometheus, or both. This alone of `operations` needs more than Python, which the
server and the bot bring: OpenTelemetry, loaded when somebody wants it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from opentelemetry.metrics import (
    Counter,
    Histogram,
    MeterProvider,
    NoOpMeterProvider,
    Observation,
    UpDownCounter,
)

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

Observed = Callable[[], Iterable[tuple[float, Mapping[str, str]]]]
"""What is so at the moment: values, each with its labels. It may be called in any thread."""


class Kind(StrEnum):
    """What a number does: a counter only grows, a gauge goes up and down, a histogram says how
    many there were of each size."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Instrument:
    """One thing that is counted or measured. `unit` is as UCUM writes it, what is counted in
    braces; `bounds` are those of a histogram's buckets."""

    name: str
    kind: Kind
    unit: str
    meaning: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()


class Instruments:
    """The instruments of a table, by their names. Without `meters` nothing is recorded, at no
    cost."""

    def __init__(
        self, meters: MeterProvider | None, scope: str, table: Sequence[Instrument]
    ) -> None:
        self._meter = (meters or NoOpMeterProvider()).get_meter(scope)
        self._table = {instrument.name: instrument for instrument in table}

    def counter(self, name: str) -> Counter:
        """What only grows."""
        return self._meter.create_counter(name, **self._described(name, Kind.COUNTER))

    def up_down_counter(self, name: str) -> UpDownCounter:
        """A gauge that is told of each change."""
        return self._meter.create_up_down_counter(name, **self._described(name, Kind.GAUGE))

    def histogram(self, name: str) -> Histogram:
        """What is measured each time."""
        return self._meter.create_histogram(
            name,
            **self._described(name, Kind.HISTOGRAM),
            explicit_bucket_boundaries_advisory=self._table[name].bounds,
        )

    def observe(self, name: str, observed: Observed) -> None:
        """A gauge or a counter that is looked at when somebody asks."""

        def look(_options: object) -> list[Observation]:
            return [Observation(value, labels) for value, labels in observed()]

        if self._table[name].kind is Kind.GAUGE:
            described = self._described(name, Kind.GAUGE)
            self._meter.create_observable_gauge(name, [look], **described)
        else:
            described = self._described(name, Kind.COUNTER)
            self._meter.create_observable_counter(name, [look], **described)

    def _described(self, name: str, kind: Kind) -> dict[str, str]:
        instrument = self._table[name]
        assert instrument.kind is kind, name
        return {"unit": instrument.unit, "description": instrument.meaning}


class Exporter:
    """Brings what is recorded to those who want it: by OTLP every minute (or
    OTEL_METRIC_EXPORT_INTERVAL), by Prometheus' page when it comes."""

    def __init__(
        self, resource: Resource, otlp_endpoint: str | None, address: tuple[str, int] | None
    ) -> None:
        """`address` is where Prometheus comes to; `listen` begins to listen there."""
        from opentelemetry.sdk.metrics import MeterProvider as SdkMeterProvider
        from opentelemetry.sdk.metrics.export import MetricReader

        self._address = address
        self._server: Any = None
        readers: list[MetricReader] = []
        if otlp_endpoint:
            from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
            from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

            readers.append(PeriodicExportingMetricReader(OTLPMetricExporter(otlp_endpoint)))
        if address is not None:
            from opentelemetry.exporter.prometheus import PrometheusMetricReader
            from prometheus_client import CollectorRegistry, ProcessCollector

            # Its own: the library's is shared by all that a process loads.
            self._registry = CollectorRegistry()
            readers.append(
                PrometheusMetricReader(scope_info_enabled=False, registry=self._registry)
            )
            ProcessCollector(registry=self._registry)
        self.meters = SdkMeterProvider(readers, resource=resource)

    def listen(self) -> int:
        """Lets Prometheus come; returns the port, 0 where none is wanted. Raises OSError."""
        if self._address is None:
            return 0
        from prometheus_client import start_http_server

        host, port = self._address
        try:
            # In threads of its own: a page takes some milliseconds.
            self._server, _ = start_http_server(port, host, self._registry)
        except OSError as error:
            why = error.strerror or str(error)
            raise OSError(f"cannot listen on {host}:{port} for Prometheus: {why}") from None
        return int(self._server.server_port)

    def close(self) -> None:
        """Sends what still waits, and stops listening."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
        self.meters.shutdown()


def describe_process(service: str, distribution: str) -> Resource:
    """What tells this process from others in all that it exports: its service, the version of its
    distribution, and its host and number."""
    from opentelemetry.sdk.resources import Resource

    return Resource.create(
        {
            "service.name": service,
            "service.version": version(distribution),
            "service.instance.id": f"{socket.gethostname()}:{os.getpid()}",
        }
    )


def host_and_port(address: str) -> tuple[str, int]:
    """The two parts of HOST:PORT, without the brackets of IPv6."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
