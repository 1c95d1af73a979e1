"""Logging: one structured line an event, on standard error. No token ever gets into a line, and of
an exception only its type, place and codes do; writing never waits for who reads."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import MutableMapping
from functools import cache
from typing import Any, Literal

import structlog
from colloquy.operations.log_safety import (
    LibraryHandler,
    install_hooks,
    name_error,
    without_messages,
)
from colloquy.operations.log_writer import STDERR, LogWriter

# Slack's tokens (xoxb-, xoxe.xoxp-, xapp- …), the server's keys, what follows "Bearer", and what in
# an address lets in: Socket Mode's ticket, an installation's code and state.
_SECRETS = re.compile(
    r"xox[a-z][-.][\w.-]+|xapp-[\w-]+|colloquy_[\w-]+|(?<=Bearer )\S+"
    r"|(?<=[?&]ticket=)[^&\s\"']+|(?<=[?&]code=)[^&\s\"']+|(?<=[?&]state=)[^&\s\"']+"
)
_REDACTED = "[hidden]"


def redact(text: str) -> str:
    """Return a text without the secrets that can be known by their form."""
    return _SECRETS.sub(_REDACTED, text)


def describe(error: BaseException) -> str:
    """Return what broke and where, without words that may hold what people wrote, or secrets."""
    if isinstance(error, BaseExceptionGroup):
        return ", ".join(describe(one) for one in error.exceptions)
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" in {trace.tb_frame.f_code.co_qualname}:{trace.tb_lineno}" if trace else ""
    return f"{name_error(error)}{place}"


@cache
def _writer() -> LogWriter:
    return LogWriter.to_stderr(_loss)


_render: list[structlog.types.Processor] = []


def configure(log_format: Literal["console", "json"] | None) -> None:
    """Set logging up for the process; without a format, `console` on a terminal, else `json`."""
    is_terminal = os.isatty(STDERR)
    is_console = log_format == "console" or (log_format is None and is_terminal)
    _render[:] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        without_messages,
        _without_secrets,
        structlog.dev.ConsoleRenderer(colors=is_terminal)
        if is_console
        else structlog.processors.JSONRenderer(),
    ]
    structlog.configure(
        processors=_render,
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(file=_writer()),  # type: ignore[arg-type]
        cache_logger_on_first_use=True,
    )
    # Bolt and Slack's SDK log through the standard library.
    logging.basicConfig(level=logging.WARNING, handlers=[LibraryHandler(_report)], force=True)
    install_hooks(_report)


def say(line: str) -> None:
    """Write a line for people: why the process cannot start."""
    _writer().write(f"{redact(line)}\n")


def lost_lines() -> int:
    """Return how many lines nobody took."""
    return _writer().lost


def drain() -> None:
    """Give what was logged last a moment to be written."""
    _writer().drain()


def _report(level: int, event: str, fields: dict[str, Any]) -> None:
    structlog.get_logger().log(level, event, **fields)


def _loss(count: int) -> str:
    event: Any = {"event": "log lines lost", "lines": count}
    for processor in _render:
        event = processor(None, "warning", event)
    return f"{event}\n"


def _without_secrets(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    return {name: _redact_all(value) for name, value in event.items()}


def _redact_all(value: Any) -> Any:
    """Hide secrets before the line is made: what ends with one must not end its quotes too."""
    if isinstance(value, dict):
        return {redact(str(name)): _redact_all(one) for name, one in value.items()}
    if isinstance(value, list | tuple | set):
        return [_redact_all(one) for one in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return redact(str(value))
