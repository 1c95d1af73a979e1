"""What a call is followed by, from its caller to the provider's log: its request id, and the trace
that it is part of by W3C Trace Context."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextvars import ContextVar
from uuid import uuid4

from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

HEADER = "x-request-id"

request_id: ContextVar[str] = ContextVar("request id", default="")
"""The id of the call that is served here, or of what is done for one; empty where nothing is."""

_REQUEST_ID = re.compile(r"[0-9A-Za-z._:/+=@-]{1,128}")
"""What is logged and sent on of what callers say."""

_TRACE_CONTEXT = ("traceparent", "tracestate")

_propagator = TraceContextTextMapPropagator()


def request_id_of(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """The id that a caller gave its call, or a new one."""
    given = next((_text(value) for name, value in metadata if name == HEADER), "")
    return given if _REQUEST_ID.fullmatch(given) else uuid4().hex


def trace_of(metadata: Iterable[tuple[str, str | bytes]]) -> Context | None:
    """The trace that a caller's call is part of; None when it names none."""
    carrier = {name: _text(value) for name, value in metadata if name in _TRACE_CONTEXT}
    return _propagator.extract(carrier) if "traceparent" in carrier else None


def provider_headers() -> dict[str, str]:
    """What a provider is told of where a request comes from. Of the trace these are its numbers
    alone: a `tracestate` is between a caller and its own tools."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier)
    carrier.pop("tracestate", None)
    if given := request_id.get():
        carrier |= {"X-Request-Id": given, "X-Client-Request-Id": given}  # gateways', OpenAI's
    return carrier


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")
