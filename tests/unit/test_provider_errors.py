"""Which kind of failure a provider tells of: the bodies that they send, as far as is known."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from colloquy_server.providers import error_kinds
from colloquy_server.providers.error_kinds import Kind
from colloquy_server.providers.errors import ProviderError, from_error_object, from_status


def openai(message: str, code: object = None, type_: object = None, param: object = None) -> Any:
    return {"error": {"message": message, "type": type_, "param": param, "code": code}}


def anthropic(message: str, type_: str = "invalid_request_error") -> Any:
    error = {"type": type_, "message": message}
    return {"type": "error", "error": error, "request_id": "req_011C"}


def google(code: int, status: str, message: str, *details: Any) -> Any:
    error = {"code": code, "status": status, "message": message, "details": list(details)}
    return [{"error": error}]


def detail(type_: str, *loc: Any, msg: str = "") -> Any:
    return {"detail": [{"type": type_, "loc": ["body", *loc], "msg": msg, "input": "secret"}]}


INVALID = "invalid_request_error"

CASES: dict[str, dict[str, Any]] = yaml.safe_load(
    Path(__file__).with_name("provider_errors.yml").read_text(encoding="utf-8")
)
KINDS = {name: kind for name, kind in vars(error_kinds).items() if isinstance(kind, Kind)}


@pytest.mark.parametrize("name", CASES)
def test_each_providers_failure_is_of_its_kind(name: str) -> None:
    case, kind = CASES[name], KINDS[CASES[name]["kind"]]
    error = from_status(case["status"], case["body"], {})
    assert error.message == kind.message
    assert error.reason == kind.reason
    assert error.is_too_long == kind.is_too_long
    assert error.is_about_content == kind.is_about_content
    assert "secret" not in f"{error} {error.log_fields()}"
    assert "sk-" not in f"{error.log_fields()}"


@pytest.mark.parametrize(
    "name", [name for name, case in CASES.items() if case["status"] in (400, 429)]
)
def test_the_same_in_a_stream_is_the_same(name: str) -> None:
    """There the status is a code, when it is said at all."""
    case = CASES[name]
    error = from_error_object({"error": case["body"], "status_code": case["status"]})
    assert error.message == KINDS[case["kind"]].message


def test_a_failure_names_itself_to_the_operator_without_any_text() -> None:
    body = openai("secret", "unsupported_parameter", INVALID, "max_tokens")
    assert from_status(400, body, {"x-request-id": "req_1"}).log_fields() == {
        "reason": "PROVIDER_REJECTED",
        "detail": "HTTP 400 unsupported_parameter invalid_request_error",
        "status": 400,
        "code": "unsupported_parameter invalid_request_error",
        "param": "max_tokens",
        "provider_request_id": "req_1",
    }
    assert from_status(400, anthropic("secret"), {}).request_id == "req_011C"
    assert from_status(422, detail("missing", "messages", 0, "content"), {}).params == (
        "messages.0.content",
    )
    hidden = openai("x", "sk-secret1", "what the secret was", "Was sagt secret?")
    assert from_status(400, hidden, {"x-request-id": "sk-secret1"}).log_fields() == {
        "reason": "PROVIDER_REJECTED",
        "detail": "HTTP 400",
        "status": 400,
    }


@pytest.mark.parametrize(
    "name", ["x-request-id", "request-id", "apim-request-id", "x-litellm-call-id", "cf-ray"]
)
def test_a_requests_id_is_found_in_the_header_that_the_provider_has_for_it(name: str) -> None:
    assert from_status(500, None, {name: "abc-1"}).request_id == "abc-1"


def test_a_body_that_is_deep_or_wide_is_read_as_far_as_that_makes_sense() -> None:
    deep: Any = {"message": "prompt is too long"}
    for _ in range(100_000):
        deep = {"error": deep}
    assert from_status(400, deep, {}).reason == "PROVIDER_REJECTED"
    wide = [{"message": "x" * 100}] * 100_000
    assert from_status(400, wide, {}).reason == "PROVIDER_REJECTED"
    assert from_status(400, openai("{" * 70_000), {}).reason == "PROVIDER_REJECTED"
    assert from_status(400, openai("x {" + "[" * 60_000), {}).reason == "PROVIDER_REJECTED"


# Hints of when to come back.


def limited(body: Any = None, status: int = 429, **headers: str) -> ProviderError:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return from_status(status, body, named)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"x-ms-retry-after-ms": "250"}, 0.25),
        ({"retry-after": "12s"}, 12),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        ({"x-ratelimit-reset-requests": "2m59.56s"}, 179.56),
        ({"x-ratelimit-reset-tokens": "120ms"}, 0.12),
        ({"x-ratelimit-reset-tokens": "1h"}, 3600),
        ({"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "6m0s"}, 360),
        (
            {
                "x-ratelimit-reset-requests": "1h",
                "x-ratelimit-remaining-requests": "99",
                "x-ratelimit-reset-tokens": "6s",
                "x-ratelimit-remaining-tokens": "0",
            },
            6,
        ),
        ({"x-ratelimit-reset": "30"}, 30),
        ({"ratelimit-reset": "31"}, 31),
        ({"retry-after": "3", "x-ratelimit-reset-requests": "1h"}, 3),
        ({"X-RateLimit-Reset-Requests": "4s"}, 4),
        ({}, None),
    ],
)
def test_hints_in_headers_are_read(headers: dict[str, str], seconds: float | None) -> None:
    assert from_status(429, None, headers).retry_after == pytest.approx(seconds)


def test_hints_that_are_times_of_the_calendar_are_read() -> None:
    then = datetime.now(UTC) + timedelta(seconds=100)
    epoch = then.timestamp()
    for hints in (
        {"retry-after": format_datetime(then, usegmt=True)},
        {"x-ratelimit-reset": f"{epoch:.0f}"},
        {"x-ratelimit-reset": f"{epoch * 1000:.0f}"},
        {"anthropic-ratelimit-tokens-reset": then.isoformat().replace("+00:00", "Z")},
    ):
        assert from_status(429, None, hints).retry_after == pytest.approx(100, abs=30), hints
    behind = {
        "error": {
            "code": 429,
            "metadata": {"headers": {"X-RateLimit-Reset": f"{epoch * 1000:.0f}"}},
        }
    }
    assert from_error_object(behind).retry_after == pytest.approx(100, abs=30)


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        (google(429, "RESOURCE_EXHAUSTED", "x", {"retryDelay": "34s"}), 34),
        (google(429, "RESOURCE_EXHAUSTED", "x", {"retryDelay": "34.074824224s"}), 34.074824224),
        (openai("Please try again in 1.2s. Visit https://x"), 1.2),
        (openai("Please try again in 20ms."), 0.02),
        (openai("Please try again in 7m12s."), 432),
        (openai("Please try again in 6m0s."), 360),
        (openai("Please retry after 7 seconds. To increase"), 7),
        (openai("No deployments available for selected model, Try again in 60 seconds."), 60),
        (openai("Please wait 2 minutes"), 120),
        (openai("Please retry in 34.07s."), 34.07),
        ({"error": {"message": "x", "retry_after": 3}}, 3),
        (openai("Limit 30000, used 29000. Try again later, or at 5000 a day."), None),
    ],
)
def test_hints_in_bodies_are_read(body: Any, seconds: float | None) -> None:
    assert limited(body).retry_after == pytest.approx(seconds)
    inner = body[0] if isinstance(body, list) else body
    assert from_error_object(inner).retry_after == pytest.approx(seconds)


def test_resets_of_limits_count_only_when_a_limit_was_met() -> None:
    """OpenAI sends them with every answer."""
    assert limited(status=500, x_ratelimit_reset_requests="1h").retry_after is None
    assert limited(status=500, retry_after="3").retry_after == 3
