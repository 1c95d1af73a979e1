"""What `serve --dev` adds: a development account whose key the clients find by themselves."""

from __future__ import annotations

import os
from pathlib import Path

import structlog
from colloquy.operations.private_files import make_private_folder

from colloquy_server.api.access import hash_secret, new_secret
from colloquy_server.database.models import KeyRole
from colloquy_server.database.repository import access as rows
from colloquy_server.database.repository.access import Author
from colloquy_server.database.transactions import EVERY_ACCOUNT, Database

log = structlog.get_logger()

KEY_FILE = Path("data/dev.key")
"""Where the key is, relative to the working folder; only its owner may read it."""

_ACCOUNT = "development"


async def ensure_development_key(db: Database) -> None:
    """Makes the account if it is missing, and a key if the file has none that is good."""
    account = await db.write(EVERY_ACCOUNT, rows.create_account, "Development", _ACCOUNT)
    known = await db.read(EVERY_ACCOUNT, rows.key_by_hash, hash_secret(_read_key()))
    if known is not None and known[0].account_id == account.id and not known[0].revoke_time:
        return
    secret = new_secret()
    await db.write(
        EVERY_ACCOUNT,
        rows.create_key,
        account.id,
        name="development",
        role=KeyRole.SERVICE,
        user=Author(),
        secret_hash=hash_secret(secret),
        expire_time=None,
    )
    _write_key(secret)
    log.info("development key written", file=str(KEY_FILE))


def _read_key() -> str:
    return KEY_FILE.read_text().strip() if KEY_FILE.exists() else ""


def _write_key(secret: str) -> None:
    make_private_folder(KEY_FILE.parent)
    KEY_FILE.unlink(missing_ok=True)
    descriptor = os.open(KEY_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secret + "\n")
