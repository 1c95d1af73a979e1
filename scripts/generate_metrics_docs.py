"""Make docs/metrics.md of the tables of instruments, or check that the committed one is theirs.

python -m scripts.generate_metrics_docs            # writes docs/metrics.md
python -m scripts.generate_metrics_docs --check    # writes nothing, fails when it is stale

The names that Prometheus gets are not made up here: each instrument is recorded once, and its
exporter says them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from colloquy.operations.metrics import Instrument, Instruments, Kind
from colloquy_server import metrics as server
from colloquy_slack import metrics as bot
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry

TARGET = Path(__file__).resolve().parent.parent / "docs" / "metrics.md"

TABLES = (server.INSTRUMENTS, bot.INSTRUMENTS)

PROCESS = {
    "process_resident_memory_bytes": "its memory",
    "process_virtual_memory_bytes": "its address space",
    "process_cpu_seconds_total": "the processor's time that it took",
    "process_open_fds": "files and connections that it has open",
    "process_max_fds": "how many it may",
    "process_start_time_seconds": "when it began, since 1970",
}
"""What Prometheus' own library tells of a process, on Linux."""

_HEAD = """\
# Metrics

<!-- Made by scripts/generate_metrics_docs.py of the tables in the code: change those. -->

What the server and the Slack bot tell of themselves. Where it goes, `OTEL_EXPORTER_OTLP_ENDPOINT`
and `PROMETHEUS_ADDRESS` say; [Watching it](administration.md#watching-it) tells how. In none of it
is anything that people say, nor an account, a person or a conversation.

A name is OpenTelemetry's first, as OTLP has it, then Prometheus'. There labels have `_` for `.`,
and a histogram has `_bucket`, `_sum` and `_count` after its name. Labels in _italics_ are not
always there.
"""

_OPTIONAL = frozenset({server.ERROR})


@dataclass(frozen=True, slots=True)
class Exported:
    """What Prometheus gets of an instrument."""

    name: str
    samples: frozenset[str]
    labels: frozenset[str]


def exported(instrument: Instrument) -> Exported:
    """Asks the exporter, by recording the instrument once with all of its labels."""
    registry = CollectorRegistry()
    reader = PrometheusMetricReader(
        disable_target_info=True, scope_info_enabled=False, registry=registry
    )
    meters = MeterProvider([reader], shutdown_on_exit=False)
    _record(Instruments(meters, "docs", [instrument]), instrument)
    [family] = registry.collect()
    samples = frozenset(sample.name for sample in family.samples)
    labels = frozenset(name for sample in family.samples for name in sample.labels)
    meters.shutdown()
    name = f"{family.name}_total" if instrument.kind is Kind.COUNTER else family.name
    return Exported(name, samples, labels)


def _record(instruments: Instruments, instrument: Instrument) -> None:
    labels = dict.fromkeys(instrument.labels, "x")
    if instrument.kind is Kind.COUNTER:
        instruments.counter(instrument.name).add(1, labels)
    elif instrument.kind is Kind.HISTOGRAM:
        instruments.histogram(instrument.name).record(1, labels)
    else:
        instruments.observe(instrument.name, lambda: [(1, labels)])


def document() -> str:
    """Return what docs/metrics.md is to be."""
    parts = [
        _HEAD,
        "## The server\n",
        *_table(server.INSTRUMENTS),
        "\nLabels:\n",
        *_labels(server.LABELS),
        "\n## The Slack bot\n",
        *_table(bot.INSTRUMENTS),
        "\nLabels:\n",
        *_labels(bot.LABELS),
        "\n## Any process, to Prometheus alone\n",
        "`target_info` has the service, its version and the instance as labels. On Linux also:\n",
        *(f"- `{name}`: {meaning}" for name, meaning in PROCESS.items()),
    ]
    return "\n".join(parts) + "\n"


def _table(table: Sequence[Instrument]) -> Iterator[str]:
    yield "| name | kind, unit | what it is | labels |"
    yield "| --- | --- | --- | --- |"
    for instrument in table:
        labels = ", ".join(
            f"_{label}_" if label in _OPTIONAL else f"`{label}`" for label in instrument.labels
        )
        name = f"`{instrument.name}`<br>`{exported(instrument).name}`"
        unit = f"{instrument.kind}, {instrument.unit}"
        yield f"| {name} | {unit} | {instrument.meaning} | {labels} |"


def _labels(labels: Mapping[str, str]) -> Iterator[str]:
    return (f"- `{name}`: {meaning}" for name, meaning in labels.items())


def main() -> None:
    """Write the document, or check it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--check", action="store_true")
    wanted = document()
    if not parser.parse_args().check:
        TARGET.write_text(wanted, "utf-8")
    elif TARGET.read_text("utf-8") != wanted:
        raise SystemExit("stale, run `make metrics`: docs/metrics.md")


if __name__ == "__main__":
    main()
