"""What a member may not see does not exist for that member, by whatever call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from colloquy.api import admin_service_pb2 as admin_api
from colloquy.api import attachment_service_pb2 as files_api
from colloquy.api import conversation_service_pb2 as api
from colloquy.api import resources_pb2 as resources

from tests.e2e.test_participants import ACCOUNT, PARTICIPANTS, invite, make, person, remove
from tests.fakes.provider import Answer
from tests.fleets import ALONE
from tests.harness import Caller, Colloquy, Stream, eventually
from tests.statuses import Refusal, refused
from tests.uploads import download, upload

NOWHERE = "01890000-0000-7000-8000-000000000000"
SECRET = "Heliotrope"
"""Stands in all that is hidden, and nowhere else."""


async def member(colloquy: Colloquy, service: Caller, name: str) -> Caller:
    """A member of the service's account."""
    return await colloquy.key(service.account_id, admin_api.ApiKey.ROLE_MEMBER, user=person(name))


async def administrator(colloquy: Colloquy, service: Caller, name: str) -> Caller:
    return await colloquy.key(service.account_id, admin_api.ApiKey.ROLE_ADMIN, user=person(name))


@pytest.fixture
async def mia(colloquy: Colloquy, alice: Caller) -> Caller:
    return await member(colloquy, alice, "Mia")


@pytest.fixture
async def noah(colloquy: Colloquy, alice: Caller) -> Caller:
    return await member(colloquy, alice, "Noah")


@dataclass
class Hidden:
    """A conversation of Mia's with a service, as a Slack DM is, that nobody else is to see."""

    conversation: resources.Conversation
    prompt: resources.Message
    reply: resources.Message
    file: resources.Attachment


async def hide(service: Caller) -> Hidden:
    file = await upload(service, SECRET.encode(), f"{SECRET}.txt")
    conversation = await service.create(
        title=SECRET,
        system_prompt=SECRET,
        external_id="slack:T1:D1",
        request_id="make",
        visibility=PARTICIPANTS,
        author=person("Mia"),
    )
    stream = service.send(
        conversation.id,
        SECRET,
        author=person("Mia"),
        request_id="say",
        attachment_ids=[file.id],
    )
    reply = await stream.reply()
    return Hidden(conversation, stream.events[0].accepted.message, reply, file)


async def listed(caller: Caller, **fields: Any) -> list[str]:
    """The titles of the conversations that are listed."""
    found: list[str] = []
    while True:
        request = api.ListConversationsRequest(**fields)
        page = await caller.call("ListConversations", request)
        found += [conversation.title for conversation in page.conversations]
        if not page.next_page_token:
            return found
        fields["page_token"] = page.next_page_token


async def found(caller: Caller, query: str = SECRET, conversation_id: str = "") -> list[str]:
    request = api.SearchMessagesRequest(query=query, conversation_id=conversation_id)
    return [hit.message.content for hit in (await caller.call("SearchMessages", request)).hits]


def attempts(caller: Caller, hidden: Hidden) -> dict[str, Callable[[bool], Awaitable[Refusal]]]:
    """Each call by which the hidden things may be named; on True as they are, else as nothing is
    named."""

    def one_of(name: str, is_real: bool) -> str:
        real = {
            "conversation": hidden.conversation.id,
            "prompt": hidden.prompt.id,
            "reply": hidden.reply.id,
            "file": hidden.file.id,
        }
        return real[name] if is_real else NOWHERE

    def call(method: str, thing: str, field: str, **fields: Any) -> Callable[[bool], Any]:
        request_type = getattr(api, f"{method}Request")
        return lambda is_real: refused(
            caller.call(method, request_type(**{field: one_of(thing, is_real)}, **fields))
        )

    def update(**fields: Any) -> Callable[[bool], Any]:
        def ask(is_real: bool) -> Awaitable[Refusal]:
            changed = resources.Conversation(id=one_of("conversation", is_real), **fields)
            request = api.UpdateConversationRequest(conversation=changed)
            return refused(caller.call("UpdateConversation", request))

        return ask

    def stream(thing: str, open_: Callable[..., Stream], *more: Any, **fields: Any) -> Any:
        return lambda is_real: refused(open_(one_of(thing, is_real), *more, **fields))

    return {
        "get": call("GetConversation", "conversation", "conversation_id"),
        "messages": call("ListMessages", "conversation", "conversation_id"),
        "message": call("GetMessage", "prompt", "message_id"),
        "reply": call("GetMessage", "reply", "message_id"),
        "search": call("SearchMessages", "conversation", "conversation_id", query=SECRET),
        "title": update(title="Mine"),
        "model": update(model="other-model"),
        "prompt": update(system_prompt="Mine"),
        "visibility": update(visibility=ACCOUNT),
        "delete": call("DeleteConversation", "conversation", "conversation_id"),
        "invite": call("AddParticipants", "conversation", "conversation_id", users=[person("X")]),
        "remove": call("RemoveParticipant", "conversation", "conversation_id", user_id=NOWHERE),
        "rate": call("RateReply", "reply", "message_id", rating=resources.RATING_BAD),
        "rate prompt": call("RateReply", "prompt", "message_id", rating=resources.RATING_BAD),
        "cancel": call("CancelReply", "reply", "message_id"),
        "cancel prompt": call("CancelReply", "prompt", "message_id"),
        "cancel by request": call(
            "CancelReply", "conversation", "conversation_id", request_id="say"
        ),
        "watch": stream("conversation", caller.watch),
        "send": stream("conversation", caller.send, "Hello"),
        "send again": stream("conversation", caller.send, SECRET, request_id="say"),
        "regenerate": stream("reply", caller.regenerate),
        "regenerate prompt": stream("prompt", caller.regenerate),
        "file": lambda is_real: refused(
            caller.attachments.GetAttachment(
                files_api.GetAttachmentRequest(attachment_id=one_of("file", is_real)),
                metadata=caller.metadata,
            )
        ),
        "download": lambda is_real: refused(download(caller, one_of("file", is_real))),
    }


async def test_what_is_hidden_is_refused_like_what_is_not_there(
    colloquy: Colloquy, alice: Caller, noah: Caller
) -> None:
    hidden = await hide(alice)
    before = await alice.history(hidden.conversation.id)
    told = await alice.conversation(hidden.conversation.id)
    for name, attempt in attempts(noah, hidden).items():
        real, unreal = await attempt(True), await attempt(False)
        assert real == unreal, name
        assert real.status == "NOT_FOUND", name
    open_ = await noah.create(title="Mine")
    for file in (hidden.file.id, NOWHERE):
        refusal = await refused(noah.send(open_.id, "Look", attachment_ids=[file]))
        assert (refusal.status, refusal.reason) == ("NOT_FOUND", "ATTACHMENT_NOT_FOUND")
    assert await alice.history(hidden.conversation.id) == before
    assert await alice.conversation(hidden.conversation.id) == told


async def test_what_is_hidden_is_in_no_list_and_no_search(
    alice: Caller, mia: Caller, noah: Caller
) -> None:
    await hide(alice)
    await eventually(lambda: found(alice), [SECRET])
    await alice.create(title="Open")
    assert await found(mia) == [SECRET]
    assert await listed(mia) == ["Open", SECRET]
    assert await found(noah) == []
    for fields in ({}, {"page_size": 1}, {"participant_external_id": "mia"}):
        assert SECRET not in await listed(noah, **fields)
    assert await listed(noah) == ["Open"]


@ALONE
async def test_names_of_what_is_hidden_make_something_new(
    alice: Caller, mia: Caller, noah: Caller
) -> None:
    """By external_id and request_id a member learns of nothing, and may use the same."""
    hidden = (await hide(alice)).conversation
    own = await noah.create(external_id="slack:T1:D1", title="Noah's")
    assert own.id != hidden.id
    assert (own.title, own.external_id) == ("Noah's", "slack:T1:D1")
    assert await noah.create(external_id="slack:T1:D1") == own
    again = await noah.create(request_id="make", title="Noah's")
    assert again.id not in (hidden.id, own.id)
    assert await noah.create(request_id="make", title="Noah's") == again
    assert (await mia.create(external_id="slack:T1:D1")).id == hidden.id
    assert (await alice.create(external_id="slack:T1:D1")).id == hidden.id
    refusal = await refused(noah.create(request_id="make", title="Another"))
    assert refusal.reason == "REQUEST_ID_REUSED"


@ALONE
async def test_an_upload_does_not_tell_that_somebody_has_the_same_file(
    mia: Caller, noah: Caller
) -> None:
    hers = await upload(mia, SECRET.encode(), "plan.txt")
    his = await upload(noah, SECRET.encode(), "plan.txt")
    assert hers.id != his.id
    assert (await upload(mia, SECRET.encode(), "plan.txt")).id == hers.id
    assert await download(noah, his.id) == (his, SECRET.encode())
    assert (await refused(download(noah, hers.id))).reason == "ATTACHMENT_NOT_FOUND"


@ALONE
async def test_a_file_is_seen_by_who_sees_a_message_with_it(mia: Caller, noah: Caller) -> None:
    file = await upload(mia, SECRET.encode(), "plan.txt")
    closed = await mia.create(visibility=PARTICIPANTS)
    await mia.send(closed.id, "Look", attachment_ids=[file.id]).rest()
    assert (await refused(download(noah, file.id))).reason == "ATTACHMENT_NOT_FOUND"
    await invite(mia, closed.id, person("Noah"))
    assert await download(noah, file.id) == (file, SECRET.encode())
    prompt, _ = await noah.history(closed.id)
    assert list(prompt.attachments) == [file]
    await noah.send(closed.id, "I see", attachment_ids=[file.id]).rest()


@ALONE
async def test_with_a_members_conversation_the_files_of_others_in_it_go(
    alice: Caller, mia: Caller, noah: Caller
) -> None:
    closed = await mia.create(visibility=PARTICIPANTS)
    await invite(mia, closed.id, person("Noah"))
    file = await upload(noah, SECRET.encode(), "plan.txt")
    await noah.send(closed.id, "Look", attachment_ids=[file.id]).rest()
    delete = api.DeleteConversationRequest(conversation_id=closed.id)
    await mia.call("DeleteConversation", delete)
    assert (await refused(download(alice, file.id))).reason == "ATTACHMENT_NOT_FOUND"


async def test_who_is_invited_sees_and_does_all_that_a_member_may(
    alice: Caller, mia: Caller, noah: Caller
) -> None:
    hidden = await hide(alice)
    await eventually(lambda: found(alice), [SECRET])
    invited = await invite(mia, hidden.conversation.id, person("Noah"))
    by_id = {"conversation_id": hidden.conversation.id}
    as_noah = await noah.conversation(hidden.conversation.id)
    as_noah.unread_count = invited.unread_count  # which is each one's own
    assert as_noah == invited
    assert await found(noah) == [SECRET]
    assert await found(noah, conversation_id=hidden.conversation.id) == [SECRET]
    assert await listed(noah) == [SECRET]
    assert (await download(noah, hidden.file.id))[1] == SECRET.encode()
    rating = api.RateReplyRequest(message_id=hidden.reply.id, rating=resources.RATING_GOOD)
    await noah.call("RateReply", rating)
    await noah.regenerate(hidden.reply.id).rest()
    await noah.send(hidden.conversation.id, "Hello").rest()
    assert len(await noah.history(hidden.conversation.id)) == 5
    title = resources.Conversation(id=hidden.conversation.id, title="Ours", model="other-model")
    await noah.call("UpdateConversation", api.UpdateConversationRequest(conversation=title))
    prompt = resources.Conversation(id=hidden.conversation.id, system_prompt="Mine")
    mia_user = hidden.prompt.author
    for call in (
        noah.call("UpdateConversation", api.UpdateConversationRequest(conversation=prompt)),
        make(noah, hidden.conversation.id, ACCOUNT),
        remove(noah, hidden.conversation.id, mia_user.id),
        noah.call("DeleteConversation", api.DeleteConversationRequest(**by_id)),
    ):
        refusal = await refused(call)
        assert (refusal.status, refusal.reason) == ("PERMISSION_DENIED", "PERMISSION_DENIED")
    assert (await alice.conversation(hidden.conversation.id)).creator == mia_user


@ALONE
async def test_of_the_accounts_conversations_a_member_controls_what_it_made(
    alice: Caller, mia: Caller, noah: Caller
) -> None:
    for maker in (mia, alice):
        made = await maker.create()
        assert (await make(maker, made.id, PARTICIPANTS)).visibility == PARTICIPANTS
        await make(maker, made.id, ACCOUNT)
        await noah.send(made.id).rest()
        delete = api.DeleteConversationRequest(conversation_id=made.id)
        assert (await refused(noah.call("DeleteConversation", delete))).status == (
            "PERMISSION_DENIED"
        )
        await maker.call("DeleteConversation", delete)


@ALONE
async def test_an_admin_sees_and_may_all_and_speaks_as_itself(
    colloquy: Colloquy, alice: Caller, mia: Caller
) -> None:
    ada = await administrator(colloquy, alice, "Ada")
    hidden = await hide(alice)
    assert await listed(ada) == [SECRET]
    await ada.send(hidden.conversation.id, "It is me").rest()
    assert (await ada.history(hidden.conversation.id))[2].author.external_id == "ada"
    refusal = await refused(ada.send(hidden.conversation.id, author=person("Mia")))
    assert refusal.status == "PERMISSION_DENIED"
    assert (await ada.create(title="Ada's")).creator.external_id == "ada"
    await make(ada, hidden.conversation.id, ACCOUNT)
    await remove(ada, hidden.conversation.id, hidden.prompt.author.id)
    delete = api.DeleteConversationRequest(conversation_id=hidden.conversation.id)
    await ada.call("DeleteConversation", delete)


@ALONE
async def test_whoever_leaves_sees_it_no_more(mia: Caller, noah: Caller) -> None:
    closed = await mia.create(visibility=PARTICIPANTS, request_id="once", external_id="plans")
    guest = (await invite(mia, closed.id, person("Noah"))).participants[0]
    assert not (await remove(noah, closed.id, guest.id)).HasField("conversation")
    assert (await refused(noah.conversation(closed.id))).reason == "CONVERSATION_NOT_FOUND"
    assert (await mia.conversation(closed.id)).creator == closed.creator
    await invite(mia, closed.id, person("Noah"))
    assert not (await remove(mia, closed.id, closed.creator.id)).HasField("conversation")
    assert (await refused(mia.conversation(closed.id))).reason == "CONVERSATION_NOT_FOUND"
    assert not (await noah.conversation(closed.id)).HasField("creator")
    again = await mia.create(visibility=PARTICIPANTS, request_id="once", external_id="plans")
    assert again.id != closed.id
    assert again.creator == closed.creator


@ALONE
async def test_whoever_leaves_what_the_account_sees_is_only_no_participant(mia: Caller) -> None:
    open_ = await mia.create(title="Open")
    await mia.send(open_.id).rest()
    left = (await remove(mia, open_.id, open_.creator.id)).conversation
    assert not left.participants
    assert await mia.conversation(open_.id) == left


@ALONE
async def test_a_member_invites_whom_nobody_knows_and_renames_nobody(
    alice: Caller, mia: Caller
) -> None:
    closed = await mia.create(visibility=PARTICIPANTS)
    await alice.create(author=person("Ann"))
    fake = resources.User(external_id="ann", display_name="Fake", avatar_url="https://fake")
    invited = await invite(mia, closed.id, fake, person("Zoe"))
    assert [user.display_name for user in invited.participants] == ["Ann", "Zoe"]
    by_id = resources.User(id=invited.participants[0].id, display_name="Fake")
    assert await invite(mia, closed.id, by_id) == invited


# --- live streams ---------------------------------------------------------------------------------


async def test_the_streams_of_who_is_removed_end_before_anything_more_is_told(
    colloquy: Colloquy, alice: Caller, mia: Caller, noah: Caller
) -> None:
    gate = asyncio.Event()
    closed = await mia.create(visibility=PARTICIPANTS, title="Closed")
    guest = (await invite(mia, closed.id, person("Noah"))).participants[0]
    colloquy.provider.script(Answer(tokens=6, gate_after=3, gate=gate))
    sent = noah.send(closed.id, "Hello")
    await sent.until("delta")
    watch, hers = noah.watch(closed.id), mia.watch(closed.id)
    await watch.until("message")
    await hers.until("message")
    await remove(mia, closed.id, guest.id)
    seen = len(watch.events), len(sent.events)
    for stream in (watch, sent):
        refusal = await refused(stream)
        assert (refusal.status, refusal.reason) == ("NOT_FOUND", "CONVERSATION_NOT_FOUND")
    for stream, before in zip((watch, sent), seen, strict=True):
        assert {event.WhichOneof("event") for event in stream.events[before:]} <= {"delta"}
    gate.set()
    reply = await hers.final(sent.events[0].accepted.reply.id)
    assert len(reply.content.split()) == 6
    refusal = await refused(noah.watch(closed.id, watch.events[-1].resume_token))
    assert refusal.reason == "CONVERSATION_NOT_FOUND"


async def test_the_streams_of_others_end_when_it_is_closed(
    mia: Caller, noah: Caller, alice: Caller
) -> None:
    open_ = await mia.create()
    his, hers, services = noah.watch(open_.id), mia.watch(open_.id), alice.watch(open_.id)
    for stream in (his, hers, services):
        await stream.until("conversation")
    closed = await make(mia, open_.id, PARTICIPANTS)
    assert (await refused(his)).reason == "CONVERSATION_NOT_FOUND"
    for stream in (hers, services):
        assert (await stream.until("conversation")).conversation == closed


async def test_a_change_that_leaves_one_in_ends_no_stream(mia: Caller, noah: Caller) -> None:
    closed = await mia.create(visibility=PARTICIPANTS)
    await invite(mia, closed.id, person("Noah"))
    watch = noah.watch(closed.id)
    await watch.until("conversation")
    invited = await invite(mia, closed.id, person("Zoe"))
    assert (await watch.until("conversation")).conversation == invited
    await mia.send(closed.id, "Hello all").rest()
    await watch.until("message")


async def test_with_the_bus_down_the_streams_of_who_is_removed_end_elsewhere_too(
    tmp_path: Path, postgres_url: str
) -> None:
    async with Colloquy(tmp_path, postgres_url, replicas=2, event_bus_url="memory://") as fleet:
        service = await fleet.account()
        mia, noah = await member(fleet, service, "Mia"), await member(fleet, service, "Noah")
        closed = await mia.create(visibility=PARTICIPANTS)
        guest = (await invite(mia, closed.id, person("Noah"))).participants[0]
        gate = asyncio.Event()
        fleet.provider.script(Answer(tokens=6, gate_after=3, gate=gate))
        hers = mia.send(closed.id)
        await hers.until("delta")
        watch = noah.watch(closed.id)
        await watch.until("message")
        await remove(mia.on(fleet.channel), closed.id, guest.id)
        assert (await refused(watch)).reason == "CONVERSATION_NOT_FOUND"
        await invite(mia, closed.id, person("Noah"))
        sent = noah.send(closed.id)
        await sent.accepted()
        await remove(mia, closed.id, guest.id)
        assert (await refused(sent)).reason == "CONVERSATION_NOT_FOUND"
        gate.set()
        await hers.reply()
