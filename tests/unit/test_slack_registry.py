"""The workspaces that installed the app: each connected once, and anew when its token changed."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from colloquy_slack.workspaces.accounts import Accounts
from colloquy_slack.workspaces.connector import Connector
from colloquy_slack.workspaces.erasure import WorkspaceErasure
from colloquy_slack.workspaces.installations import Installations
from colloquy_slack.workspaces.notices import Notices
from colloquy_slack.workspaces.registry import InstalledWorkspaces
from colloquy_slack.workspaces.token_rotation import TokenRotation
from colloquy_slack.workspaces.workspace import Workspace

from tests.fakes.workspaces import workspace


class Server:
    """A connection to the server that only knows whether it was closed."""

    def __init__(self) -> None:
        self.is_closed = False

    async def close(self) -> None:
        self.is_closed = True


class Installed:
    """A stored installation, and how it is connected."""

    def __init__(self) -> None:
        self.token, self.key_now, self.installed_at = "xoxb-1", "key-1", 1.0
        self.made: list[Workspace] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def find_bot(self, _team_id: str) -> Any:
        return SimpleNamespace(
            bot_token=self.token, team_name="Acme", installed_at=self.installed_at
        )

    async def api_key(self, *_who: str) -> str:
        return self.key_now

    async def connect(self, _token: str, _key: str, server: Any = None) -> Workspace:
        await self.gate.wait()
        self.made.append(workspace("T1", server or Server()))
        return self.made[-1]

    @property
    def workspaces(self) -> InstalledWorkspaces:
        return InstalledWorkspaces(
            cast(Installations, self),
            cast(Accounts, self),
            cast(Connector, self),
            cast(TokenRotation, self),
            cast(Notices, self),
            cast(WorkspaceErasure, self),
        )


def is_closed(one: Workspace) -> bool:
    return cast(Server, one.colloquy).is_closed


async def test_a_workspace_that_two_ask_for_at_once_is_connected_once() -> None:
    installed = Installed()
    installed.gate.clear()
    workspaces = installed.workspaces
    asking = [asyncio.create_task(workspaces.get("T1")) for _ in range(2)]
    await asyncio.sleep(0)
    installed.gate.set()
    first, second = await asyncio.gather(*asking)
    assert first is second
    assert first is not None
    assert not is_closed(first)


async def test_a_new_token_leaves_the_connection_to_the_server_open() -> None:
    installed = Installed()
    workspaces = installed.workspaces
    before = await workspaces.get("T1")
    installed.token, installed.installed_at = "xoxb-2", 2.0
    after = await workspaces.get("T1")
    assert after is not before
    assert before is not None
    assert not is_closed(before)
    # With another key it is another account's or a revoked one's.
    installed.token, installed.key_now, installed.installed_at = "xoxb-3", "key-2", 3.0
    assert await workspaces.get("T1") is not after
    assert is_closed(before)
