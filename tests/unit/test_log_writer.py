"""A log that nobody reads stops nothing, and what is lost of it is counted."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import pytest
from colloquy.operations.log_writer import LogWriter

LINE = "x" * 99 + "\n"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def read_lines(descriptor: int, last: str) -> list[str]:
    """What comes, to a line that is the last."""
    data = b""
    while not data.endswith(f"{last}\n".encode()):
        data += os.read(descriptor, 1 << 16)
    return data.decode().splitlines()


def test_what_is_written_comes_whole_and_in_order(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    writer = LogWriter(writing, "lost {}\n".format)
    for number in range(500):
        writer.write(f"{number}\n")
    assert writer.drain(60)
    assert read_lines(reading, "499") == [str(number) for number in range(500)]
    assert writer.lost == 0


def test_a_full_pipe_stops_nobody_and_the_gap_is_told_where_it_is(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    writer = LogWriter(writing, "lost {}\n".format, capacity=10_000)
    count = 20_000  # 2 MB, which no pipe holds
    for number in range(count):
        writer.write(f"{number:09}{'x' * 90}\n")
    assert writer.lost > 0
    assert not writer.drain(0)
    writer.write("the end\n")
    lines = read_lines(reading, "the end")
    assert writer.drain(60)
    numbers = [int(line[:9]) for line in lines if line[0].isdigit()]
    assert numbers == sorted(set(numbers))
    gaps = [int(found[1]) for line in lines if (found := re.fullmatch(r"lost (\d+)", line))]
    assert sum(gaps) == writer.lost == count - len(numbers)
    (last_gap,) = [place for place, line in enumerate(lines) if line == f"lost {gaps[-1]}"]
    assert int(lines[last_gap + 1][:9]) - int(lines[last_gap - 1][:9]) == gaps[-1] + 1


def test_a_reader_that_has_gone_loses_lines_and_breaks_nothing() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    writer = LogWriter(writing, "lost {}\n".format)
    for _ in range(3):
        writer.write(LINE)
    assert writer.drain(60)
    assert writer.lost == 3
    os.close(writing)


def test_a_file_that_does_not_wait_loses_nothing(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    os.set_blocking(writing, False)
    writer = LogWriter(writing, "lost {}\n".format)
    for _ in range(5_000):
        writer.write(LINE)
    writer.write("the end\n")
    assert len(read_lines(reading, "the end")) == 5_001
    assert writer.lost == 0
