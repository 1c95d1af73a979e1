"""Colloquy from Python: `AsyncConversationClient` for asyncio, `ConversationClient` without it.

What is exported here is imported when it is first used: gRPC takes a quarter of a second, which
`colloquy --help` need not wait for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from colloquy.aio.admin_client import AsyncAdminClient
    from colloquy.aio.conversation_client import AsyncConversationClient
    from colloquy.aio.streams import AsyncEvents, AsyncReply
    from colloquy.channel import followed_as
    from colloquy.errors import ColloquyError
    from colloquy.sync.admin_client import AdminClient
    from colloquy.sync.conversation_client import ConversationClient
    from colloquy.sync.streams import Events, Reply
    from colloquy.transcript import ReplyText, Transcript, is_final

    __version__: str

__all__ = [
    "AdminClient",
    "AsyncAdminClient",
    "AsyncConversationClient",
    "AsyncEvents",
    "AsyncReply",
    "ColloquyError",
    "ConversationClient",
    "Events",
    "Reply",
    "ReplyText",
    "Transcript",
    "__version__",
    "followed_as",
    "is_final",
]

_MODULES = {
    "AdminClient": "sync.admin_client",
    "AsyncAdminClient": "aio.admin_client",
    "AsyncConversationClient": "aio.conversation_client",
    "AsyncEvents": "aio.streams",
    "AsyncReply": "aio.streams",
    "ColloquyError": "errors",
    "ConversationClient": "sync.conversation_client",
    "Events": "sync.streams",
    "Reply": "sync.streams",
    "ReplyText": "transcript",
    "Transcript": "transcript",
    "followed_as": "channel",
    "is_final": "transcript",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("colloquy")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"colloquy.{_MODULES[name]}"), name)
