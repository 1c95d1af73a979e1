"""Encrypts what is stored of workspaces with a new SLACK_ENCRYPTION_KEY."""

from __future__ import annotations

from sqlalchemy import Table, select, update
from sqlalchemy.orm import Session

from colloquy_slack.database.engine import Database
from colloquy_slack.database.models import Account, Base, RetiredKey
from colloquy_slack.workspaces.encryption import Cipher
from colloquy_slack.workspaces.installations import SECRETS, Installations


async def renew_encryption(db: Database, installations: Installations, cipher: Cipher) -> int:
    """Has all that an older key encrypted encrypted by the first one; returns how many values.

    Raises SettingsError when one can be read with none of the keys.
    """
    own = [Base.metadata.tables[one.__tablename__] for one in (Account, RetiredKey)]
    places = [
        *((table, name) for table in installations.tables for name in SECRETS if name in table.c),
        *((table, "encrypted_key") for table in own),
    ]

    def renew(s: Session) -> int:
        return sum(_renew_column(s, table, name, cipher) for table, name in places)

    return await db.run(renew)


def _renew_column(s: Session, table: Table, name: str, cipher: Cipher) -> int:
    column = table.c[name]
    changed = 0
    for old in set(s.scalars(select(column).where(column.is_not(None), column != ""))):
        new = cipher.renew(old)
        if new != old:  # only where it still stands: others may have stored another one
            s.execute(update(table).where(column == old).values({name: new}))
            changed += 1
    return changed
