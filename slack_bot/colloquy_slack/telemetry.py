"""Metrics of the bot: off unless a setting says where to. What people say is in none of them."""

from __future__ import annotations

from colloquy.operations.metrics import (
    Exporter,
    Instruments,
    Observed,
    describe_process,
    host_and_port,
)

from colloquy_slack import metrics
from colloquy_slack.logs import lost_lines

_NAME = "colloquy-slack"

_EVENTS = frozenset(
    {
        *("message", "app_mention", "reaction_added", "agent_session_stopped", "app_home_opened"),
        *("member_joined_channel", "member_left_channel", "app_uninstalled", "tokens_revoked"),
    }
)
"""The types that are told; what else Slack sends is one more."""


class Telemetry:
    """What the bot tells of itself."""

    def __init__(self, exporter: Exporter | None = None) -> None:
        """Without an exporter nothing is told, at no cost."""
        self.counts = exporter is not None
        """Whether anybody wants metrics."""
        self._exporter = exporter
        meters = exporter.meters if exporter is not None else None
        self._instruments = Instruments(meters, _NAME, metrics.INSTRUMENTS)
        self._calls = self._instruments.histogram("colloquy.slack.call.duration")
        self._waits = self._instruments.histogram("colloquy.slack.rate_limit.wait")
        self._events = self._instruments.counter("colloquy.slack.event.received")
        self.observe("colloquy.log.lost_lines", lambda: [(lost_lines(), {})])

    def observe(self, name: str, observed: Observed) -> None:
        """Have an instrument say what is so whenever somebody asks."""
        self._instruments.observe(name, observed)

    def called(self, method: str, seconds: float, error: str = "") -> None:
        """A call of Slack ended; `error` says how it failed."""
        about = {metrics.METHOD: method}
        self._calls.record(seconds, {**about, metrics.ERROR: error} if error else about)

    def rate_limited(self, method: str, retry_after: float) -> None:
        """Slack said to wait for so many seconds."""
        self._waits.record(retry_after, {metrics.METHOD: method})

    def received(self, event: str) -> None:
        """Something came from Slack: an event of this type, `action` or `command`."""
        is_known = event in _EVENTS or event in ("action", "command")
        self._events.add(1, {metrics.EVENT: event if is_known else "other"})

    def listen(self) -> int:
        """Let Prometheus come, if it is to; return the port, or 0. Raises OSError."""
        return self._exporter.listen() if self._exporter is not None else 0

    def close(self) -> None:
        """Send what still waits."""
        if self._exporter is not None:
            self._exporter.close()


def open_telemetry(otlp_endpoint: str | None, prometheus_address: str | None) -> Telemetry:
    """Return what OTEL_EXPORTER_OTLP_ENDPOINT and SLACK_PROMETHEUS_ADDRESS ask for."""
    if not (otlp_endpoint or prometheus_address):
        return Telemetry()
    address = host_and_port(prometheus_address) if prometheus_address else None
    resource = describe_process(_NAME, "colloquy-slack")
    return Telemetry(Exporter(resource, otlp_endpoint, address))
