"""`link` and `sessions`: signing in with a browser, and where one is signed in."""

from __future__ import annotations

from typing import Annotated

import typer

from colloquy.terminal.connection import connection_of
from colloquy.terminal.console import print_lines, screen


def link(
    context: typer.Context,
    person: Annotated[
        str,
        typer.Option(
            "--as",
            metavar="USER",
            help="Your own name for who is signed in; without it the account's default user.",
        ),
    ] = "",
) -> None:
    """Print a link that signs a browser in, once and for some minutes. A service's key makes it."""
    from colloquy.api.resources_pb2 import User

    user = User(external_id=person, display_name=person) if person else None
    with connection_of(context).client() as client:
        print_lines([client.create_sign_in_link(user).url])


def sessions(
    context: typer.Context,
    revoke: Annotated[
        str, typer.Option("--revoke", metavar="ID", help="End this one instead.")
    ] = "",
    user: Annotated[
        str, typer.Option("--user", metavar="ID", help="Another user's, for an admin's key.")
    ] = "",
    json: Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")] = False,
) -> None:
    """List the browsers in which you are signed in, the one that was used last first.

    On a pipe: id, how it was begun, when it was begun, when it was last used, when it ends, and
    what the browser calls itself, with tabs between them.
    """
    from colloquy.api.session_service_pb2 import Session
    from colloquy.terminal.formatting import clean_line, to_json, to_tsv
    from colloquy.terminal.tables import Column, Row, print_table

    with connection_of(context).client() as client:
        if revoke:
            client.revoke_session(revoke)
            return
        found = list(client.sessions(user_id=user))
    if json:
        print_lines(to_json(session) for session in found)
        return
    rows = [
        (
            session.id,
            Session.Method.Name(session.method).removeprefix("METHOD_").lower().replace("_", " "),
            session.create_time.ToJsonString(),
            session.last_used_time.ToJsonString(),
            session.expire_time.ToJsonString(),
            clean_line(session.user_agent),
        )
        for session in found
    ]
    if not screen().is_terminal:
        print_lines(to_tsv(row) for row in rows)
        return
    columns = (
        Column("Session"),
        Column("By"),
        Column("Begun"),
        Column("Last used"),
        Column("Ends"),
        Column("Browser"),
    )
    print_table(screen(), columns, [Row(row) for row in rows])
