"""Colloquy from Python: `AsyncConversationClient` for asyncio, `ConversationClient` without it.

What is exported here is imported when it is first used: gRPC takes a quarter of a second, which
`python -m clients --help` need not wait for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from colloquy.aio import AsyncAdminClient, AsyncConversationClient
    from colloquy.aio_base import AsyncEvents, AsyncReply
    from colloquy.errors import ColloquyError
    from colloquy.follow import ReplyText, Transcript, is_final
    from colloquy.sync import AdminClient, ConversationClient
    from colloquy.sync_base import Events, Reply

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
    "is_final",
]

_MODULES = {
    "AdminClient": "sync",
    "AsyncAdminClient": "aio",
    "AsyncConversationClient": "aio",
    "AsyncEvents": "aio_base",
    "AsyncReply": "aio_base",
    "ColloquyError": "errors",
    "ConversationClient": "sync",
    "Events": "sync_base",
    "Reply": "sync_base",
    "ReplyText": "follow",
    "Transcript": "follow",
    "is_final": "follow",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"colloquy.{_MODULES[name]}"), name)
