"""Renders what was used and how far budgets are: on a screen, and as lines for scripts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from colloquy.api.resources_pb2 import (
    USAGE_GROUP_API_KEY,
    USAGE_GROUP_DAY,
    USAGE_GROUP_MODEL,
    USAGE_GROUP_USER,
    Budget,
    UsageGroup,
    UsageRow,
)
from colloquy.budget_text import describe_budget, dollars, share
from colloquy.terminal.formatting import clean_line, to_tsv
from colloquy.terminal.tables import Column, Row, print_table

if TYPE_CHECKING:
    from rich.console import Console

_BAR = 20
_WARNING = 0.8
"""The part of a budget from which on it is coloured; the server tells of it then, too."""

_HEADINGS = {
    USAGE_GROUP_DAY: "Day",
    USAGE_GROUP_USER: "User",
    USAGE_GROUP_API_KEY: "Key",
    USAGE_GROUP_MODEL: "Model",
}


def usage_lines(rows: Iterable[UsageRow]) -> Iterator[str]:
    """Yield what scripts read of each row: day, user's id, key's id, model, replies, tokens in,
    those of them that were cached, tokens out, US dollars, and tokens that are estimated."""
    for row in rows:
        yield to_tsv(
            (
                row.day,
                row.user.id,
                row.api_key_id,
                row.model,
                row.replies,
                row.input_tokens,
                row.cached_input_tokens,
                row.output_tokens,
                f"{row.cost_usd:.6f}",
                row.estimated_tokens,
            )
        )


def print_usage(
    console: Console,
    rows: Sequence[UsageRow],
    groups: Sequence[UsageGroup.ValueType],
    budgets: Sequence[Budget],
) -> None:
    """Print the rows with their sum, and below them the budgets."""
    if rows:
        _print_rows(console, rows, groups)
    else:
        console.print("nothing was used", style="dim")
    if budgets:
        console.print("\nBudgets", style="bold")
    names = {row.user.id: clean_line(row.user.display_name) for row in rows if row.HasField("user")}
    for budget in budgets:
        part = share(budget)
        filled = min(_BAR, int(part * _BAR))
        style = "red" if part >= 1 else "yellow" if part >= _WARNING else "green"
        console.print("█" * filled + "░" * (_BAR - filled), style=style, end="  ")
        console.print(clean_line(describe_budget(budget, names)), soft_wrap=True)


def _print_rows(
    console: Console, rows: Sequence[UsageRow], groups: Sequence[UsageGroup.ValueType]
) -> None:
    columns = [Column(_HEADINGS[group]) for group in groups] or [Column("")]
    columns += [
        Column("Replies", "{} replies", is_number=True),
        Column("Tokens in", "{} tokens in", is_number=True),
        Column("Cached", "{} of them cached", is_number=True),
        Column("Tokens out", "{} tokens out", is_number=True),
        Column("Cost", is_number=True),
    ]
    is_estimated = any(row.estimated_tokens for row in rows)
    if is_estimated:
        columns.append(Column("Estimated", "{} tokens estimated", is_number=True))

    def cells(names: Sequence[str], row: UsageRow) -> Row:
        counts = [row.replies, row.input_tokens, row.cached_input_tokens, row.output_tokens]
        found = [*names, *(f"{count:,}" for count in counts), dollars(row.cost_usd)]
        if is_estimated:
            found.append(f"{row.estimated_tokens:,}" if row.estimated_tokens else "")
        return Row(found)

    shown = [cells([_name(row, group) for group in groups] or ["all"], row) for row in rows]
    if len(rows) > 1:
        shown.append(cells(["all", *[""] * (len(groups) - 1)], _total(rows)))
    print_table(console, columns, shown)


def _name(row: UsageRow, group: UsageGroup.ValueType) -> str:
    if group == USAGE_GROUP_DAY:
        return row.day
    if group == USAGE_GROUP_USER:
        return clean_line(row.user.display_name or row.user.external_id) or "(not here any more)"
    if group == USAGE_GROUP_API_KEY:
        return clean_line(row.api_key_id) or "(none)"
    return clean_line(row.model) or "(none)"


def _total(rows: Sequence[UsageRow]) -> UsageRow:
    return UsageRow(
        replies=sum(row.replies for row in rows),
        input_tokens=sum(row.input_tokens for row in rows),
        cached_input_tokens=sum(row.cached_input_tokens for row in rows),
        output_tokens=sum(row.output_tokens for row in rows),
        cost_usd=sum(row.cost_usd for row in rows),
        estimated_tokens=sum(row.estimated_tokens for row in rows),
    )
