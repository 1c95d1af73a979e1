"""`admin export-user`: all that is known of a person."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from colloquy.terminal.connection import connection_of
from colloquy.terminal.partial_ids import check_user_id


def export_user(
    context: typer.Context,
    user: Annotated[str, typer.Argument(help="The user's whole id.", metavar="USER")],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="The archive, which only you can read.", metavar="FILE"
        ),
    ],
) -> None:
    """Save all that is known of a person as a ZIP archive: what they wrote with the replies to it,
    their files, ratings, keys and sessions."""
    check_user_id(user)
    with connection_of(context).admin_client() as client:
        client.export_user(user, output)
