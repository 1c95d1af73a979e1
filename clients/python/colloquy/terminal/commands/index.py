"""`archive` and `pin`: how the list of conversations stays short."""

from __future__ import annotations

from typing import Annotated

import typer

from colloquy.terminal.connection import connection_of
from colloquy.terminal.console import note
from colloquy.terminal.partial_ids import find_conversation

Which = Annotated[
    str, typer.Argument(help="Its id, or how that begins or ends.", metavar="CONVERSATION")
]
Undo = Annotated[bool, typer.Option("--undo", help="Take it back.")]


def archive(context: typer.Context, conversation: Which, undo: Undo = False) -> None:
    """Put a conversation away, for everybody who sees it. What is said in it brings it back."""
    with connection_of(context).client() as client:
        client.update_conversation(find_conversation(client, conversation), archived=not undo)
    note("no longer archived" if undo else "archived: `list --archived` shows it")


def pin(context: typer.Context, conversation: Which, undo: Undo = False) -> None:
    """Keep a conversation in view, for yourself alone."""
    with connection_of(context).client() as client:
        client.update_conversation(find_conversation(client, conversation), pinned=not undo)
    note("no longer pinned" if undo else "pinned: `list --pinned` shows it")
