"""`login`, `logout`: who you are, by your company's identity provider."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Annotated

import typer

from colloquy.terminal.connection import connection_of
from colloquy.terminal.console import note, usage_error


def login(
    context: typer.Context,
    issuer: Annotated[
        str, typer.Option(help="The provider; default OIDC_ISSUER.", metavar="URL")
    ] = "",
    client_id: Annotated[
        str, typer.Option(help="This client's name there; default OIDC_CLIENT_ID.", metavar="ID")
    ] = "",
    audience: Annotated[
        str, typer.Option(help="The server's name there; default OIDC_AUDIENCE.", metavar="NAME")
    ] = "",
    scope: Annotated[
        str, typer.Option(help="What to ask for; default OIDC_SCOPE.", metavar="SCOPES")
    ] = "",
) -> None:
    """Sign in at your company's identity provider, in a browser on any device."""
    from colloquy.terminal.identity_provider import Client, Provider
    from colloquy.terminal.logins import Login, Logins, server_name

    issuer = issuer or os.environ.get("OIDC_ISSUER", "")
    client_id = client_id or _first("OIDC_CLIENT_ID")
    if not issuer or not client_id:
        usage_error(
            "name the provider: --issuer and --client-id, or OIDC_ISSUER and OIDC_CLIENT_ID"
        )
    client = Client(
        issuer,
        client_id,
        os.environ.get("OIDC_CLIENT_SECRET", ""),
        audience or _first("OIDC_AUDIENCE"),
        scope or os.environ.get("OIDC_SCOPE", "") or Client.scope,
    )
    provider = Provider(client)
    code = provider.device_code()
    note(f"To sign in, open {code.address} and enter the code {code.user_code}")
    tokens = provider.wait(code)
    logins = Logins()
    server = server_name(connection_of(context).endpoint)
    logins.keep(server, Login(client, tokens))
    note(f"Signed in for {server}; the tokens are in {logins.file}")
    if os.environ.get("CONVERSATION_API_KEY"):
        note("CONVERSATION_API_KEY is set, and is used instead: unset it to be yourself")


def logout(context: typer.Context) -> None:
    """Forget your login, here and at the identity provider."""
    from colloquy.terminal.identity_provider import Provider, SignInFailed
    from colloquy.terminal.logins import Logins, server_name

    logins = Logins()
    server = server_name(connection_of(context).endpoint)
    found = logins.find(server)
    if found is None:
        note(f"You are not signed in for {server}")
        return
    logins.keep(server, None)
    if found.tokens.refresh_token:
        with suppress(SignInFailed):  # what is forgotten here is of no use to others
            Provider(found.client).revoke(found.tokens.refresh_token)
    note(f"Signed out of {server}")


def _first(variable: str) -> str:
    """Return the first name of a setting that may have several for the server's sake."""
    return os.environ.get(variable, "").partition(",")[0].strip()
