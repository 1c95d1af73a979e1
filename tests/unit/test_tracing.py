"""What callers say to be followed by is looked at before it is logged or sent on."""

from __future__ import annotations

import re

import pytest
from colloquy import followed_as
from colloquy.channel import metadata
from colloquy.config import resolve
from colloquy_server import tracing

BAD = ("", " ", "a b", "a\nb", "a\x00", "é", '"', "{}", "<b>", "a,b", "x" * 129, "a\r\nx-evil: 1")


@pytest.mark.parametrize("given", BAD)
def test_an_id_that_could_mislead_a_log_is_replaced(given: str) -> None:
    for value in (given, given.encode()):
        made = tracing.request_id_of([("x-request-id", value)])
        assert re.fullmatch("[0-9a-f]{32}", made)


@pytest.mark.parametrize("given", ["7", "T01:C02:1700000000.000100", "x" * 128, "a-b_c/d+e=f@g"])
def test_an_id_is_kept_and_the_first_one_counts(given: str) -> None:
    for value in (given, given.encode()):
        assert tracing.request_id_of([("x-request-id", value), ("x-request-id", "b")]) == given


def test_calls_without_an_id_get_one_each() -> None:
    assert len({tracing.request_id_of([]) for _ in range(10)}) == 10


@pytest.mark.parametrize("given", ["", "00", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "x" * 999])
def test_a_trace_that_is_none_leads_nowhere(given: str) -> None:
    with_it = tracing.trace_of([("traceparent", given)])
    assert with_it is not None
    assert not dict(with_it)
    assert tracing.trace_of([("tracestate", "a=b")]) is None


def test_the_library_sends_an_id_where_one_is_given() -> None:
    endpoint = resolve("localhost:1", "key", key_variable="NO_SUCH_VARIABLE")
    authorization = ("authorization", "Bearer key")
    with followed_as("one"):
        assert metadata(endpoint) == (authorization, ("x-request-id", "one"))
        with followed_as("two"):
            assert metadata(endpoint)[1] == ("x-request-id", "two")
    assert metadata(endpoint) == (authorization,)
