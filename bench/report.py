"""Rows of the table: each a value of the server, what the floor has there, and a limit if any."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Limit:
    """What a row has to keep: at most (or, `at_least`, no less than) `bound`.

    It is of the ratio to the floor where the row has one, else of the value.
    """

    bound: float
    at_least: bool = False

    def allows(self, value: float) -> bool:
        """Whether the value is within the limit."""
        return value >= self.bound if self.at_least else value <= self.bound

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.bound:g}"


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    part: str
    database: str
    what: str
    unit: str
    server: float
    floor: float | None = None
    """Or what else the row names."""
    ratio: float | None = None
    """Of server to floor: the median over the rounds, in each of which they were measured one after
    the other, so that what else the machine does weighs the same on both."""
    limit: Limit | None = None

    @property
    def is_over(self) -> bool:
        """Whether it breaks its limit."""
        value = self.server if self.ratio is None else self.ratio
        return self.limit is not None and not self.limit.allows(value)


def compared(
    part: str,
    database: str,
    what: str,
    unit: str,
    server: Sequence[float],
    floor: Sequence[float],
    limit: Limit | None = None,
) -> Row:
    """The row of a value that server and floor have once a round, in the order of the rounds."""
    ratio = statistics.median(one / other for one, other in zip(server, floor, strict=True))
    middle = statistics.median
    return Row(part, database, what, unit, middle(server), middle(floor), ratio, limit)


HEADINGS = ("part", "database", "what", "server", "beside", "unit", "ratio", "limit")
"""`beside` is the floor, or what the line names."""


def cells(row: Row) -> tuple[str, ...]:
    """A row as text, by HEADINGS."""
    return (
        row.part,
        row.database,
        row.what,
        _number(row.server),
        "" if row.floor is None else _number(row.floor),
        row.unit,
        "" if row.ratio is None else f"{row.ratio:.2f} x",
        "" if row.limit is None else f"{row.limit}{' OVER' if row.is_over else ''}",
    )


def _number(value: float) -> str:
    return (
        f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
    )


def table(rows: Sequence[Row]) -> list[str]:
    """The lines of the table, for a terminal."""
    lines = [HEADINGS, *map(cells, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    to_the_right = {HEADINGS.index(name) for name in ("server", "beside", "ratio")}
    return [
        "  ".join(
            cell.rjust(width) if at in to_the_right else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
