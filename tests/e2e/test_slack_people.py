"""Who somebody in Slack is at the server: whoever has their e-mail address, where Slack vouches for
it; and the way from Slack to the same conversation on the web."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from colloquy.api import admin_service_pb2 as admin_api
from colloquy.api import conversation_service_pb2 as api
from colloquy.api import resources_pb2 as resources
from structlog.testing import capture_logs

from tests.e2e.test_slack_audience import ask, found, name_of, participants, sees
from tests.fakes.slack import Person
from tests.harness import Caller, Colloquy
from tests.slack_harness import SlackStage, words_of

PAGE = "https://chat.example.com"


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[SlackStage]:
    async with Colloquy(tmp_path) as colloquy, SlackStage(colloquy) as running:
        yield running


async def known_from_elsewhere(stage: SlackStage, person: Person) -> str:
    """Has somebody with a person's address talk elsewhere first; returns their name there."""
    name = f"page:{person.user.name}"
    author = resources.User(external_id=name, email=person.user.email)
    conversation = await stage.caller.create()
    await stage.caller.send(conversation.id, author=author).reply()
    return name


async def author_of(stage: SlackStage, person: Person) -> str:
    """Asks in a channel; returns who the server takes that person for."""
    asked = person.post(stage.general, "Hello", mention=True)
    await stage.answered(stage.general, asked.ts)
    return (await stage.stored(stage.thread(asked.ts)))[0].author.external_id


async def test_who_is_known_by_their_address_is_the_same_in_slack(stage: SlackStage) -> None:
    name = await known_from_elsewhere(stage, stage.alice)
    assert await author_of(stage, stage.alice) == name
    assert await author_of(stage, stage.bob) == name_of(stage.bob)


@pytest.mark.parametrize(
    "kind", ["unconfirmed", "no address", "a stranger", "of another team", "a bot"]
)
async def test_an_address_that_slack_does_not_vouch_for_makes_nobody_somebody_else(
    stage: SlackStage, kind: str
) -> None:
    eve = stage.slack.person("Eve Adams", stranger=kind == "a stranger")
    await known_from_elsewhere(stage, eve)
    if kind == "unconfirmed":
        eve.user.is_confirmed = False
    elif kind == "no address":  # which the server would refuse, and the message with it
        eve.user.email = "eve at example.com"
    elif kind == "of another team":
        eve.user.team_id = "T0ANOTHER"
    elif kind == "a bot":
        eve.user.is_bot = True
    assert (await author_of(stage, eve)) == name_of(eve)


async def test_a_guest_is_known_by_their_address(stage: SlackStage) -> None:
    guest = stage.slack.person("Gina Guest", guest=True)
    name = await known_from_elsewhere(stage, guest)
    assert await author_of(stage, guest) == name


async def test_without_the_scope_people_are_known_by_slack_alone(tmp_path: Path) -> None:
    async with Colloquy(tmp_path) as colloquy:
        stage = SlackStage(colloquy)
        stage.is_started_at_once = False
        async with stage:
            stage.slack.workspace.scopes.discard("users:read.email")
            with capture_logs() as logs:
                await stage.start()
                await known_from_elsewhere(stage, stage.alice)
                assert await author_of(stage, stage.alice) == name_of(stage.alice)
                assert await author_of(stage, stage.bob) == name_of(stage.bob)
            (told,) = [entry for entry in logs if entry["event"] == "scopes missing"]
            assert told["scopes"] == ["users:read.email"]


async def signed_in(stage: SlackStage, name: str) -> Caller:
    return await stage.colloquy.key(
        stage.caller.account_id, admin_api.ApiKey.ROLE_MEMBER, user=resources.User(external_id=name)
    )


async def invite(stage: SlackStage, conversation_id: str, name: str) -> None:
    users = [resources.User(external_id=name)]
    request = api.AddParticipantsRequest(conversation_id=conversation_id, users=users)
    await stage.caller.call("AddParticipants", request)


async def test_who_has_another_name_stays_in_a_private_channel_and_others_do_not(
    stage: SlackStage,
) -> None:
    private = stage.slack.channel("board", kind="group")
    alice, bob = [await known_from_elsewhere(stage, one) for one in (stage.alice, stage.bob)]
    asked = stage.alice.post(private, "Hello", mention=True)
    await stage.answered(private, asked.ts)
    external_id = stage.thread(asked.ts, private)
    conversation = await found(stage, external_id)
    assert await participants(stage, external_id) == {alice, bob}
    watch = (await signed_in(stage, bob)).watch(conversation.id)
    await watch.until("conversation")

    # Nobody is put out and let in again in between.
    stage.bob.post(private, "And then?", thread=asked)
    await stage.answered(private, asked.ts, count=2)
    await watch.until(lambda event: event.message.content == "And then?")
    watch.cancel()
    shown = [event.conversation for event in watch.events if event.HasField("conversation")]
    assert all(bob in {user.external_id for user in one.participants} for one in shown)

    await invite(stage, conversation.id, "page:an outsider")
    stage.bob.post(private, "And now?", thread=asked)
    await stage.answered(private, asked.ts, count=3)
    assert await participants(stage, external_id) == {alice, bob}
    stage.slack.leave(private, stage.bob)
    stage.alice.post(private, "Without Bob", thread=asked)
    await stage.answered(private, asked.ts, count=4)
    assert await participants(stage, external_id) == {alice}
    assert not await sees(await signed_in(stage, bob), conversation.id)


async def test_an_answer_links_to_its_conversation_on_the_web(tmp_path: Path) -> None:
    async with (
        Colloquy(tmp_path) as colloquy,
        SlackStage(colloquy, web_url=f"{PAGE}/") as stage,
    ):
        external_id = await ask(stage, stage.general, stage.alice)
        conversation = await found(stage, external_id)
        link = f"<{PAGE}/c/{conversation.id}|"
        (answer,) = stage.reply_messages(stage.general)
        assert str(answer.blocks).count(link) == 1
        elsewhere = await stage.caller.create(title="Made elsewhere")
        await stage.caller.send(
            elsewhere.id, author=resources.User(external_id=name_of(stage.alice))
        ).reply()
        stage.alice.open_home()
        view = str(await stage.slack.wait_for(lambda: stage.alice.home))
        assert link in view
        assert f"<{PAGE}/c/{elsewhere.id}|Made elsewhere>" in view
        stage.alice.command("/colloquy", "help")
        (told,) = await stage.slack.wait_for(lambda: stage.alice.sees(stage.alice.direct))
        assert f"<{PAGE}/|" in words_of(told)


async def test_without_an_address_of_the_page_nothing_links_there(stage: SlackStage) -> None:
    await ask(stage, stage.general, stage.alice)
    (answer,) = stage.reply_messages(stage.general)
    assert "Open on the web" not in str(answer.blocks)
