"""What `serve --dev` adds: a development account whose key the clients find by themselves, and a
link that signs a browser in."""

from __future__ import annotations

import os
from pathlib import Path

import structlog
from colloquy.operations.private_files import make_private_folder

from colloquy_server.api.access import hash_secret, new_secret, new_session_secret
from colloquy_server.api.sessions import link
from colloquy_server.database.models import ApiKey, KeyRole
from colloquy_server.database.repository import access as rows
from colloquy_server.database.repository import sessions
from colloquy_server.database.repository.users import Author
from colloquy_server.database.transactions import EVERY_ACCOUNT, Database

log = structlog.get_logger()

KEY_FILE = Path("data/dev.key")
"""Where the key is, relative to the working folder; only its owner may read it."""

_ACCOUNT = "development"


async def ensure_development_key(db: Database) -> ApiKey:
    """The key of the file; the account is made if it is missing, and a key if the file has none
    that is good."""
    account = await db.write(EVERY_ACCOUNT, rows.create_account, "Development", _ACCOUNT)
    found, _ = await db.read(EVERY_ACCOUNT, rows.keys_by_hash, [hash_secret(_read_key())])
    for key in found.values():
        if key.account_id == account.id and not key.revoke_time:
            return key
    secret = new_secret()
    made = await db.write(
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
    return made


async def make_link(db: Database, key: ApiKey, web_url: str) -> str:
    """A link that signs a browser in once, as the user of the development account."""
    code = new_session_secret()
    await db.write(
        EVERY_ACCOUNT,
        sessions.create_link,
        key.account_id,
        key.id,
        Author(),
        KeyRole.SERVICE,
        hash_secret(code),
    )
    return link(web_url, code)


def log_link(url: str) -> None:
    """Shows a link to whoever started the server: it is of a development server alone, and of no
    use once it was opened."""
    log.info("open this in a browser, once", url=url, more="colloquy link --as NAME")


def _read_key() -> str:
    return KEY_FILE.read_text().strip() if KEY_FILE.exists() else ""


def _write_key(secret: str) -> None:
    make_private_folder(KEY_FILE.parent)
    KEY_FILE.unlink(missing_ok=True)
    descriptor = os.open(KEY_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secret + "\n")
