"""What workspaces said that took the app away is deleted after some days, unless they come back."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from colloquy import AsyncConversationClient
from colloquy.api import admin_service_pb2 as admin_api
from colloquy_slack.database.engine import Database
from sqlalchemy import text
from sqlalchemy.orm import Session

from tests.fakes.slack import Workspace
from tests.harness import Caller, Colloquy
from tests.index import listed
from tests.slack_harness import BotProcess, OAuthStage
from tests.slack_process import CONVERSATION_DELETED

T = TypeVar("T")


@pytest.fixture(params=["sqlite", "postgres"])
async def stage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OAuthStage]:
    url = f"sqlite:///{tmp_path}/slack.db"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_url")
    async with (
        Colloquy(tmp_path) as colloquy,
        OAuthStage(colloquy, slack_database_url=url) as running,
    ):
        yield running


async def service(stage: OAuthStage, workspace: Workspace) -> Caller:
    """Somebody who sees all of a workspace's account."""
    admin = stage.colloquy.admin
    request = admin_api.ListAccountsRequest()
    found = (await admin.admin.ListAccounts(request, metadata=admin.metadata)).accounts
    ids = {account.external_id: account.id for account in found}
    return await stage.colloquy.key(ids[f"slack:{workspace.id}"])


async def keys(stage: OAuthStage, account_id: str) -> list[admin_api.ApiKey]:
    """The bot's keys of an account."""
    admin = stage.colloquy.admin
    request = admin_api.ListApiKeysRequest(account_id=account_id)
    found = await admin.admin.ListApiKeys(request, metadata=admin.metadata)
    return [key for key in found.api_keys if key.name.startswith("Slack bot")]


async def talk(stage: OAuthStage, number: int = 1) -> None:
    for _ in range(number):
        asked = stage.alice.post(stage.general, "Hello", mention=True)
        await stage.answered(stage.general, asked.ts)


async def leave(stage: OAuthStage, workspace: Workspace) -> None:
    for delivery in stage.slack.uninstall(workspace):
        await delivery.settled()


async def run(stage: OAuthStage, do: Callable[[Session], T]) -> T:
    """Does something in the bot's database."""
    db = Database(stage.settings().slack_database_url)
    try:
        return await db.run(do)
    finally:
        await db.close()


async def wait_days(stage: OAuthStage, days: float) -> None:
    """Has those that left have done so so many days earlier."""
    older = text(f"UPDATE slack_departures SET left_at = left_at - {days * 86_400}")
    await run(stage, lambda s: s.execute(older) and None)


async def later(stage: OAuthStage, days: float) -> None:
    """Goes on so many days later, when all has been erased that is due then."""
    await wait_days(stage, days)
    await stage.bot.workspaces.erase_departed()


async def noted(stage: OAuthStage) -> int:
    """How many workspaces are away, and not erased."""
    count = text("SELECT count(*) FROM slack_departures")
    return await run(stage, lambda s: int(s.execute(count).scalar_one()))


async def test_a_workspace_that_left_is_erased_after_its_days_and_no_other(
    stage: OAuthStage,
) -> None:
    ours, theirs = stage.slack.workspace, stage.slack.add_workspace("Globex")
    for workspace in (ours, theirs):
        await stage.install(workspace)
    eve, lobby = (
        stage.slack.person("Eve", workspace=theirs),
        stage.slack.channel("lobby", workspace=theirs),
    )
    asked = eve.post(lobby, "Hello", mention=True)
    await stage.answered(lobby, asked.ts)
    await talk(stage, 2)
    of_ours, of_theirs = await service(stage, ours), await service(stage, theirs)
    page = await of_ours.create(title="Made at the page", external_id="slack:T0SOMEBODY:C1:1.0")
    assert len(await listed(of_ours)) == 3
    await leave(stage, ours)
    await later(stage, 29)
    assert (len(await listed(of_ours)), await noted(stage)) == (3, 1)
    await later(stage, 2)
    assert [*await listed(of_ours)] == [page.id]
    assert len(await listed(of_theirs)) == 1
    assert await noted(stage) == 0
    found = await keys(stage, of_ours.account_id)
    assert len(found) == 2
    assert all(key.HasField("revoke_time") for key in found)
    assert found[-1].HasField("expire_time")


async def test_a_workspace_that_came_back_keeps_what_it_said(
    stage: OAuthStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = stage.slack.workspace
    await stage.install(workspace)
    await talk(stage, 3)
    caller = await service(stage, workspace)
    await leave(stage, workspace)
    await wait_days(stage, 31)
    # It comes back while it is being erased.
    delete, reached, go_on = (
        AsyncConversationClient.delete_conversation,
        asyncio.Event(),
        asyncio.Event(),
    )

    async def slowly(client: Any, conversation_id: str) -> None:
        reached.set()
        await go_on.wait()
        await delete(client, conversation_id)

    monkeypatch.setattr(AsyncConversationClient, "delete_conversation", slowly)
    erasing = asyncio.create_task(stage.bot.workspaces.erase_departed())
    await reached.wait()
    assert "Thank you" in await stage.install(workspace)
    stage.general.members.add(workspace.bot.id)
    go_on.set()
    await erasing
    await talk(stage)
    await later(stage, 100)
    assert len(await listed(caller)) == 3, "one was under way"
    assert await noted(stage) == 0


@pytest.mark.parametrize("stage", ["sqlite"], indirect=True)
async def test_killed_while_it_erases_the_next_process_goes_on(stage: OAuthStage) -> None:
    workspace = stage.slack.workspace
    await stage.install(workspace)
    await talk(stage, 3)
    caller = await service(stage, workspace)
    await leave(stage, workspace)
    await wait_days(stage, 31)
    await stage.stop()
    bot = BotProcess(stage)
    bot.die_at.write_text(f"{CONVERSATION_DELETED}*2")
    await bot.start()
    assert await bot.died(60) == -signal.SIGKILL
    assert (len(await listed(caller)), await noted(stage)) == (1, 1)
    await stage.start()
    await stage.bot.workspaces.erase_departed()
    assert (await listed(caller), await noted(stage)) == ({}, 0)
    good = [key for key in await keys(stage, caller.account_id) if not key.HasField("revoke_time")]
    assert good
    assert all(key.HasField("expire_time") for key in good), "they end by themselves"


@pytest.mark.parametrize("stage", ["sqlite"], indirect=True)
async def test_nothing_is_erased_where_all_is_kept_and_what_is_gone_is_forgotten(
    stage: OAuthStage,
) -> None:
    workspace = stage.slack.workspace
    stage.overrides["slack_erase_after_days"] = 0
    await stage.restart()
    await stage.install(workspace)
    await talk(stage)
    caller = await service(stage, workspace)
    await leave(stage, workspace)
    await later(stage, 1_000)
    assert (len(await listed(caller)), await noted(stage)) == (1, 1)
    stage.overrides["slack_erase_after_days"] = 1
    admin = stage.colloquy.admin
    gone = admin_api.DeleteAccountRequest(account_id=caller.account_id)
    await admin.admin.DeleteAccount(gone, metadata=admin.metadata)
    await stage.restart()
    await later(stage, 1_000)
    assert await noted(stage) == 0
