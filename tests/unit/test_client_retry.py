"""When to try again, and when to give up."""

from __future__ import annotations

import pytest
from colloquy.errors import (
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    OutOfOrder,
    ResourceExhausted,
    ServerError,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)
from colloquy.retry import Retry, Timing


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def retry(clock: Clock, *, patience: float = 10.0, timeout: float | None = None) -> Retry:
    """With the longest waits that chance allows."""
    return Retry(patience=patience, timeout=timeout, timing=Timing(clock, lambda: 1.0))


def test_waits_double_from_a_tenth_of_a_second_to_five_seconds() -> None:
    tries = retry(Clock())
    tries.persist()
    waits = [tries.backoff(Unavailable("gone")) for _ in range(9)]
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]


def test_chance_shortens_a_wait_down_to_nothing() -> None:
    tries = Retry(patience=10, timing=Timing(Clock(), lambda: 0.0))
    assert tries.backoff(Unavailable("gone")) == 0.0


def test_after_a_success_the_first_wait_is_short_again() -> None:
    tries = retry(Clock())
    for _ in range(4):
        tries.backoff(Unavailable("gone"))
    tries.reset()
    assert tries.backoff(Unavailable("gone")) == 0.1


def test_a_server_that_stays_away_is_given_up_when_patience_ends() -> None:
    clock = Clock()
    tries = retry(clock, patience=10)
    gone = Unavailable("gone")
    tries.backoff(gone)
    clock.now += 9
    tries.backoff(gone)
    clock.now += 2
    with pytest.raises(Unavailable) as raised:
        tries.backoff(gone)
    assert raised.value is gone


def test_patience_counts_failures_in_a_row_only() -> None:
    clock = Clock()
    tries = retry(clock, patience=10)
    for _ in range(5):
        tries.backoff(Unavailable("gone"))
        clock.now += 8
        tries.reset()


def test_what_was_accepted_is_never_given_up() -> None:
    clock = Clock()
    tries = retry(clock, patience=10)
    tries.persist()
    for _ in range(1000):
        clock.now += tries.backoff(Unavailable("gone"))


def test_a_timeout_ends_even_that() -> None:
    clock = Clock()
    tries = retry(clock, timeout=60)
    tries.persist()
    with pytest.raises(DeadlineExceeded, match="the last error: gone"):
        for _ in range(1000):
            clock.now += tries.backoff(Unavailable("gone"))
    assert 1055 <= clock.now <= 1060
    assert tries.remaining == pytest.approx(1060 - clock.now)


def test_the_server_says_how_long_to_wait() -> None:
    tries = retry(Clock())
    assert tries.backoff(ResourceExhausted("slow down", retry_after=3.0)) == 3.0
    assert tries.backoff(Unavailable("moving", retry_after=2.5)) == 2.5


def test_a_wait_longer_than_patience_is_an_error_at_once() -> None:
    with pytest.raises(ResourceExhausted):
        retry(Clock(), patience=10).backoff(ResourceExhausted("slow down", retry_after=60))


def test_a_full_queue_does_not_say_when_and_is_not_retried() -> None:
    with pytest.raises(ResourceExhausted):
        retry(Clock()).backoff(ResourceExhausted("full"))


@pytest.mark.parametrize(
    "error",
    [
        Unauthenticated("x"),
        InvalidArgument("x"),
        NotFound("x"),
        Unimplemented("x"),
        DeadlineExceeded("x"),
    ],
)
def test_what_will_not_pass_is_raised_at_once(error: Exception) -> None:
    tries = retry(Clock())
    tries.persist()
    with pytest.raises(type(error)):
        tries.backoff(error)  # type: ignore[arg-type]


@pytest.mark.parametrize("error", [ServerError("bug"), OutOfOrder("gap")])
def test_an_error_inside_the_server_is_borne_a_few_times_once_something_was_accepted(
    error: ServerError | OutOfOrder,
) -> None:
    with pytest.raises(type(error)):
        retry(Clock()).backoff(error)
    tries = retry(Clock())
    tries.persist()
    for _ in range(5):
        tries.backoff(error)
    with pytest.raises(type(error)):
        tries.backoff(error)
