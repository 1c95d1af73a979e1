"""The terminal's commands, run in the process of a test."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from unittest import mock

import typer.testing
from colloquy.terminal.app import app
from typer.testing import CliRunner, Result

_built = functools.cache(typer.main.get_command)


def invoke(arguments: Sequence[str], input: str | bytes | None = None) -> Result:  # noqa: A002
    """Runs one. What typer makes of all of them, which takes a third of a second, is made once."""
    with mock.patch.object(typer.testing, "_get_command", _built):
        return CliRunner().invoke(app, arguments, input=input)
