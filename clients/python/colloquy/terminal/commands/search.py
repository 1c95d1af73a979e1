"""`search`: messages by their words."""

from __future__ import annotations

import itertools
from typing import Annotated

import typer

from colloquy.terminal.connection import connection_of
from colloquy.terminal.console import note, print_lines, screen
from colloquy.terminal.partial_ids import find_conversation


def search(
    context: typer.Context,
    query: Annotated[str, typer.Argument(help="Words that a message holds.", metavar="WORDS")],
    conversation: Annotated[
        str | None,
        typer.Option(
            "--conversation", "-c", help="Only in this conversation; default: all.", metavar="ID"
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many at most.")] = 20,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")] = False,
) -> None:
    """Find messages by their words, the newest first.

    On a pipe: the message's id, its conversation's, when it was said in UTC, who said it, and the
    part that matches, with tabs between them. Words that were found stand between « and ».
    """
    from colloquy.terminal.conversation_renderer import print_hit, speaker
    from colloquy.terminal.formatting import to_json, to_tsv, utc_time

    console = screen()
    with connection_of(context).client() as client:
        within = find_conversation(client, conversation) if conversation else ""
        hits = list(itertools.islice(client.search(query, conversation_id=within), limit))
    if json:
        print_lines(map(to_json, hits))
    elif not console.is_terminal:
        for hit in hits:
            said = hit.message
            when = utc_time(said.create_time)
            fields = (said.id, said.conversation_id, when, speaker(said), hit.snippet)
            print_lines([to_tsv(fields)])
    elif not hits:
        note("no message holds these words")
    else:
        for hit in hits:
            print_hit(console, hit)
