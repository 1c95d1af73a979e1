"""The dashboard and the alert rules ask for numbers that there are, by labels that these have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from promql_parser import AggregateExpr, Call, MatrixSelector, VectorSelector

from scripts.generate_metrics_docs import PROCESS, TABLES, exported

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
BOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "colloquy.json").read_text("utf-8"))
ALERTS: dict[str, Any] = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text("utf-8"))

RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]

TARGET = frozenset({"job", "instance"})
"""Labels that Prometheus gives to all that it fetches."""

_EXPORTED = [exported(instrument) for table in TABLES for instrument in table]
LABELS = {name: one.labels | TARGET for one in _EXPORTED for name in one.samples}
LABELS |= dict.fromkeys((*PROCESS, "up"), TARGET)
LABELS["target_info"] = TARGET | {"service_name", "service_version", "service_instance_id"}

_COUNTERS = {"rate", "increase"}
"""The functions that take what only grows, and all that does is looked at by one of them."""


def queries() -> Iterator[tuple[str, str]]:
    """Where each query stands, and it."""
    for rule in RULES:
        yield rule["alert"], rule["expr"]
    for panel in PANELS:
        for target in panel["targets"]:
            yield f"{panel['title']} {target['refId']}", target["expr"]


def parsed(query: str) -> Any:
    """The query as Prometheus reads it; for what Grafana puts in stands some value."""
    return promql_parser.parse(query.replace("$__rate_interval", "5m"))


def found(expression: Any, kind: type) -> list[Any]:
    """All parts of an expression that are of a kind."""
    parts: list[Any] = []
    promql_parser.walk(expression, lambda part: parts.append(part) if type(part) is kind else None)
    return parts


def selectors(expression: Any) -> list[VectorSelector]:
    ranges = [part.vector_selector for part in found(expression, MatrixSelector)]
    return [*found(expression, VectorSelector), *ranges]


@pytest.mark.parametrize(("where", "query"), list(queries()))
def test_a_query_asks_for_what_there_is(where: str, query: str) -> None:
    expression = parsed(query)
    asked = selectors(expression)
    assert asked, where
    for selector in asked:
        assert selector.name in LABELS, selector
        named = {matcher.name for matcher in selector.matchers.matchers}
        assert named <= LABELS[selector.name], selector
    for aggregate in found(expression, AggregateExpr):
        if aggregate.modifier is None:
            continue
        had = set[str].intersection(
            *(set(LABELS[selector.name or ""]) for selector in selectors(aggregate.expr))
        )
        assert set(aggregate.modifier.labels) <= had, aggregate


@pytest.mark.parametrize(("where", "query"), list(queries()))
def test_what_only_grows_is_asked_how_fast(where: str, query: str) -> None:
    grown = {
        selector.name
        for call in found(parsed(query), Call)
        if call.func.name in _COUNTERS
        for selector in selectors(call)
    }
    counters = re.compile("_(total|bucket|sum|count)$")
    assert {s.name for s in selectors(parsed(query)) if counters.search(s.name or "")} == grown


def test_what_the_dashboard_says_of_labels_is_so() -> None:
    for panel in PANELS:
        for target in panel["targets"]:
            shown = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            expression = parsed(target["expr"])
            kept: set[str] = set()
            for aggregate in found(expression, AggregateExpr):
                kept |= set(aggregate.modifier.labels) if aggregate.modifier else set()
            if not found(expression, AggregateExpr):
                kept = set(TARGET)
            assert shown <= kept, panel["title"]


def test_the_dashboard_is_whole() -> None:
    names = {variable["name"] for variable in BOARD["templating"]["list"]}
    text = json.dumps(BOARD)
    assert set(re.findall(r"\$\{?(\w+)", text)) <= names | {"__rate_interval", "__all"}
    for name, label in re.findall(r"label_values\((\w+).*?, (\w+)\)", text):
        assert label in LABELS[name]
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_every_instrument_is_on_the_dashboard_or_in_an_alert() -> None:
    asked = {selector.name for _, query in queries() for selector in selectors(parsed(query))}
    # Tokens of requests are those of replies, which are shown.
    for one in _EXPORTED:
        if one.name != "gen_ai_client_token_usage":
            assert one.samples & asked, one.name


def test_every_alert_says_how_bad_it_is_and_what_it_is() -> None:
    for rule in RULES:
        assert rule["labels"]["severity"] in ("warning", "critical")
        summary = rule["annotations"]["summary"]
        used = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
        expression = parsed(rule["expr"])
        aggregates = found(expression, AggregateExpr)
        kept = set(TARGET) if not aggregates else set[str]()
        for aggregate in aggregates:
            kept |= set(aggregate.modifier.labels) if aggregate.modifier else set()
        assert used <= kept, rule["alert"]
        assert summary
    names = [rule["alert"] for rule in RULES]
    assert len(names) == len(set(names))
