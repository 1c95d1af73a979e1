"""Statuses become exceptions that say what was wrong, and never what the key is."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from colloquy import errors
from google.rpc import status_pb2

from tests.fakes.door import status


class Failed(grpc.RpcError):
    """A call that ended with a status."""

    def __init__(self, answer: status_pb2.Status, details: bytes | None = None) -> None:
        super().__init__()
        self._status = answer
        raw = answer.SerializeToString() if details is None else details
        self._trailing = (("other", "x"), ("grpc-status-details-bin", raw))

    def code(self) -> grpc.StatusCode:
        return next(c for c in grpc.StatusCode if c.value[0] == self._status.code)

    def details(self) -> str:
        return str(self._status.message)

    def trailing_metadata(self) -> Any:
        return self._trailing


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, errors.Unauthenticated),
        (grpc.StatusCode.PERMISSION_DENIED, errors.PermissionDenied),
        (grpc.StatusCode.INVALID_ARGUMENT, errors.InvalidArgument),
        (grpc.StatusCode.NOT_FOUND, errors.NotFound),
        (grpc.StatusCode.ALREADY_EXISTS, errors.AlreadyExists),
        (grpc.StatusCode.ABORTED, errors.Busy),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, errors.ResourceExhausted),
        (grpc.StatusCode.UNIMPLEMENTED, errors.Unimplemented),
        (grpc.StatusCode.DEADLINE_EXCEEDED, errors.DeadlineExceeded),
        (grpc.StatusCode.UNAVAILABLE, errors.Unavailable),
        (grpc.StatusCode.CANCELLED, errors.Unavailable),
        (grpc.StatusCode.INTERNAL, errors.ServerError),
        (grpc.StatusCode.UNKNOWN, errors.ServerError),
        (grpc.StatusCode.DATA_LOSS, errors.ServerError),
    ],
)
def test_each_status_has_its_exception(
    code: grpc.StatusCode, kind: type[errors.ColloquyError]
) -> None:
    error = errors.from_rpc_error(Failed(status(code, "SOME_REASON", "what happened")))
    assert type(error) is kind
    assert (error.code, error.reason, error.message) == (code, "SOME_REASON", "what happened")
    assert str(error) == "what happened"


def test_bad_fields_are_named() -> None:
    answer = status(
        grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "bad", fields={"content": "is empty"}
    )
    assert errors.from_rpc_error(Failed(answer)).fields == {"content": "is empty"}


def test_when_to_come_back_is_told() -> None:
    answer = status(grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED", retry_after=1.5)
    assert errors.from_rpc_error(Failed(answer)).retry_after == 1.5


@pytest.mark.parametrize("details", [b"\xff\xff garbage", b""])
def test_details_that_cannot_be_read_do_not_hide_the_error(details: bytes) -> None:
    error = errors.from_rpc_error(Failed(status(grpc.StatusCode.NOT_FOUND, "X", "gone"), details))
    assert isinstance(error, errors.NotFound)
    assert (error.reason, error.message, error.fields, error.retry_after) == ("", "gone", {}, None)


def test_a_status_without_text_still_says_something() -> None:
    error = errors.from_rpc_error(Failed(status(grpc.StatusCode.UNAVAILABLE, message="")))
    assert error.message == "the call ended with UNAVAILABLE"


def test_all_are_drawn_in_the_tree() -> None:
    for kind in errors.ColloquyError.__subclasses__():
        assert f"─ {kind.__name__} " in str(errors.__doc__)
