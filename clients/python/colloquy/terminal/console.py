"""Standard output and standard error, as commands write to them."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console


def screen() -> Console:
    """Return standard output as Rich sees it. Nothing in strings is taken for markup."""
    from rich.console import Console

    return Console(markup=False, highlight=False, emoji=False)


def note(text: str) -> None:
    """Print something that is no output, on standard error."""
    from colloquy.terminal.formatting import clean

    print(clean(text), file=sys.stderr, flush=True)  # noqa: T201


def usage_error(message: str) -> NoReturn:
    """End with exit code 2 because the command line is wrong."""
    note(f"error: {message}")
    raise typer.Exit(2)


def confirm(question: str, yes: bool) -> None:
    """Ask unless told not to. Exits when the answer is no, or nobody can be asked."""
    if yes:
        return
    if not sys.stdin.isatty():
        usage_error("say --yes when nobody can be asked")
    if not typer.confirm(question, err=True):
        raise typer.Exit(1)


def print_lines(lines: Iterable[str]) -> None:
    """Print lines, each at once, for whoever reads them on a pipe."""
    for line in lines:
        print(line, flush=True)  # noqa: T201
