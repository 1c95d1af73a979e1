"""Of errors a log tells type, place and codes, and nothing that people wrote."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from colloquy.operations.log_safety import LibraryHandler, install_hooks, name_error, trace_error
from sqlalchemy import create_engine, text
from sqlalchemy.exc import IntegrityError

SAID = "what a person said"


def caught(run: Callable[[], Any]) -> BaseException:
    try:
        run()
    except BaseException as error:
        return error
    raise AssertionError


def break_statement() -> None:
    with create_engine("sqlite://").begin() as connection:
        connection.execute(text("CREATE TABLE texts (text TEXT UNIQUE)"))
        for _ in range(2):
            connection.execute(text("INSERT INTO texts VALUES (:text)"), {"text": SAID})


def break_group() -> None:
    raise BaseExceptionGroup(SAID, [caught(break_statement), ValueError(SAID)])


def break_with_cause() -> None:
    try:
        raise KeyError(SAID)
    except KeyError as error:
        error.add_note(SAID)
        raise OSError(2, SAID, SAID) from error


@pytest.mark.parametrize(
    ("run", "named"),
    [
        (break_statement, ["sqlalchemy.exc.IntegrityError", "SQLITE_CONSTRAINT_UNIQUE"]),
        (break_group, ["ExceptionGroup", "IntegrityError", "ValueError"]),
        (break_with_cause, ["KeyError", "FileNotFoundError (ENOENT)"]),
    ],
)
def test_a_trace_names_errors_and_places_and_leaves_words_out(
    run: Callable[[], Any], named: list[str]
) -> None:
    error = caught(run)
    told = trace_error(error)
    assert SAID not in told
    assert run.__name__ in told
    for name in named:
        assert name in told


def test_a_circle_of_errors_ends() -> None:
    one, other = ValueError(), KeyError()
    one.__cause__, other.__cause__ = other, one
    assert "KeyError" in trace_error(one)


async def test_a_grpc_error_is_named_by_its_status() -> None:
    error = grpc.aio.AioRpcError(
        grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), details=SAID
    )
    assert name_error(error) == "grpc.aio._call.AioRpcError (UNAVAILABLE)"


def test_sqlalchemy_is_named_by_its_driver() -> None:
    error = caught(break_statement)
    assert isinstance(error, IntegrityError)
    assert "SQLITE_CONSTRAINT_UNIQUE" in name_error(error.orig or error)


@pytest.fixture
def told() -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """What is reported, of all that nobody else catches."""
    told: list[tuple[str, dict[str, Any]]] = []
    root = logging.getLogger()
    handlers, raises = root.handlers[:], logging.raiseExceptions
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning

    def report(_level: int, event: str, fields: dict[str, Any]) -> None:
        error = fields.pop("exc_info", None)
        told.append((event, {**fields, "exception": trace_error(error) if error else ""}))

    root.handlers[:] = [LibraryHandler(report)]
    install_hooks(report)
    yield told
    sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning = hooks
    root.handlers[:], logging.raiseExceptions = handlers, raises


async def fail() -> None:
    raise ValueError(SAID)


async def test_what_nobody_catches_is_told_without_words(
    told: list[tuple[str, dict[str, Any]]],
) -> None:
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(fail(), name=SAID)
    await asyncio.wait([task])
    del task
    gc.collect()
    called = asyncio.Event()

    def call_back(_said: str) -> None:
        called.set()
        raise ValueError(SAID)

    loop.call_soon(call_back, SAID)
    await called.wait()

    def fail_in_thread() -> None:
        raise ValueError(SAID)

    thread = threading.Thread(target=fail_in_thread)
    thread.start()
    thread.join()

    class Broken:
        def __del__(self) -> None:
            raise ValueError(SAID)

    Broken()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning(UserWarning(SAID), UserWarning, "a.py", 1)
    sys.excepthook(ValueError, ValueError(SAID), None)
    logger = logging.getLogger("a.library")
    logger.warning(f"failed: {SAID}")
    logger.warning("%s failed %d times with %s", SAID, 3, grpc.StatusCode.UNAVAILABLE)
    logger.error("too few %s %s", SAID)
    try:
        raise ValueError(SAID)
    except ValueError:
        logger.exception("failed")
    await asyncio.sleep(0)
    events = [event for event, _ in told]
    assert SAID not in str(told)
    for event in ("thread failed", "exception ignored", "warning", "process failed"):
        assert event in events
    messages = [fields.get("message") for _, fields in told]
    assert "Task exception was never retrieved" in messages
    assert "Exception in callback" in messages
    assert "… failed 3 times with UNAVAILABLE" in messages
