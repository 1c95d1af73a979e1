"""Logging: one structured line an event, on standard error, for people or for machines.

Writing never waits for who reads (`colloquy/operations/log_writer.py`), and no line has in it what
people wrote: of an exception its type, place and codes are told (`log_safety.py`).
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, MutableMapping
from functools import cache
from typing import Any, Literal

import orjson
import structlog
from colloquy.operations.log_safety import LibraryHandler, install_hooks, without_messages
from colloquy.operations.log_writer import STDERR, LogWriter

_SELDOM = frozenset({"database is away", "database does not answer", "bus is down"})
"""What every loop and call would say again and again while an outage lasts."""

_SELDOM_PERIOD = 10.0
"""Seconds between two such lines of the same kind."""


@cache
def _writer() -> LogWriter:
    return LogWriter.to_stderr(_loss)


_render: list[structlog.types.Processor] = []


def configure(log_format: Literal["console", "json"] | None, worker: int | None = None) -> None:
    """Sets logging up for the process; without a format, `console` on a terminal, else `json`.

    Each line names the `worker`, if there is one.
    """
    is_terminal = os.isatty(STDERR)
    is_console = log_format == "console" or (log_format is None and is_terminal)
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        without_messages,
    ]
    if worker is not None:
        shared.append(lambda _logger, _method, event: {**event, "worker": worker})
    final: structlog.types.Processor = (
        structlog.dev.ConsoleRenderer(colors=is_terminal)
        if is_console
        else structlog.processors.JSONRenderer(_json)
    )
    _render[:] = [*shared, final]
    structlog.configure(
        processors=[Seldom(), *_render],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(file=_writer()),  # type: ignore[arg-type]
        cache_logger_on_first_use=True,
    )
    # Libraries log through the standard library; what they say is seldom for us.
    logging.basicConfig(level=logging.WARNING, handlers=[LibraryHandler(_report)], force=True)
    install_hooks(_report)


def silence() -> None:
    """Logs nothing from here on: for a command that says itself what there is to say."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.disable()


def say(line: str) -> None:
    """Writes a line for people as it is: why the process cannot start."""
    _writer().write(f"{line}\n")


def drain() -> None:
    """Gives what was logged last a moment to be written."""
    _writer().drain()


def lost_lines() -> int:
    """Lines that this process could not write, as nobody read the log."""
    return _writer().lost


class Seldom:
    """Leaves out most of what is said again and again, and counts it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._said: dict[tuple[Any, ...], tuple[float, int]] = {}
        """When each was said last, and how often it was not since."""

    def __call__(
        self, _logger: Any, _method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        """The line, with how many of its kind were left out since the last. Raises DropEvent."""
        if event["event"] not in _SELDOM:
            return event
        kind = (event["event"], event.get("work"), event.get("error"))
        now = self._clock()
        said, left_out = self._said.get(kind, (now - _SELDOM_PERIOD, 0))
        if now - said < _SELDOM_PERIOD:
            self._said[kind] = (said, left_out + 1)
            raise structlog.DropEvent
        self._said[kind] = (now, 0)
        return {**event, "left_out": left_out} if left_out else event


def _report(level: int, event: str, fields: dict[str, Any]) -> None:
    structlog.get_logger().log(level, event, **fields)


def _loss(count: int) -> str:
    event: Any = {"event": "log lines lost", "lines": count}
    for processor in _render:
        event = processor(None, "warning", event)
    return f"{event}\n"


def _json(event: Any, default: Callable[[Any], Any]) -> str:
    try:
        return orjson.dumps(event, default=default).decode()
    except TypeError:  # a lone surrogate, or a number of more than 64 bits
        return json.dumps(event, default=default)
