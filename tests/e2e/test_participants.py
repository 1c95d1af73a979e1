"""Who takes part in a conversation, who made it, and who sees it: what services do with that."""

from __future__ import annotations

import grpc
from colloquy.api import admin_service_pb2 as admin_api
from colloquy.api import conversation_service_pb2 as api
from colloquy.api import resources_pb2 as resources

from tests.fleets import ALONE
from tests.harness import Caller, Colloquy
from tests.statuses import refused

ACCOUNT = resources.Conversation.VISIBILITY_ACCOUNT
PARTICIPANTS = resources.Conversation.VISIBILITY_PARTICIPANTS


def person(name: str) -> resources.User:
    """Somebody whom the other system calls by a name."""
    return resources.User(external_id=name.lower(), display_name=name)


async def invite(
    caller: Caller, conversation_id: str, *people: resources.User
) -> resources.Conversation:
    request = api.AddParticipantsRequest(conversation_id=conversation_id, users=people)
    return (await caller.call("AddParticipants", request)).conversation  # type: ignore[no-any-return]


async def remove(
    caller: Caller, conversation_id: str, user_id: str
) -> api.RemoveParticipantResponse:
    request = api.RemoveParticipantRequest(conversation_id=conversation_id, user_id=user_id)
    return await caller.call("RemoveParticipant", request)  # type: ignore[no-any-return]


async def make(
    caller: Caller, conversation_id: str, visibility: resources.Conversation.Visibility.ValueType
) -> resources.Conversation:
    request = api.UpdateConversationRequest(
        conversation=resources.Conversation(id=conversation_id, visibility=visibility)
    )
    return (await caller.call("UpdateConversation", request)).conversation  # type: ignore[no-any-return]


def names(conversation: resources.Conversation) -> list[str]:
    """Who takes part, in the order in which they came."""
    return [user.display_name for user in conversation.participants]


@ALONE
async def test_a_conversation_is_the_accounts_unless_said_otherwise(
    colloquy: Colloquy, alice: Caller
) -> None:
    made = await alice.create()
    assert made.visibility == ACCOUNT
    assert made.creator.display_name == "alice"
    assert not made.participants
    hers = await alice.create(visibility=PARTICIPANTS, author=person("Ann"))
    assert hers.visibility == PARTICIPANTS
    assert hers.creator.external_id == "ann"
    for conversation in (made, hers):
        assert await alice.conversation(conversation.id) == conversation
    listed = await alice.call("ListConversations", api.ListConversationsRequest())
    assert list(listed.conversations) == [hers, made]


@ALONE
async def test_an_account_may_have_another_visibility_for_new_conversations(
    colloquy: Colloquy, alice: Caller
) -> None:
    admin = colloquy.admin

    async def update(
        visibility: resources.Conversation.Visibility.ValueType,
    ) -> admin_api.Account:
        request = admin_api.UpdateAccountRequest(
            account_id=alice.account_id, default_visibility=visibility
        )
        return (await admin.admin.UpdateAccount(request, metadata=admin.metadata)).account

    assert (await update(PARTICIPANTS)).default_visibility == PARTICIPANTS
    assert (await alice.create()).visibility == PARTICIPANTS
    assert (await alice.create(visibility=ACCOUNT)).visibility == ACCOUNT
    unchanged = await update(resources.Conversation.VISIBILITY_UNSPECIFIED)
    assert unchanged.default_visibility == PARTICIPANTS
    made = await admin.admin.CreateAccount(
        admin_api.CreateAccountRequest(name="bob", default_visibility=PARTICIPANTS),
        metadata=admin.metadata,
    )
    assert made.account.default_visibility == PARTICIPANTS


@ALONE
async def test_who_is_invited_joins_behind_those_who_are_there(alice: Caller) -> None:
    conversation = await alice.create(title="Plans")
    await alice.send(conversation.id, author=person("Ann")).rest()
    invited = await invite(alice, conversation.id, person("Ben"), person("Cat"), person("Ben"))
    assert names(invited) == ["Ann", "Ben", "Cat"]
    assert invited.update_time.ToNanoseconds() > conversation.update_time.ToNanoseconds()
    await alice.send(conversation.id, author=person("Dan")).rest()
    await alice.send(conversation.id, author=person("Cat")).rest()
    again = await invite(alice, conversation.id, person("Cat"), person("Eve"))
    assert names(again) == ["Ann", "Ben", "Cat", "Dan", "Eve"]
    assert await alice.conversation(conversation.id) == again


@ALONE
async def test_who_is_removed_is_no_participant_until_they_come_back(alice: Caller) -> None:
    conversation = await alice.create(title="Plans")
    ann, ben = (await invite(alice, conversation.id, person("Ann"), person("Ben"))).participants
    await alice.send(conversation.id, author=ann).rest()
    without = (await remove(alice, conversation.id, ann.id)).conversation
    assert names(without) == ["Ben"]
    assert (await remove(alice, conversation.id, ann.id)).conversation == without
    request = api.ListConversationsRequest(participant_external_id="ann")
    assert not (await alice.call("ListConversations", request)).conversations
    assert names(await invite(alice, conversation.id, ann)) == ["Ann", "Ben"]
    await remove(alice, conversation.id, ann.id)
    await alice.send(conversation.id, author=ann).rest()
    assert names(await alice.conversation(conversation.id)) == ["Ann", "Ben"]
    assert (await alice.call("ListConversations", request)).conversations
    assert (await remove(alice, conversation.id, ben.id)).conversation.participants == [ann]


@ALONE
async def test_a_creator_who_is_removed_did_not_make_it(alice: Caller) -> None:
    conversation = await alice.create(author=person("Ann"), visibility=PARTICIPANTS)
    removed = (await remove(alice, conversation.id, conversation.creator.id)).conversation
    assert not removed.HasField("creator")
    assert not (await alice.conversation(conversation.id)).HasField("creator")


@ALONE
async def test_a_change_of_who_sees_it_is_told_to_watchers(alice: Caller) -> None:
    conversation = await alice.create(title="Plans")
    watch = alice.watch(conversation.id)
    await watch.until("conversation")
    changed = await make(alice, conversation.id, PARTICIPANTS)
    assert changed.visibility == PARTICIPANTS
    assert (await watch.until("conversation")).conversation == changed
    invited = await invite(alice, conversation.id, person("Ann"))
    assert (await watch.until("conversation")).conversation == invited
    left = (await remove(alice, conversation.id, invited.participants[0].id)).conversation
    assert (await watch.until("conversation")).conversation == left
    watch.cancel()


@ALONE
async def test_people_are_named_by_services(alice: Caller) -> None:
    conversation = await alice.create()
    await invite(alice, conversation.id, person("Ann"))
    renamed = resources.User(external_id="ann", display_name="Anna")
    assert names(await invite(alice, conversation.id, renamed)) == ["Anna"]


@ALONE
async def test_who_cannot_be_told_is_refused_and_nobody_is_invited(alice: Caller) -> None:
    conversation = await alice.create()
    unknown = resources.User(id="01890000-0000-7000-8000-000000000000")
    ann = (await alice.create(author=person("Ann"))).creator
    other = resources.User(id=ann.id, external_id="other")
    for user, field in ((resources.User(), "users"), (unknown, "users.id"), (other, "users.id")):
        refusal = await refused(invite(alice, conversation.id, person("Ben"), user))
        assert list(refusal.fields) == [field]
    assert not (await alice.conversation(conversation.id)).participants


@ALONE
async def test_a_thousand_people_are_invited_at_once(alice: Caller) -> None:
    conversation = await alice.create()
    crowd = [person(f"Guest {number}") for number in range(1_000)]
    invited = await invite(alice, conversation.id, *crowd)
    assert names(invited) == [user.display_name for user in crowd]


@ALONE
async def test_it_must_be_said_who_sees_it(alice: Caller) -> None:
    conversation = await alice.create()
    request = api.UpdateConversationRequest(conversation=conversation)
    request.conversation.visibility = resources.Conversation.VISIBILITY_UNSPECIFIED
    request.update_mask.paths.append("visibility")
    refusal = await refused(alice.call("UpdateConversation", request))
    assert refusal.status == grpc.StatusCode.INVALID_ARGUMENT.name
    assert list(refusal.fields) == ["conversation.visibility"]


@ALONE
async def test_models_know_who_was_removed_by_the_same_name(
    colloquy: Colloquy, alice: Caller
) -> None:
    conversation = await alice.create(title="Two of a name")
    first, second = (resources.User(external_id=each, display_name="Ann") for each in "ab")
    for author in (first, second):
        await alice.send(conversation.id, author=author).rest()
    ann = (await alice.conversation(conversation.id)).participants[0]
    await remove(alice, conversation.id, ann.id)
    await alice.send(conversation.id, author=second).rest()
    told = colloquy.provider.reply_requests[-1].body["messages"]
    assert [each["name"] for each in told if each["role"] == "user"] == ["Ann", "Ann_2", "Ann_2"]
