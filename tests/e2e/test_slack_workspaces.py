"""Many workspaces over HTTP: installing, signatures, what each may see, taking the app away."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from colloquy import AsyncAdminClient, AsyncConversationClient
from colloquy.errors import NotFound, Unauthenticated
from colloquy_slack.workspaces.accounts import Accounts

from tests.harness import Colloquy
from tests.slack_harness import OAuthStage, text_of


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


async def keys(stage: OAuthStage) -> dict[str, str]:
    """Each workspace's key at the server."""
    found = {}
    workspaces = stage.bot.workspaces
    for team_id in await workspaces.installed():
        workspace = await workspaces.get(team_id)
        assert workspace is not None
        found[team_id] = workspace.colloquy._endpoint.api_key
    return found


async def test_two_workspaces_install_and_are_kept_apart(
    stage: OAuthStage, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    ours, theirs = stage.slack.workspace, stage.slack.add_workspace("Globex")
    for workspace in (ours, theirs):
        assert "Thank you" in await stage.install(workspace)
    eve = stage.slack.person("Eve", workspace=theirs)
    lobby = stage.slack.channel("lobby", workspace=theirs)
    asked = stage.alice.post(stage.general, "Our secret", mention=True)
    asked_too = eve.post(lobby, "Their question", mention=True)
    await stage.answered(stage.general, asked.ts)
    await stage.answered(lobby, asked_too.ts)

    of = await keys(stage)
    assert len(set(of.values())) == 2
    address = f"127.0.0.1:{stage.colloquy.app.port}"
    async with (
        AsyncConversationClient(address, of[ours.id]) as our_client,
        AsyncConversationClient(address, of[theirs.id]) as their_client,
    ):
        ours_is = await our_client.create_conversation(external_id=stage.thread(asked.ts))
        assert ours_is.message_count == 2
        with pytest.raises(NotFound):
            await their_client.get_conversation(ours_is.id)
        assert [one.id async for one in their_client.conversations()] != [ours_is.id]

    # A click that names another workspace's reply does nothing there.
    (message,) = stage.reply_messages(lobby, asked_too.ts)
    for block in message.blocks:
        for element in block.get("elements", []):
            if element.get("action_id") == "colloquy_regenerate":
                element["value"] = "1"
    before = len(stage.colloquy.provider.reply_requests)
    await eve.click(message, "Regenerate").settled()
    assert len(stage.colloquy.provider.reply_requests) == before

    raw = b"".join(path.read_bytes() for path in stage.colloquy.folder.glob("slack.db*"))
    for secret in (ours.bot_token, theirs.bot_token, *of.values()):
        assert secret
        assert secret.encode() not in raw
    written = "".join([*capsys.readouterr(), caplog.text])
    app = stage.slack.app
    for secret in (ours.bot_token, *of.values(), app.client_secret, app.signing_secret, stage.key):
        assert secret
        assert secret not in written


async def test_an_installation_survives_a_restart(stage: OAuthStage) -> None:
    await stage.install(stage.slack.workspace)
    before = await keys(stage)
    await stage.restart()
    assert await keys(stage) == before
    asked = stage.alice.post(stage.general, "Hello", mention=True)
    assert text_of(await stage.answered(stage.general, asked.ts))


@pytest.mark.parametrize("who", ["Slack", "server"])
async def test_what_is_said_while_a_workspace_cannot_be_connected_is_kept(
    stage: OAuthStage, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    stuck = asyncio.Event()
    if who == "Slack":
        # The first one is Bolt's, on the way back from installing.
        calls = itertools.count()
        gate = stage.slack.hold("auth.test", when=lambda _: next(calls) > 0)
    else:
        key = Accounts.api_key

        async def wait(*given: Any) -> str:
            await stuck.wait()
            return await key(*given)

        monkeypatch.setattr(Accounts, "api_key", wait)
    assert "Thank you" in await asyncio.wait_for(stage.install(stage.slack.workspace), 2)
    asked = stage.alice.post(stage.general, "Hello", mention=True)
    await asyncio.wait_for(asked.settled(), 2)
    assert all(delivery.acked for delivery in asked.deliveries)
    gate.open() if who == "Slack" else stuck.set()
    assert text_of(await stage.answered(stage.general, asked.ts))


async def test_requests_with_a_bad_or_old_signature_are_refused(stage: OAuthStage) -> None:
    await stage.install(stage.slack.workspace)
    event = {
        "type": "event_callback",
        "team_id": stage.slack.workspace.id,
        "event": {
            "type": "message",
            "channel": "D1",
            "channel_type": "im",
            "user": "U1",
            "ts": "1.0",
            "text": "forged",
        },
    }
    body = json.dumps(event).encode()
    good = stage.slack.app.signing_secret
    answers = {
        "wrong secret": await stage.slack.http.post(body, secret="wrong"),
        "old": await stage.slack.http.post(body, secret=good, timestamp=int(time.time()) - 600),
    }
    assert {name: answer[0] for name, answer in answers.items()} == {
        "wrong secret": 401,
        "old": 401,
    }
    assert not stage.colloquy.provider.reply_requests
    assert (await stage.slack.http.post(body, secret=good))[0] == 200


async def test_a_denied_or_forged_installation_leaves_nothing(stage: OAuthStage) -> None:
    forged = f"{stage.url}/slack/oauth_redirect?code=x&state=y"
    async with aiohttp.ClientSession() as browser, browser.get(forged) as page:
        assert page.status == 400
    assert list(await stage.bot.workspaces.installed()) == []


async def test_taking_the_app_away_cleans_up(
    stage: OAuthStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("colloquy_slack.serving.housekeeping._CLEANUP_INTERVAL", 0.1)
    workspace = stage.slack.workspace
    await stage.install(workspace)
    asked = stage.alice.post(stage.general, "Hello", mention=True)
    await stage.answered(stage.general, asked.ts)
    key = (await keys(stage))[workspace.id]
    # The server hangs at first, and Slack does not wait for it.
    revoke, revoked = AsyncAdminClient.revoke_api_key, asyncio.Event()
    server = asyncio.Event()

    async def when_it_is_back(client: AsyncAdminClient, key_id: str) -> None:
        await server.wait()
        await revoke(client, key_id)
        revoked.set()

    monkeypatch.setattr(AsyncAdminClient, "revoke_api_key", when_it_is_back)
    sent = stage.slack.uninstall(workspace)
    for delivery in sent:
        await delivery.settled()
    assert [len(delivery.attempts) for delivery in sent] == [1, 1]
    assert list(await stage.bot.workspaces.installed()) == []
    await stage.restart()
    server.set()
    await asyncio.wait_for(revoked.wait(), 5)
    address = f"127.0.0.1:{stage.colloquy.app.port}"
    async with AsyncConversationClient(address, key) as client:
        with pytest.raises(Unauthenticated):
            await client.list_models()


async def test_a_late_word_of_taking_the_app_away_leaves_a_newer_installation(
    stage: OAuthStage,
) -> None:
    workspace = stage.slack.workspace
    await stage.install(workspace)
    sent = stage.slack.uninstall(workspace)
    for delivery in sent:
        await delivery.settled()
    await stage.install(workspace)
    for delivery in sent:
        stage.slack.courier.again(delivery, times=1)
    await asyncio.gather(*(delivery.settled() for delivery in sent))
    assert list(await stage.bot.workspaces.installed()) == [workspace.id]
