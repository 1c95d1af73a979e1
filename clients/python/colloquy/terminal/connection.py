"""The server that the options before the command name, and the clients for it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import typer

if TYPE_CHECKING:
    from colloquy import AdminClient, AsyncConversationClient, ConversationClient
    from colloquy.config import ApiKey, Endpoint

# A person waits: a server that is not there is reported sooner than to a program.
_CONNECT_TIMEOUT = 3.0


@dataclass
class Connection:
    """The options that stand before the command, which all commands share."""

    address: str | None = None
    tls: bool = False
    files: dict[str, str | None] = field(default_factory=dict)

    def client(self) -> ConversationClient:
        """Return a client with the account's key, or the token of who is signed in."""
        from colloquy import ConversationClient

        return ConversationClient(self.address, self._key(), **self._options())

    def async_client(self) -> AsyncConversationClient:
        """Return a client for asyncio with the same key or token."""
        from colloquy import AsyncConversationClient

        return AsyncConversationClient(self.address, self._key(), **self._options())

    def admin_client(self) -> AdminClient:
        """Return a client with the platform's key."""
        from colloquy import AdminClient

        return AdminClient(self.address, **self._options())

    def _options(self) -> dict[str, Any]:
        return {"tls": self.tls, "patience": _CONNECT_TIMEOUT, **self.files}

    def _key(self) -> ApiKey | None:
        """Return what renews the token of who is signed in; None when a key is set, which wins,
        or nobody is."""
        from colloquy.terminal.logins import Logins, RenewedToken, server_name

        if os.environ.get("CONVERSATION_API_KEY"):
            return None
        logins, server = Logins(), server_name(self.endpoint)
        login = logins.find(server)
        return RenewedToken(logins, server, login) if login else None

    @property
    def endpoint(self) -> Endpoint:
        """The server, without a key."""
        from colloquy.config import resolve

        files: dict[str, Any] = {**self.files}
        return resolve(self.address, "none", tls=self.tls, **files)

    @property
    def server(self) -> str:
        """The server's address, for people."""
        return self.endpoint.address


def connection_of(context: typer.Context) -> Connection:
    """Return the connection of a command."""
    return cast(Connection, context.find_root().obj)
