"""What a log may say of errors, and of what libraries log: never what people wrote, and no keys.

An exception's message may hold anything: a statement's parameters, a provider's answer, an address
with a token in it. So of an exception only its type, its place and its codes are told. What a
library logs may hold exceptions, or anything else: of that its place in the library is told, and
the parts that were written before it ran.
"""

from __future__ import annotations

import errno
import logging
import re
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, MutableMapping
from enum import Enum
from typing import Any

_CODE = re.compile(r"[A-Z0-9_]{1,64}")
_ASYNCIO = re.compile(
    r"(Task|Future) exception was never retrieved|Task was destroyed but it is pending"
    r"|Exception in callback|Unclosed [a-z ]+|socket\.\w+\(\) raised exception"
)
"""What asyncio's messages begin with; it goes on with whatever the objects say of themselves."""

_CODES = ("sqlstate", "sqlite_errorname", "status", "status_code", "reason")
"""Attributes that hold a short code, in the exceptions of the libraries that we use and in ours."""

Report = Callable[[int, str, dict[str, Any]], None]
"""Takes a level of `logging`, an event and its fields."""


def name_error(error: BaseException) -> str:
    """An exception's type and codes, as `psycopg.errors.ReadOnlySqlTransaction (25006)`."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else _full_name(kind)
    codes = [str(code) for attribute in _CODES if _is_code(code := getattr(error, attribute, None))]
    if isinstance(error, OSError) and error.errno is not None:
        codes.append(errno.errorcode.get(error.errno, str(error.errno)))
    status = getattr(error, "code", None)
    if callable(status) and isinstance(result := _result(status), Enum):  # gRPC's
        codes.append(result.name)
    return f"{name} ({', '.join(codes)})" if codes else name


def trace_error(error: BaseException) -> str:
    """A traceback as Python prints it, with `name_error` in the place of messages."""
    return "".join(_trace(error, set())).rstrip("\n")


def without_messages(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """A processor of structlog's: what is logged with an exception has `trace_error` of it."""
    error = event.pop("exc_info", None)
    if error is True:
        error = sys.exc_info()[1]
    if isinstance(error, BaseException):
        event["exception"] = trace_error(error)
    return event


def _trace(error: BaseException, seen: set[int]) -> Iterator[str]:
    seen.add(id(error))
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None and id(before) not in seen:
        yield from _trace(before, seen)
        yield "\nwhich led to\n\n"
    if error.__traceback__ is not None:
        yield "Traceback (most recent call last):\n"
        yield from traceback.format_tb(error.__traceback__)
    yield f"{name_error(error)}\n"
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            if id(part) not in seen:
                yield "  with\n"
                for lines in _trace(part, seen):
                    yield "".join(f"  {line}" for line in lines.splitlines(keepends=True))


class LibraryHandler(logging.Handler):
    """Passes on what libraries log through the standard library, without people's words."""

    def __init__(self, report: Report) -> None:
        super().__init__(logging.WARNING)
        self._report = report

    def emit(self, record: logging.LogRecord) -> None:
        """Passes a record on."""
        fields: dict[str, Any] = {
            "logger": record.name,
            "place": f"{record.module}.{record.funcName}:{record.lineno}",
        }
        if message := _constant_part(record):
            fields["message"] = message
        if record.exc_info and record.exc_info[1] is not None:
            fields["exc_info"] = record.exc_info[1]
        self._report(record.levelno, "library log", fields)


def install_hooks(report: Report) -> None:
    """Has warnings, and exceptions that nobody catches, reported instead of printed with their
    messages to standard error, where they would also wait for its reader."""

    def say(event: str, error: BaseException | None, **fields: Any) -> None:
        if error is not None and isinstance(error, Exception):
            report(logging.ERROR, event, {**fields, "exc_info": error})

    def on_uncaught(_kind: type[BaseException], error: BaseException, _trace: Any) -> None:
        say("process failed", error)

    def on_thread(args: threading.ExceptHookArgs) -> None:
        say("thread failed", args.exc_value, thread=args.thread.name if args.thread else None)

    def on_unraisable(args: sys.UnraisableHookArgs) -> None:
        say("exception ignored", args.exc_value)

    def on_warning(
        _message: Warning | str, category: type[Warning], filename: str, lineno: int, *_more: Any
    ) -> None:
        fields = {"category": category.__name__, "place": f"{filename}:{lineno}"}
        report(logging.WARNING, "warning", fields)

    sys.excepthook = on_uncaught
    threading.excepthook = on_thread
    sys.unraisablehook = on_unraisable
    warnings.showwarning = on_warning  # type: ignore[assignment]
    logging.raiseExceptions = False  # a record that cannot be told would be printed


def _constant_part(record: logging.LogRecord) -> str:
    """What is known to have been written by the library's authors: a format, with numbers and
    codes filled in. A message that came in one piece may have anything in it."""
    message = str(record.msg)
    if record.name == "asyncio":
        found = _ASYNCIO.match(message)
        return found.group().strip() if found else ""
    if not record.args:
        return ""
    if not isinstance(record.args, tuple):
        return message
    try:
        return message % tuple(
            arg.name if isinstance(arg, Enum) else arg if isinstance(arg, int | float) else "…"
            for arg in record.args
        )
    except (TypeError, ValueError):
        return message


def _full_name(kind: type[BaseException]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _is_code(value: object) -> bool:
    return isinstance(value, int) or (isinstance(value, str) and bool(_CODE.fullmatch(value)))


def _result(function: Callable[[], Any]) -> Any:
    try:
        return function()
    except Exception:
        return None
