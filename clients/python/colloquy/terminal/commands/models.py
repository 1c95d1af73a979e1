"""`models`: what can answer, and at what price."""

from __future__ import annotations

from typing import Annotated

import typer

from colloquy.terminal.connection import connection_of
from colloquy.terminal.console import print_lines, screen, table_of


def models(
    context: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")] = False,
) -> None:
    """List the models.

    On a pipe: id, whether it is available, whether new conversations get it, provider, tokens of
    context, US dollars for 1,000 tokens in and out, with tabs between them.
    """
    from colloquy.terminal.formatting import clean_line, to_json, to_tsv

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
        )
        for model in answer.models
    ]
    if not console.is_terminal:
        print_lines(to_tsv(row) for row in rows)
        return
    table = table_of("Model", "", "", "Provider", "Context", "$ in", "$ out")
    for row in rows:
        table.add_row(*row, style="" if row[1] == "available" else "dim")
    console.print(table)
