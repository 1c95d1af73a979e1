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
from colloquy_slack.app import Bot
from colloquy_slack.database.engine import Database
from colloquy_slack.database.models import RetiredKey
from colloquy_slack.workspaces.accounts import Accounts
from colloquy_slack.workspaces.encryption import Cipher

from tests.fakes.provider import Answer
from tests.fakes.slack import Call
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
        key = workspace.colloquy._endpoint.api_key
        assert isinstance(key, str)
        found[team_id] = key
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
    assert "Thank you" in await asyncio.wait_for(stage.install(stage.slack.workspace), 60)
    asked = stage.alice.post(stage.general, "Hello", mention=True)
    await asyncio.wait_for(asked.settled(), 60)
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


async def test_an_installation_for_an_organization_is_refused_in_words(stage: OAuthStage) -> None:
    page = await stage.install(stage.slack.workspace, org=True)
    assert "workspace by workspace" in page
    assert "Thank you" not in page
    assert list(await stage.bot.workspaces.installed()) == []
    (revoked,) = stage.slack.calls("auth.revoke")
    assert revoked.token in stage.slack.org_tokens
    # Into one of its workspaces it can be installed.
    assert "Thank you" in await stage.install(stage.slack.workspace)


async def test_only_allowed_workspaces_can_install(stage: OAuthStage) -> None:
    ours, theirs = stage.slack.workspace, stage.slack.add_workspace("Globex")
    await stage.stop()
    stage.overrides["slack_allowed_teams"] = f"T0SOMEBODY,{ours.id}"
    await stage.start()
    page = await stage.install(theirs)
    assert "not among those that may use Colloquy" in page
    assert "Thank you" not in page
    assert list(await stage.bot.workspaces.installed()) == []
    assert len(stage.slack.calls("auth.revoke")) == 1
    assert "Thank you" in await stage.install(ours)
    assert list(await stage.bot.workspaces.installed()) == [ours.id]


async def test_a_token_is_refreshed_before_it_expires_once_and_replies_go_on(
    stage: OAuthStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = stage.slack.workspace
    stage.slack.app.rotates_tokens = True
    assert "Thank you" in await stage.install(workspace)
    first = workspace.bot_token
    gate = asyncio.Event()
    stage.colloquy.provider.script(Answer(tokens=60, gate_after=30, gate=gate))
    asked = stage.alice.post(stage.general, "Hello", mention=True)
    await stage.slack.wait_for(lambda: stage.slack.thread(stage.general, asked.ts))
    # Two processes look at the same time, an hour before the end.
    now = time.time() + 11 * 3_600
    other = Bot(stage.settings(), now=lambda: now)
    await other.start()
    assert not refreshes(stage)
    monkeypatch.setattr("slack_sdk.oauth.token_rotation.async_rotator.time", lambda: now)
    bots = (stage.bot, other)
    for bot in bots:
        tokens = bot.workspaces._tokens  # type: ignore[attr-defined]
        monkeypatch.setattr(tokens, "_now", lambda: now)
    await asyncio.gather(*(bot.workspaces.get(workspace.id) for bot in bots for _ in range(3)))
    assert len(refreshes(stage)) == 1
    assert workspace.bot_token != first
    # The old one ends, and what had begun with it goes on with the new one.
    assert first is not None
    workspace.old_tokens[first] = 0.0
    for bot in bots:
        await bot.workspaces.clean_up()
    gate.set()
    assert text_of(await stage.answered(stage.general, asked.ts))
    raw = b"".join(path.read_bytes() for path in stage.colloquy.folder.glob("slack.db*"))
    for secret in (workspace.bot_token, workspace.refresh_token):
        assert secret
        assert secret.encode() not in raw
    await other.stop()


async def test_a_token_that_expired_while_the_bot_was_away_is_refreshed_at_the_start(
    stage: OAuthStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = stage.slack.workspace
    stage.slack.app.rotates_tokens = True
    await stage.install(workspace)
    await stage.stop()
    now = time.time() + 24 * 3_600
    workspace.token_expires_at = 0.0
    monkeypatch.setattr("slack_sdk.oauth.token_rotation.async_rotator.time", lambda: now)
    # Slack is away the first time that it is asked.
    stage.slack.fail("oauth.v2.access", status=503)
    await stage.start(now=lambda: now)
    asked = stage.alice.post(stage.general, "Hello", mention=True)
    assert text_of(await stage.answered(stage.general, asked.ts))


async def test_who_installed_it_is_told_once_of_scopes_that_are_missing(
    stage: OAuthStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = stage.slack.workspace
    await stage.install(workspace)
    await stage.bot.workspaces.get(workspace.id)
    await stage.bot.workspaces.clean_up()
    assert not stage.slack.bot_messages(stage.alice.direct)
    workspace.scopes -= {"files:read", "usergroups:read"}
    asked = stage.alice.post(stage.general, "Hello", mention=True)
    await stage.answered(stage.general, asked.ts)
    for _ in range(2):
        await stage.bot.workspaces.clean_up()
    await stage.restart()
    await stage.bot.workspaces.get(workspace.id)
    await stage.bot.workspaces.clean_up()
    (told,) = stage.slack.bot_messages(stage.alice.direct)
    assert "`files:read`, `usergroups:read`" in told.text


def refreshes(stage: OAuthStage) -> list[Call]:
    calls = stage.slack.calls("oauth.v2.access")
    return [call for call in calls if call.args.get("grant_type") == "refresh_token"]


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
    await asyncio.wait_for(revoked.wait(), 60)
    address = f"127.0.0.1:{stage.colloquy.app.port}"
    async with AsyncConversationClient(address, key) as client:
        with pytest.raises(Unauthenticated):
            await client.list_models()


async def test_a_workspace_that_is_installed_needs_the_provisioning_key_no_more(
    stage: OAuthStage,
) -> None:
    """As those do whose accounts earlier versions made with the platform's key."""
    await stage.install(stage.slack.workspace)
    assert await keys(stage)
    await stage.stop()
    await stage.colloquy.restart(provisioning_api_key=None)
    await stage.start()
    asked = stage.alice.post(stage.general, "Hello", mention=True)
    await stage.answered(stage.general, asked.ts)


async def test_a_key_that_an_earlier_version_left_to_be_revoked_is_named_once(
    stage: OAuthStage, capsys: pytest.CaptureFixture[str]
) -> None:
    left = "01890000-0000-7000-8000-000000000000"
    settings = stage.settings()
    await stage.stop()  # which would do the same meanwhile
    db = Database(settings.slack_database_url)
    await db.run(lambda s: s.add(RetiredKey(api_key_id=left, encrypted_key="")))
    nobody: Any = None
    accounts = Accounts(db, Cipher(stage.key), nobody, nobody)
    for expected in (1, 0):
        await accounts.revoke_retired_keys()
        assert capsys.readouterr().out.count(f"colloquy admin revoke-key {left}") == expected
    await db.close()


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
