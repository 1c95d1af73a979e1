"""When a provider wants to be asked again, in whatever form it says so."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from colloquy_server.providers.error_bodies import ErrorBody

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_DURATION = re.compile(r"(?:[0-9]{1,9}(?:\.[0-9]{1,9})?(?:ms|s|m|h|d)){1,5}")
_PART = re.compile(r"([0-9.]+)(ms|s|m|h|d)")
_NUMBER = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,9})?")
_IN_WORDS = re.compile(
    r"(?:try again|retry|wait)\b[^0-9\n]{0,30}?"
    r"([0-9]{1,6}(?:\.[0-9]{1,6})?(?:(?:ms|s|m|h)\b|(?:[smh][0-9.]{1,9}){1,3}(?:ms|s|m)\b"
    r"| ?(?:milliseconds?|seconds?|minutes?|hours?)))",
    re.IGNORECASE,
)
_RESETS = (
    ("x-ratelimit-reset-{}", "x-ratelimit-remaining-{}", ("requests", "tokens")),
    (
        "anthropic-ratelimit-{}-reset",
        "anthropic-ratelimit-{}-remaining",
        ("requests", "tokens", "input-tokens", "output-tokens"),
    ),
)
_SINGLE_RESETS = ("x-ratelimit-reset", "ratelimit-reset")
_EPOCH = 1_000_000_000
"""A number of seconds above this is a time of the calendar; a thousand times that, in ms."""


def retry_after(
    headers: Mapping[str, str], body: ErrorBody, *, is_rate_limited: bool
) -> float | None:
    """Seconds until the provider wants to be asked again; None when it does not say. The resets of
    limits come with every answer, and count only when a limit is what it is about."""
    for name in ("retry-after-ms", "x-ms-retry-after-ms"):
        if (milliseconds := _plain(headers.get(name))) is not None:
            return milliseconds / 1000
    told = [headers.get("retry-after"), body.headers.get("retry-after"), *body.delays]
    for value in told:
        if (seconds := _seconds(value)) is not None:
            return seconds
    if (match := _IN_WORDS.search(body.text)) is not None:
        return _in_words(match[1])
    return _reset({**body.headers, **_lower(headers)}) if is_rate_limited else None


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _reset(headers: Mapping[str, str]) -> float | None:
    """When the limit that was met ends: of those that are used up, else of all, the last."""
    used_up: list[float] = []
    others: list[float] = []
    for reset, remaining, kinds in _RESETS:
        for kind in kinds:
            seconds = _seconds(headers.get(reset.format(kind)))
            if seconds is not None:
                is_used_up = headers.get(remaining.format(kind), "").strip() == "0"
                (used_up if is_used_up else others).append(seconds)
    single = _known(_seconds(headers.get(name)) for name in _SINGLE_RESETS)
    return max(used_up or single or others, default=None)


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _plain(value: str | None) -> float | None:
    if value is None or not _NUMBER.fullmatch(value.strip()):
        return None
    return float(value)


def _seconds(value: str | None) -> float | None:
    """Of a number, of a time as a number, of a duration (`1m2.5s`) or of a date."""
    if value is None:
        return None
    value = value.strip()
    number = _plain(value)
    if number is not None:
        if number >= 1000 * _EPOCH:
            number /= 1000
        return number if number < _EPOCH else max(0.0, number - datetime.now(UTC).timestamp())
    if _DURATION.fullmatch(value):
        return sum(float(amount) * _UNITS[unit] for amount, unit in _PART.findall(value))
    return _until(value)


def _until(value: str) -> float | None:
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        try:
            date = datetime.fromisoformat(value)
        except ValueError:
            return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())


def _in_words(text: str) -> float | None:
    text = text.lower().replace(" ", "")
    for word, unit in (
        *(("milliseconds", "ms"), ("millisecond", "ms"), ("seconds", "s"), ("second", "s")),
        *(("minutes", "m"), ("minute", "m"), ("hours", "h"), ("hour", "h")),
    ):
        text = text.replace(word, unit)
    return _seconds(text)
