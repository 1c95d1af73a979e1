"""Resume tokens and page tokens: opaque to clients, checked when they come back."""

from __future__ import annotations

import base64
import binascii
import struct
from dataclasses import dataclass
from functools import lru_cache
from uuid import UUID

import orjson

from colloquy_server.database.models import State
from colloquy_server.database.rows import ConversationRow, MessageRow
from colloquy_server.errors import InvalidField

# Layout version; conversation; version; reply; the version of the reply that was seen; attempt;
# offset. 57 bytes, so that base64 needs no padding.
_LAYOUT = struct.Struct(">B16sQ16sQII")
_LAYOUT_VERSION = 1
_NO_REPLY = bytes(16)

DEFAULT_PAGE = 50
MAX_PAGE = 200


@dataclass(slots=True)
class Position:
    """Where a watcher stands: it has seen every change up to `version`, and of one reply the
    change `reply_version` and the first `offset` code points of `attempt`."""

    version: int
    reply: str = ""
    reply_version: int = 0
    attempt: int = 0
    offset: int = 0


def encode_position(conversation_id: str, position: Position) -> str:
    """A resume token for this position."""
    packed = _LAYOUT.pack(
        _LAYOUT_VERSION,
        _packed(conversation_id),
        position.version,
        _packed(position.reply) if position.reply else _NO_REPLY,
        position.reply_version,
        position.attempt,
        position.offset,
    )
    return base64.urlsafe_b64encode(packed).decode()


@lru_cache(maxsize=4_096)  # live replies ask for the same two with every event
def _packed(id_: str) -> bytes:
    return UUID(id_).bytes


def decode_position(conversation_id: str, token: str) -> Position:
    """The position that a resume token holds.

    Raises InvalidField when it is not a token of this conversation.
    """
    try:
        packed = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
        layout, conversation, version, reply, reply_version, attempt, offset = _LAYOUT.unpack(
            packed
        )
    except (binascii.Error, struct.error, UnicodeError):
        raise InvalidField({"resume_token": "is not a resume token"}) from None
    if layout != _LAYOUT_VERSION or max(version, reply_version) >= 2**63:
        raise InvalidField({"resume_token": "is not a resume token"})
    if conversation != UUID(conversation_id).bytes:
        raise InvalidField({"resume_token": "belongs to another conversation"})
    reply_id = str(UUID(bytes=reply)) if reply != _NO_REPLY else ""
    return Position(version, reply_id, reply_version, attempt, offset)


def token_after(
    conversation: ConversationRow,
    unfinished: list[MessageRow],
    shown: list[tuple[MessageRow, str]],
) -> str:
    """A token to watch from what was `shown`, each message with its text. A live reply that was
    not shown is told of from its start."""
    position = Position(conversation.version)
    live = next((row for row in unfinished if row.state == State.GENERATING), None)
    if live is not None:
        seen = next(((row, text) for row, text in shown if row.id == live.id), None)
        if seen is None:
            position.version = min(position.version, live.version - 1)
        else:
            row, text = seen
            position.reply, position.reply_version = row.id, row.version
            position.attempt, position.offset = row.attempt, len(text)
    return encode_position(conversation.id, position)


def encode_page(*key: str | int) -> str:
    """A page token for the page behind this key."""
    return base64.urlsafe_b64encode(orjson.dumps(key)).decode()


def decode_page(token: str, *types: type) -> list[str | int] | None:
    """The key in a page token, None for an empty one.

    Raises InvalidField when it is not a token for keys of these types.
    """
    if not token:
        return None
    try:
        key = orjson.loads(base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True))
    except (binascii.Error, orjson.JSONDecodeError, UnicodeError):
        key = None
    if (
        not isinstance(key, list)
        or [type(part) for part in key] != list(types)
        or not all(_can_be_stored(part) for part in key)
    ):
        raise InvalidField({"page_token": "is not a page token of this call"})
    return key


def _can_be_stored(part: str | int) -> bool:
    """Whether a database takes this as a value of its own: 64 bits, and no U+0000."""
    return "\0" not in part if isinstance(part, str) else -(2**63) <= part < 2**63


def page_size(asked: int) -> int:
    """How many entries a page has when a client asked for this many."""
    return min(asked or DEFAULT_PAGE, MAX_PAGE)
