"""What pytest shows of the log of a test that fails, where the test does not set logging up."""

from __future__ import annotations

import structlog


def plain_logs() -> None:
    """Has tracebacks written as Python does: drawn with boxes and variables, as structlog does by
    itself, they took a fortieth of all tests' time."""
    renderer = structlog.dev.ConsoleRenderer(
        colors=False, exception_formatter=structlog.dev.plain_traceback
    )
    structlog.reset_defaults()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ]
    )
