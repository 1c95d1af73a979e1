"""Logging: one structured line an event, on standard error. No token ever gets into a line."""

from __future__ import annotations

import logging
import re
import sys
from typing import Any, Literal

import structlog

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
    return f"{type(error).__name__}{place}"


def configure(log_format: Literal["console", "json"] | None) -> None:
    """Set logging up for the process; without a format, `console` on a terminal, else `json`."""
    is_console = log_format == "console" or (log_format is None and sys.stderr.isatty())
    final: list[structlog.types.Processor] = (
        [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()), _redact_line]
        if is_console
        else [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
            _redact_line,
        ]
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *final,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    # Bolt and Slack's SDK log through the standard library.
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_RedactingFormatter("%(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)


class _RedactingFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


def _redact_line(_logger: Any, _method: str, line: Any) -> Any:
    return redact(line)
