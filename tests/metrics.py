"""What a process tells of itself, as those get it who come for it or are sent it."""

from __future__ import annotations

import asyncio
import urllib.request
from dataclasses import dataclass, field
from typing import Any

import grpc
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from prometheus_client.parser import text_string_to_metric_families

_METRICS = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"


@dataclass
class Point:
    """One number with its labels."""

    name: str
    labels: dict[str, str]
    value: float


@dataclass
class Points:
    """All numbers that were told."""

    points: list[Point] = field(default_factory=list)

    def sum(self, name: str, **labels: str) -> float:
        """The sum of those of this name whose labels say so."""
        return sum(
            point.value
            for point in self.points
            if point.name == name and labels.items() <= point.labels.items()
        )

    def labels(self, name: str) -> list[dict[str, str]]:
        """Of each number of this name."""
        return [point.labels for point in self.points if point.name == name]


async def scraped(port: int) -> Points:
    """What Prometheus gets."""
    return parsed(await asyncio.to_thread(_page, port))


def _page(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as response:
        return str(response.read(), "utf-8")


def parsed(page: str) -> Points:
    """The numbers of a page."""
    return Points(
        [
            Point(sample.name, dict(sample.labels), sample.value)
            for family in text_string_to_metric_families(page)
            for sample in family.samples
        ]
    )


class Collector(grpc.GenericRpcHandler):
    """Takes what is sent by OTLP."""

    def __init__(self) -> None:
        self._metrics: dict[str, ExportMetricsServiceRequest] = {}

    async def __aenter__(self) -> Collector:
        self._server = grpc.aio.server()
        self._server.add_generic_rpc_handlers((self,))
        self.endpoint = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(None)

    def service(self, details: Any) -> Any:
        """gRPC's: what takes a call."""

        async def take(request: bytes, _context: Any) -> bytes:
            if details.method == _METRICS:
                sent = ExportMetricsServiceRequest.FromString(request)
                for resource in sent.resource_metrics:
                    service = _labels(resource.resource.attributes)["service.name"]
                    self._metrics[service] = sent
            return b""

        return grpc.unary_unary_rpc_method_handler(take)

    def latest(self, service: str) -> Points:
        """What a service said last: its numbers go on from the beginning of its process."""
        points = Points()
        sent = self._metrics.get(service, ExportMetricsServiceRequest())
        for resource in sent.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    for number in (*metric.sum.data_points, *metric.gauge.data_points):
                        value = number.as_int or number.as_double
                        labels = _labels(number.attributes)
                        points.points.append(Point(metric.name, labels, value))
                    for histogram in metric.histogram.data_points:
                        labels = _labels(histogram.attributes)
                        points.points.append(Point(metric.name, labels, histogram.count))
        return points


def _labels(attributes: Any) -> dict[str, str]:
    pairs: list[KeyValue] = list(attributes)
    return {pair.key: pair.value.string_value for pair in pairs}
