"""Who sees at the server what was said in Slack: whoever sees it there, and nobody else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from colloquy.api import admin_service_pb2 as admin_api
from colloquy.api import conversation_service_pb2 as api
from colloquy.api import resources_pb2 as resources
from sqlalchemy import create_engine

from tests.fakes.slack import Channel, Person
from tests.harness import Caller, Colloquy, eventually
from tests.slack_harness import SlackStage
from tests.statuses import status_of

EVERYBODY = resources.Conversation.VISIBILITY_ACCOUNT
PARTICIPANTS = resources.Conversation.VISIBILITY_PARTICIPANTS


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[SlackStage]:
    async with Colloquy(tmp_path) as colloquy, SlackStage(colloquy) as running:
        yield running


def name_of(person: Person) -> str:
    return f"slack:{person.workspace.id}:{person.user.id}"


async def member(stage: SlackStage, person: Person) -> Caller:
    """The key of somebody who also uses Slack."""
    user = resources.User(external_id=name_of(person))
    return await stage.colloquy.key(
        stage.caller.account_id, admin_api.ApiKey.ROLE_MEMBER, user=user
    )


async def found(stage: SlackStage, external_id: str) -> resources.Conversation:
    """A conversation as the bot sees it."""
    return await stage.caller.create(external_id=external_id)


async def listed(caller: Caller) -> list[str]:
    answer = await caller.call("ListConversations", api.ListConversationsRequest())
    return [conversation.external_id for conversation in answer.conversations]


async def participants(stage: SlackStage, external_id: str) -> set[str]:
    return {user.external_id for user in (await found(stage, external_id)).participants}


async def sees(caller: Caller, conversation_id: str) -> bool:
    """Whether somebody gets a conversation that is there."""
    request = api.GetConversationRequest(conversation_id=conversation_id)
    status = await status_of(caller.call("GetConversation", request))
    assert status in ("OK", "NOT_FOUND CONVERSATION_NOT_FOUND")
    return status == "OK"


async def ask(stage: SlackStage, channel: Channel, person: Person, text: str = "Hello") -> str:
    """Asks in a channel; returns the external_id of the thread's conversation."""
    asked = person.post(channel, text, mention=True)
    await stage.answered(channel, asked.ts)
    return stage.thread(asked.ts, channel)


async def test_a_direct_message_is_seen_by_its_person_alone(stage: SlackStage) -> None:
    asked = stage.alice.dm("The secret is marzipan")
    await stage.answered(stage.alice.direct)
    external_id = stage.thread(asked.ts, stage.alice.direct)
    conversation = await found(stage, external_id)
    assert conversation.visibility == PARTICIPANTS
    alice, bob = await member(stage, stage.alice), await member(stage, stage.bob)
    assert await listed(alice) == [external_id]
    assert await listed(bob) == []
    assert await sees(alice, conversation.id)
    assert not await sees(bob, conversation.id)
    search = api.SearchMessagesRequest(query="marzipan")
    await eventually(lambda: _count(alice, search), 1)
    assert await _count(bob, search) == 0


async def _count(caller: Caller, search: api.SearchMessagesRequest) -> int:
    return len((await caller.call("SearchMessages", search)).hits)


async def test_a_public_channels_threads_are_seen_by_the_account(stage: SlackStage) -> None:
    external_id = await ask(stage, stage.general, stage.alice)
    assert (await found(stage, external_id)).visibility == EVERYBODY
    assert await listed(await member(stage, stage.bob)) == [external_id]


@pytest.mark.parametrize("kind", ["group", "mpim"])
async def test_a_private_channels_threads_are_seen_by_its_members(
    stage: SlackStage, kind: str
) -> None:
    stage.slack.limits.members_at_once = 2
    carol, eve = stage.slack.person("Carol"), stage.slack.person("Eve")
    private = stage.slack.channel("board", kind=kind)  # type: ignore[arg-type]
    private.members -= {eve.user.id}
    external_id = await ask(stage, private, stage.alice)
    conversation = await found(stage, external_id)
    assert conversation.visibility == PARTICIPANTS
    inside = {name_of(person) for person in (stage.alice, stage.bob, carol)}
    assert {user.external_id for user in conversation.participants} == inside
    assert await sees(await member(stage, carol), conversation.id)
    assert not await sees(await member(stage, eve), conversation.id)


async def test_who_joins_a_private_channel_sees_it_and_who_leaves_does_not(
    stage: SlackStage,
) -> None:
    eve = stage.slack.person("Eve")
    private = stage.slack.channel("board", kind="group")
    private.members -= {eve.user.id}
    threads = [await ask(stage, private, stage.alice, f"Number {n}") for n in range(3)]
    stage.slack.join(private, eve)
    stage.slack.leave(private, stage.bob)
    inside = {name_of(stage.alice), name_of(eve)}
    for external_id in threads:
        await eventually(lambda of=external_id: participants(stage, of), inside)  # type: ignore[misc]
    ids = [(await found(stage, external_id)).id for external_id in threads]
    bob, newcomer = await member(stage, stage.bob), await member(stage, eve)
    assert [await sees(bob, one) for one in ids] == [False] * 3
    assert [await sees(newcomer, one) for one in ids] == [True] * 3


async def test_a_channel_that_becomes_private_takes_its_threads_along(stage: SlackStage) -> None:
    eve = stage.slack.person("Eve")
    stage.general.members -= {eve.user.id}
    external_id = await ask(stage, stage.general, stage.alice)
    conversation = await found(stage, external_id)
    outside = await member(stage, eve)
    assert await sees(outside, conversation.id)
    stage.slack.convert(stage.general, "group")
    await eventually(lambda: sees(outside, conversation.id), False)
    assert await sees(await member(stage, stage.bob), conversation.id)
    stage.slack.convert(stage.general, "channel")
    await eventually(lambda: sees(outside, conversation.id), True)


async def test_a_conversation_that_somebody_made_before_is_the_channels_from_then_on(
    stage: SlackStage,
) -> None:
    """External ids can be guessed: who makes the conversation first does not get what is said."""
    eve = stage.slack.person("Eve")
    private = stage.slack.channel("board", kind="group")
    private.members -= {eve.user.id}
    asked = stage.alice.post(private, "Not for the bot yet")
    external_id = stage.thread(asked.ts, private)
    outside = await member(stage, eve)
    taken = await outside.create(external_id=external_id)
    question = stage.alice.post(private, "Now answer", thread=asked, mention=True)
    await stage.answered(private, question.message.thread)
    conversation = await found(stage, external_id)
    assert conversation.id == taken.id
    assert conversation.visibility == PARTICIPANTS
    assert not await sees(outside, taken.id)


async def test_what_was_said_in_private_before_the_upgrade_is_closed(stage: SlackStage) -> None:
    eve = stage.slack.person("Eve")
    private = stage.slack.channel("board", kind="group")
    private.members -= {eve.user.id}
    closed = await ask(stage, private, stage.alice)
    open_thread = await ask(stage, stage.general, stage.alice)
    conversation = await found(stage, closed)
    await stage.stop()
    _as_before_the_upgrade(stage)
    for user in conversation.participants:
        if user.external_id != name_of(stage.alice):
            await stage.caller.call(
                "RemoveParticipant",
                api.RemoveParticipantRequest(conversation_id=conversation.id, user_id=user.id),
            )
    await stage.caller.call(
        "UpdateConversation",
        api.UpdateConversationRequest(
            conversation=resources.Conversation(id=conversation.id, visibility=EVERYBODY)
        ),
    )
    outside = await member(stage, eve)
    assert await sees(outside, conversation.id)
    await stage.start()
    await eventually(lambda: sees(outside, conversation.id), False)
    inside = {name_of(stage.alice), name_of(stage.bob)}
    await eventually(lambda: participants(stage, closed), inside)
    assert (await found(stage, open_thread)).visibility == EVERYBODY


def _as_before_the_upgrade(stage: SlackStage) -> None:
    """Takes the bot's database back to the schema before private channels were followed."""
    config = Config()
    config.set_main_option("script_location", "colloquy_slack:migrations")
    engine = create_engine(stage.settings().slack_database_url)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0005")
    engine.dispose()


async def test_without_the_scope_only_who_writes_takes_part(stage: SlackStage) -> None:
    private = stage.slack.channel("board", kind="group")
    stage.slack.workspace.scopes -= {"groups:read", "channels:read", "im:read", "mpim:read"}
    external_id = await ask(stage, private, stage.alice)
    conversation = await found(stage, external_id)
    assert conversation.visibility == PARTICIPANTS
    assert {user.external_id for user in conversation.participants} == {name_of(stage.alice)}
