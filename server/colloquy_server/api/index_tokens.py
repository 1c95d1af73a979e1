"""Resume tokens of WatchConversations: opaque to clients, checked when they come back."""

from __future__ import annotations

import base64
import binascii
import struct
from dataclasses import dataclass
from uuid import UUID

from colloquy_server.database.models import MICROS
from colloquy_server.database.repository.index import Place
from colloquy_server.errors import InvalidField

# Layout version; account; user; whether all of the account is seen; lineage and horizon of the
# database; seconds since 1970. 54 bytes, so that base64 needs no padding.
_LAYOUT = struct.Struct(">B16s16s?qqI")
_LAYOUT_VERSION = 2
"""1 is that of tokens of a conversation."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Whose token it is. Who sees other conversations than before has to begin anew."""

    account_id: str
    user_id: str
    sees_all: bool


def encode_standing(standing: Standing, place: Place) -> str:
    """A resume token for this place."""
    packed = _LAYOUT.pack(
        _LAYOUT_VERSION,
        UUID(standing.account_id).bytes,
        UUID(standing.user_id).bytes,
        standing.sees_all,
        place.lineage,
        place.horizon,
        place.time // MICROS,
    )
    return base64.urlsafe_b64encode(packed).decode()


def decode_standing(standing: Standing, token: str) -> Place | None:
    """The place that a resume token holds; None when it was given to somebody else.

    Raises InvalidField when it is not a token of this account.
    """
    try:
        packed = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
        layout, account, user, sees_all, lineage, horizon, seconds = _LAYOUT.unpack(packed)
    except (binascii.Error, struct.error, UnicodeError):
        raise InvalidField({"resume_token": "is not a resume token"}) from None
    if layout != _LAYOUT_VERSION or horizon < 0:
        raise InvalidField({"resume_token": "is not a resume token"})
    if account != UUID(standing.account_id).bytes:
        raise InvalidField({"resume_token": "belongs to another account"})
    if user != UUID(standing.user_id).bytes or sees_all != standing.sees_all:
        return None
    return Place(lineage, horizon, seconds * MICROS)
