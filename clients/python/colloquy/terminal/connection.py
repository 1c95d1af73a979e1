"""The server that the options before the command name, and the clients for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import typer

if TYPE_CHECKING:
    from colloquy import AdminClient, AsyncConversationClient, ConversationClient

# A person waits: a server that is not there is reported sooner than to a program.
_CONNECT_TIMEOUT = 3.0


@dataclass
class Connection:
    """The options that stand before the command, which all commands share."""

    address: str | None = None
    tls: bool = False
    files: dict[str, str | None] = field(default_factory=dict)

    def client(self) -> ConversationClient:
        """Return a client with the account's key."""
        from colloquy import ConversationClient

        return ConversationClient(self.address, **self._options())

    def async_client(self) -> AsyncConversationClient:
        """Return a client for asyncio with the account's key."""
        from colloquy import AsyncConversationClient

        return AsyncConversationClient(self.address, **self._options())

    def admin_client(self) -> AdminClient:
        """Return a client with the platform's key."""
        from colloquy import AdminClient

        return AdminClient(self.address, **self._options())

    def _options(self) -> dict[str, Any]:
        return {"tls": self.tls, "patience": _CONNECT_TIMEOUT, **self.files}

    @property
    def server(self) -> str:
        """The server's address, for people."""
        from colloquy.config import resolve

        return resolve(self.address, "none").address


def connection_of(context: typer.Context) -> Connection:
    """Return the connection of a command."""
    return cast(Connection, context.find_root().obj)
