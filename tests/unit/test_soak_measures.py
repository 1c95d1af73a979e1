"""What the soak says of a server that takes more and more, and of one that does not."""

from __future__ import annotations

import random

from tests.soak.measures import Sample, judge, table


def samples(memory: float, entries: float, rows: float = 0) -> list[Sample]:
    """Of an hour: what grows by so much in it, with what comes and goes by chance."""
    rng = random.Random(1)
    found = []
    for number in range(60):
        done = number / 60
        held = 100 + int(entries * done) + rng.randint(0, 30)
        stored = int(rows * done)
        values = {
            "memory": 150 + memory * done + rng.random(),
            "entries in tables": float(held),
            "rows": 300.0 + stored + rng.randint(0, 60),
        }
        found.append(
            Sample(number * 100, values, {"Feeds._feeds": held}, {"messages": 300 + stored})
        )
    return found


def grown(held: list[Sample]) -> list[str]:
    """The lines that say so."""
    return [line.name for line in judge(held) if not line.is_flat]


def test_what_comes_and_goes_is_flat() -> None:
    assert grown(samples(memory=3, entries=40)) == []


def test_memory_that_grows_is_told_for_the_replies_that_were_made() -> None:
    lines = judge(samples(memory=120, entries=0))
    assert grown(samples(memory=120, entries=0)) == ["memory"]
    assert lines[0].note == "+20,522 KiB for 1,000 replies"  # 120 MiB in 6,000 replies


def test_a_table_that_grows_is_named() -> None:
    assert grown(samples(memory=0, entries=3_000)) == [
        "entries in tables",
        "entries of Feeds._feeds",
    ]
    assert grown(samples(memory=0, entries=0, rows=3_000)) == ["rows", "rows of messages"]
    assert any("GROWS" in line for line in table(judge(samples(memory=0, entries=3_000))))
