"""`models`: what can answer, what it takes, and at what price."""

from __future__ import annotations

from typing import Annotated

import typer

from colloquy.terminal.connection import connection_of
from colloquy.terminal.console import print_lines, screen


def models(
    context: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")] = False,
) -> None:
    """List the models: the files that each takes as they are (it is given others as text), how
    many tokens context and reply may have together and a reply alone, and the US dollars for
    1,000 tokens in and out.

    On a pipe: id, whether it is available, whether new conversations get it, provider, tokens of
    context, dollars in and out, tokens of a reply, and the kinds of files, with commas, with tabs
    between them.
    """
    from colloquy.api.resources_pb2 import Attachment
    from colloquy.terminal.formatting import clean_line, to_json, to_tsv
    from colloquy.terminal.tables import Column, Row, print_table

    console = screen()
    with connection_of(context).client() as client:
        answer = client.list_models()
    if json:
        print_lines(to_json(model) for model in answer.models)
        return
    rows = [
        (
            clean_line(model.id),
            "available" if model.available else "no key",
            "default" if model.id == answer.default_model else "",
            clean_line(model.provider),
            str(model.context_window),
            f"{model.input_price:g}",
            f"{model.output_price:g}",
            str(model.max_output_tokens),
            (", " if console.is_terminal else ",").join(
                Attachment.Kind.Name(kind).removeprefix("KIND_").lower()
                for kind in model.input_kinds
            ),
        )
        for model in answer.models
    ]
    if not console.is_terminal:
        print_lines(to_tsv(row) for row in rows)
        return
    columns = (
        Column("Model"),
        Column(""),
        Column(""),
        Column("Provider", "from {}"),
        Column("Context", "{} tokens of context"),
        Column("$ in", "${} for 1,000 in"),
        Column("$ out", "${} for 1,000 out"),
        Column("Reply", "{} tokens of reply"),
        Column("Files", "takes {}"),
    )
    print_table(console, columns, [Row(row, dim=row[1] != "available") for row in rows])
