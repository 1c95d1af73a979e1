"""Deletes at the server what workspaces said that took the app away some time ago."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import structlog
from colloquy import AsyncAdminClient, AsyncConversationClient
from colloquy.errors import NotFound, PermissionDenied

from colloquy_slack.database import departures
from colloquy_slack.database.models import Departure
from colloquy_slack.external_ids import place_of
from colloquy_slack.runtime import Runtime
from colloquy_slack.workspaces.connector import MakeServerClient
from colloquy_slack.workspaces.installations import Installations

log = structlog.get_logger()

_DAY = 86_400.0

_KEY_NAME = "Slack bot, to erase"
_KEY_TTL = timedelta(hours=1)
"""For so long a key is good that is made for this: a process that dies leaves one behind, of which
nobody has the secret."""

_AT_ONCE = 20
_PAUSE = 1.0
"""Conversations that are deleted one after another, and seconds until the next ones."""


class WorkspaceErasure:
    """What a workspace left behind is deleted some days after it left, if it does not come back.

    A process that dies leaves the rest to the next; two that do the same do no harm.
    """

    def __init__(
        self,
        runtime: Runtime,
        installations: Installations,
        provisioning: AsyncAdminClient,
        admin_client: Callable[[str], AsyncAdminClient],
        server_client: MakeServerClient,
        after_days: int,
    ) -> None:
        """`provisioning` has the provisioning key, `admin_client` makes a client with another;
        `after_days` is 0 when all stays."""
        self._runtime, self._installations = runtime, installations
        self._provisioning, self._admin_client = provisioning, admin_client
        self._server_client, self._after_days = server_client, after_days

    async def erase_due(self) -> None:
        """Erase the workspaces that left long enough ago. Raises ColloquyError: the rest is left to
        the next time."""
        if not self._after_days:
            return
        left_before = self._runtime.now() - self._after_days * _DAY
        for departure in await self._runtime.db.run(departures.before, left_before):
            await self._erase(departure)

    async def _erase(self, departure: Departure) -> None:
        if not await self._is_away(departure.team_id):
            return
        try:
            made = await self._provisioning.create_api_key(
                departure.account_id, _KEY_NAME, expire_time=datetime.now(UTC) + _KEY_TTL
            )
        except PermissionDenied:
            log.warning(
                "workspace not erased: its account is gone, or was not made by the bot",
                team=departure.team_id,
                remedy=f"colloquy admin delete-account {departure.account_id}",
            )
        else:
            async with self._server_client(made.secret) as server:
                if not await self._delete_conversations(departure.team_id, server):
                    return
            async with self._admin_client(made.secret) as admin:
                await admin.revoke_api_key(made.api_key.id)
            log.info("workspace erased", team=departure.team_id)
        await self._runtime.db.run(departures.forget, departure.team_id)

    async def _delete_conversations(self, team_id: str, server: AsyncConversationClient) -> bool:
        """Delete those that the bot made; returns False when the workspace came back meanwhile."""
        number = 0
        async for conversation in server.conversations():
            place = place_of(conversation.external_id)
            if place is None or place.team_id != team_id:
                continue
            # What was listed before was said before: nothing new is deleted.
            if not await self._is_away(team_id):
                return False
            with suppress(NotFound):
                await server.delete_conversation(conversation.id)
            number += 1
            if number % _AT_ONCE == 0:
                await self._runtime.sleep(_PAUSE)
        return True

    async def _is_away(self, team_id: str) -> bool:
        if await self._installations.find_encrypted_bot(team_id) is not None:
            return False
        return await self._runtime.db.run(departures.is_noted, team_id)
