"""Signatures of events, as Standard Webhooks 1.0 has them (standardwebhooks.com)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from typing import Final

_PREFIX: Final = "whsec_"
_SECRET_BYTES = 32
"""As many as SHA-256 has; the specification asks for 24 to 64."""


def new_secret() -> str:
    """A new webhook's secret, as its receiver is told it."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def sign(secret: str, delivery_id: str, timestamp: int, body: bytes) -> str:
    """What `webhook-signature` says; `timestamp` is the attempt's, in seconds since 1970."""
    key = base64.b64decode(secret.removeprefix(_PREFIX))
    signed = f"{delivery_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
