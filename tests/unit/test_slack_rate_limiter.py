"""The budget of a workspace, on a clock of the test's own."""

from __future__ import annotations

from colloquy_slack.workspaces.rate_limiter import EDITS, INTERIM_EDITS, READS, RateLimiter
from hypothesis import given
from hypothesis import strategies as st


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_edits_slow_down_with_the_number_of_live_replies() -> None:
    limiter = RateLimiter(Clock())
    assert limiter.interval == 1.2
    limiter.live = set(range(20))
    assert limiter.interval == 26.0


def test_edits_on_the_way_leave_room_for_every_last_edit() -> None:
    limiter = RateLimiter(Clock())
    limiter.live = set(range(20))
    taken = sum(limiter.acquire_interim_edit() for _ in range(100))
    assert taken == INTERIM_EDITS - 20
    assert all(limiter.acquire_final_edit() == 0 for _ in range(20))


def test_a_last_edit_waits_until_the_minute_has_room() -> None:
    clock = Clock()
    limiter = RateLimiter(clock)
    for _ in range(EDITS):
        assert limiter.acquire_final_edit() == 0
    assert limiter.acquire_final_edit() == 60
    clock.now += 59
    assert limiter.acquire_final_edit() == 1
    clock.now += 1
    assert limiter.acquire_final_edit() == 0


def test_a_429_pauses_all_and_slows_down_for_a_minute() -> None:
    clock = Clock()
    limiter = RateLimiter(clock)
    limiter.back_off(30)
    assert not limiter.acquire_interim_edit()
    assert limiter.acquire_final_edit() == 30
    clock.now += 30
    assert limiter.acquire_interim_edit()
    assert limiter.acquire_final_edit() == 0
    assert limiter.interval == 2.4
    clock.now += 61
    assert limiter.interval == 1.2


def test_posts_in_a_channel_are_a_second_apart_and_channels_do_not_wait_for_each_other() -> None:
    clock = Clock()
    limiter = RateLimiter(clock)
    assert [limiter.reserve_post("C1") for _ in range(3)] == [0, 1, 2]
    assert limiter.reserve_post("C2") == 0
    clock.now += 10
    assert limiter.reserve_post("C1") == 0


@given(st.lists(st.tuples(st.floats(0, 30), st.booleans(), st.integers(0, 60)), max_size=400))
def test_no_minute_ever_holds_more_edits_than_the_tier(
    wishes: list[tuple[float, bool, int]],
) -> None:
    clock = Clock()
    limiter = RateLimiter(clock)
    granted: list[float] = []
    for gap, is_final, live in wishes:
        clock.now += gap
        limiter.live = set(range(live))
        if limiter.acquire_final_edit() == 0 if is_final else limiter.acquire_interim_edit():
            granted.append(clock.now)
    for moment in granted:
        assert sum(moment <= other < moment + 60 for other in granted) <= EDITS


def test_reads_stay_within_their_minute_and_wait_after_a_429() -> None:
    clock = Clock()
    limiter = RateLimiter(clock)
    assert all(limiter.acquire_read() == 0 for _ in range(READS))
    assert limiter.acquire_read() == 60
    clock.now += 60
    assert limiter.acquire_read() == 0
    limiter.back_off_reads(30)
    assert limiter.acquire_read() == 30
    # Edits are another method's.
    assert limiter.acquire_interim_edit()
