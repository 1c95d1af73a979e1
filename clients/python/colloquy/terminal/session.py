"""What every command needs: a way to the server, and to the screen."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, cast

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from colloquy import AdminClient, AsyncConversationClient, ConversationClient

# A person waits: a server that is not there is told sooner than to a program.
_PATIENCE = 3.0
# Shorter parts of an id would match by chance.
_SHORTEST_PART = 4


@dataclass
class Session:
    """The options that stand before the command."""

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

    def admin(self) -> AdminClient:
        """Return a client with the platform's key."""
        from colloquy import AdminClient

        return AdminClient(self.address, **self._options())

    def _options(self) -> dict[str, Any]:
        return {"tls": self.tls, "patience": _PATIENCE, **self.files}

    @property
    def server(self) -> str:
        """The server's address, for people."""
        from colloquy.config import resolve

        return resolve(self.address, "none").address


def session_of(context: typer.Context) -> Session:
    """Return the session of a command."""
    return cast(Session, context.find_root().obj)


def screen() -> Console:
    """Return standard output as Rich sees it. Nothing in strings is taken for markup."""
    from rich.console import Console

    return Console(markup=False, highlight=False, emoji=False)


def note(text: str) -> None:
    """Tell the person something that is no output."""
    from colloquy.terminal.text import clean

    print(clean(text), file=sys.stderr, flush=True)  # noqa: T201


def usage(message: str) -> NoReturn:
    """End with exit code 2 because the command line is wrong."""
    note(f"error: {message}")
    raise typer.Exit(2)


def is_whole_id(part: str) -> bool:
    """Whether this is a whole id and not a part of one."""
    try:
        return str(uuid.UUID(part)) == part
    except ValueError:
        return False


def pick_id(part: str, ids: Iterable[str], what: str) -> str:
    """Return the id that begins or ends with `part`; `what` names its kind.

    Exits with 2 when there is none, or more than one.
    """
    part = part.strip().lower()
    if len(part) < _SHORTEST_PART:
        usage(f"{part!r} is too short for a {what}: give at least {_SHORTEST_PART} characters")
    found = [id_ for id_ in ids if id_.startswith(part) or id_.endswith(part)]
    if not found:
        usage(f"there is no {what} whose id begins or ends with {part!r}")
    if len(found) > 1:
        usage(f"{part!r} fits {len(found)} ids: give more of the {what}'s")
    return found[0]


def find_conversation(client: ConversationClient, part: str) -> str:
    """Return the id of the conversation that a part of its id names."""
    if is_whole_id(part):
        return part
    return pick_id(part, (found.id for found in client.conversations()), "conversation")


async def find_conversation_aio(client: AsyncConversationClient, part: str) -> str:
    """Return the same with the other client."""
    if is_whole_id(part):
        return part
    return pick_id(part, [found.id async for found in client.conversations()], "conversation")
