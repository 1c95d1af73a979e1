"""Each workspace's account at the server, with its encrypted key."""

from __future__ import annotations

from collections.abc import Callable

import structlog
from colloquy import AsyncAdminClient
from colloquy.errors import Unauthenticated
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from colloquy_slack.database import departures
from colloquy_slack.database.engine import Database
from colloquy_slack.database.models import Account, RetiredKey
from colloquy_slack.database.retention import delete_workspace
from colloquy_slack.external_ids import account_external_id
from colloquy_slack.workspaces.encryption import Cipher

log = structlog.get_logger()

_KEY_NAME = "Slack bot"


class Accounts:
    """Each workspace is an account of the server, with a service's key of its own."""

    def __init__(
        self,
        db: Database,
        cipher: Cipher,
        provisioning: AsyncAdminClient,
        client_with: Callable[[str], AsyncAdminClient],
    ) -> None:
        """`provisioning` has the provisioning key; `client_with` makes a client with another."""
        self._db, self._cipher = db, cipher
        self._provisioning, self._client_with = provisioning, client_with

    async def api_key(self, team_id: str, team_name: str) -> str:
        """Return a workspace's key; account and key are made when they are missing.

        Raises ColloquyError.
        """
        stored = await self._db.run(_get, team_id)
        if stored is None:
            account = await self._provisioning.create_account(
                team_name or team_id, external_id=account_external_id(team_id)
            )
            made = await self._provisioning.create_api_key(account.id, _KEY_NAME)
            new = Account(
                team_id=team_id,
                account_id=account.id,
                api_key_id=made.api_key.id,
                encrypted_key=self._cipher.encrypt(made.secret),
            )
            stored = await self._db.run(_store_or_get, new)
        return self._cipher.decrypt(stored.encrypted_key)

    async def delete(self, team_id: str, when: float) -> None:
        """Delete what is stored here of a workspace that left at `when` (since 1970); its key is
        revoked when the server is there.

        Its conversations stay with the server for some time, for when the app is installed again:
        see `erasure`.
        """
        await self._db.run(_delete, team_id, when)
        self._db.note_deletion()

    async def revoke_retired_keys(self) -> None:
        """Revoke the keys that have no workspace any more. Raises ColloquyError, and SettingsError
        when one was encrypted with another key."""
        for retired in await self._db.run(_retired_keys):
            if retired.encrypted_key:
                await self._revoke(retired)
            else:  # of an earlier version, which revoked with the platform's key
                log.warning(
                    "key not revoked: its secret was not kept",
                    key=retired.api_key_id,
                    remedy=f"colloquy admin revoke-key {retired.api_key_id}",
                )
            await self._db.run(_delete_retired_key, retired.api_key_id)

    async def _revoke(self, retired: RetiredKey) -> None:
        """Have a key revoke itself: the provisioning key may not."""
        key_id, secret = retired.api_key_id, self._cipher.decrypt(retired.encrypted_key)
        async with self._client_with(secret) as client:
            try:
                await client.revoke_api_key(key_id)
            except Unauthenticated:
                log.info("key already revoked", key=key_id)


def _get(s: Session, team_id: str) -> Account | None:
    return s.get(Account, team_id)


def _store_or_get(s: Session, new: Account) -> Account:
    """Store an account, or return the one that another process stored: one key is enough."""
    departures.forget(s, new.team_id)
    stored = s.get(Account, new.team_id, with_for_update=True)
    if stored is None:
        s.add(new)
        s.flush()
    elif stored.api_key_id != new.api_key_id:
        s.merge(_retired(new))
    return stored or new


def _delete(s: Session, team_id: str, when: float) -> None:
    delete_workspace(s, team_id)
    account = s.get(Account, team_id)
    if account is not None:
        s.merge(_retired(account))
        departures.note(s, team_id, account.account_id, when)
        s.delete(account)


def _retired(account: Account) -> RetiredKey:
    return RetiredKey(api_key_id=account.api_key_id, encrypted_key=account.encrypted_key)


def _retired_keys(s: Session) -> list[RetiredKey]:
    return list(s.scalars(select(RetiredKey)))


def _delete_retired_key(s: Session, key_id: str) -> None:
    s.execute(delete(RetiredKey).where(RetiredKey.api_key_id == key_id))
