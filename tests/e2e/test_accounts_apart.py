"""Nobody sees, changes or learns of anything of another account, by whatever call.

The calls are read from the descriptors of all services, so that a new one cannot be forgotten: a
new field that holds an id fails here until it is said what to fill it with.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import colloquy.api as package
import grpc
import pytest
from colloquy.api import admin_service_pb2 as admin_api
from colloquy.api import attachment_service_pb2 as files_api
from colloquy.api import conversation_service_pb2 as api
from colloquy.api import resources_pb2 as resources
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from tests.fakes.provider import Answer
from tests.fleets import ALONE, ANY
from tests.harness import ADMIN_KEY, PROVISIONING_KEY, Caller, Colloquy, eventually
from tests.statuses import Refusal, read, refused

NOWHERE = "01890000-0000-7000-8000-000000000000"
"""An id that nothing has."""

NO_FILE = NOWHERE[:-1] + "1"
"""For a file, while the server takes none."""

_MODULES: list[ModuleType] = [
    importlib.import_module(f"colloquy.api.{module.name}")
    for module in pkgutil.iter_modules(package.__path__)
    if module.name.endswith("_pb2")
]
METHODS: list[MethodDescriptor] = [
    method
    for module in _MODULES
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]

REQUIRED: dict[str, dict[str, Any]] = {
    "UpdateConversation": {"conversation": {"title": "Taken"}, "updateMask": "title"},
    "SendMessage": {"content": "Let me in"},
    "RateReply": {"rating": "RATING_BAD"},
    "SearchMessages": {"query": "Hello"},
    "AddParticipants": {"users": [{"externalId": "guest"}]},
}
"""What a request needs beside ids to be valid, as JSON."""

REQUIRED_WITH: dict[tuple[str, str], dict[str, Any]] = {
    ("SendMessage", "attachment_ids"): {"conversationId": "own conversation"},
    ("SendMessage", "author.id"): {"conversationId": "own conversation"},
    ("RateReply", "author.id"): {"messageId": "own reply"},
    ("MarkRead", "conversation_id"): {"messageId": "own reply"},
    ("MarkRead", "message_id"): {"conversationId": "own conversation"},
    ("MarkRead", "author.id"): {
        "conversationId": "own conversation",
        "messageId": "own reply",
    },
    ("AddParticipants", "users.id"): {"conversationId": "own conversation"},
    ("RemoveParticipant", "conversation_id"): {"userId": "author.id"},
    ("CancelReply", "conversation_id"): {"requestId": "request"},
}
"""What it needs beside the id in this field."""

READ_ONLY = ("conversation.participants.id", "conversation.creator.id")
"""Fields of resources in requests that the server does not read."""

NOBODY = ("RemoveParticipant", "user_id")
"""Who takes no part in a conversation may be removed from it, whoever that is."""

REFUSED_AS = {
    "author.id": ("INVALID_ARGUMENT", "INVALID_FIELD"),
    "users.id": ("INVALID_ARGUMENT", "INVALID_FIELD"),
    "user.id": ("INVALID_ARGUMENT", "INVALID_FIELD"),
}
"""How an id that does not exist is refused where it is not NOT_FOUND."""


def is_admin(method: MethodDescriptor) -> bool:
    return bool(method.containing_service.name == "AdminService")


def path(method: MethodDescriptor) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


def id_fields(message: Descriptor, prefix: str = "") -> Iterator[str]:
    """Paths of all fields that hold the server's own ids."""
    for field in message.fields:
        if field.message_type is not None:
            if field.message_type.file.package == message.file.package:
                yield from id_fields(field.message_type, f"{prefix}{field.name}.")
        elif field.name == "id" or (
            field.name.endswith(("_id", "_ids"))
            and not field.name.endswith(("external_id", "request_id"))
        ):
            yield f"{prefix}{field.name}"


ID_FIELDS = [
    (method, field)
    for method in METHODS
    if not is_admin(method)
    for field in id_fields(method.input_type)
    if field not in READ_ONLY and (method.name, field) != NOBODY
]


@dataclass
class Owned:
    """What an account has: ids by the last words of the fields that take them."""

    caller: Caller
    conversation: resources.Conversation
    reply: resources.Message
    ids: dict[str, str]


async def furnish(colloquy: Colloquy, caller: Caller) -> Owned:
    """A conversation with a finished exchange, a file if the server takes any, and a user."""
    conversation = await caller.create(title="Private", external_id="project", request_id="make")
    author = resources.User(external_id="writer", display_name="Writer")
    stream = caller.send(conversation.id, "Hello", request_id="said", author=author)
    reply = await stream.reply()
    prompt = stream.events[0].accepted.message
    file = await upload(caller)
    return Owned(
        caller,
        conversation,
        reply,
        {
            "conversation_id": conversation.id,
            "conversation.id": conversation.id,
            "message_id": reply.id,
            "attachment_id": file,
            "attachment_ids": file,
            "author.id": prompt.author.id,
            "users.id": prompt.author.id,
            "user.id": prompt.author.id,
            "user_id": prompt.author.id,
            "session_id": await colloquy.session(caller),
            "own conversation": conversation.id,
            "own reply": reply.id,
            "request": "said",
        },
    )


async def upload(caller: Caller) -> str:
    """A file of the caller's; an id of nothing while the server takes no files."""
    header = files_api.UploadAttachmentRequest.Header(
        filename="secret.txt", sha256=hashlib.sha256(b"secret").hexdigest()
    )

    async def parts() -> Any:
        yield files_api.UploadAttachmentRequest(header=header)
        yield files_api.UploadAttachmentRequest(chunk=b"secret")

    try:
        made = await caller.attachments.UploadAttachment(parts(), metadata=caller.metadata)
    except grpc.aio.AioRpcError as error:
        if error.code() != grpc.StatusCode.UNIMPLEMENTED:
            raise
        return NO_FILE
    return str(made.attachment.id)


def build(method: MethodDescriptor, field: str, value: str, own: Owned) -> Message:
    """A request that is valid and has this id in this field."""
    request = json_format.ParseDict(
        REQUIRED.get(method.name, {}), GetMessageClass(method.input_type)()
    )
    needed = REQUIRED_WITH.get((method.name, field), {})
    json_format.ParseDict({name: own.ids[key] for name, key in needed.items()}, request)
    *parents, last = field.split(".")
    target: Any = request
    for parent in parents:
        target = getattr(target, parent)
        if hasattr(target, "add"):  # a list
            target = target.add()
    if last.endswith("_ids"):
        getattr(target, last).append(value)
    else:
        setattr(target, last, value)
    return request


async def ask(caller: Caller, method: MethodDescriptor, request: Message | None) -> Any:
    """Makes a call of any shape; returns its (last) response."""
    data = request.SerializeToString() if request is not None else b""
    response_type = GetMessageClass(method.output_type)
    channel = caller.channel
    if method.client_streaming:

        async def requests() -> Any:
            yield data

        upload_call: Any = channel.stream_unary(path(method))
        return response_type.FromString(
            await upload_call(requests(), metadata=caller.metadata, timeout=10)
        )
    if not method.server_streaming:
        unary_call: Any = channel.unary_unary(path(method))
        return response_type.FromString(await unary_call(data, metadata=caller.metadata))
    stream_call: Any = channel.unary_stream(path(method))
    call = stream_call(data, metadata=caller.metadata, timeout=10)
    response = None
    while (part := await call.read()) is not grpc.aio.EOF:
        response = response_type.FromString(part)
    return response


async def everything(caller: Caller) -> list[str]:
    """All that an account can be shown."""
    listed = await caller.call("ListConversations", api.ListConversationsRequest())
    shown = [listed]
    for conversation in listed.conversations:
        by_id = {"conversation_id": conversation.id}
        shown.append(await caller.call("GetConversation", api.GetConversationRequest(**by_id)))
        shown.append(await caller.call("ListMessages", api.ListMessagesRequest(**by_id)))
    return [str(part) for part in shown]


def test_every_service_is_read_from_the_protos() -> None:
    names = {method.containing_service.name for method in METHODS}
    assert names >= {"ConversationService", "AttachmentService", "AdminService"}
    assert len(METHODS) >= 23


async def test_anothers_ids_are_refused_exactly_like_ids_that_do_not_exist(
    colloquy: Colloquy,
) -> None:
    theirs = await furnish(colloquy, await colloquy.account("alice"))
    own = await furnish(colloquy, await colloquy.account("bob"))
    before = await everything(theirs.caller), await everything(own.caller)
    requests = len(colloquy.provider.requests)

    for method, field in ID_FIELDS:
        if field == "attachment_ids" and theirs.ids[field] == NO_FILE:
            continue
        assert field in theirs.ids, f"{path(method)}: say what to fill {field} with"
        answers: list[Refusal] = []
        for value in (theirs.ids[field], NOWHERE, theirs.ids[field].upper()):
            request = build(method, field, value, own)
            answers.append(await refused(ask(own.caller, method, request)))
        foreign, unknown, upper = answers
        assert foreign == unknown == upper, (method.name, field)
        if foreign.status == "UNIMPLEMENTED":
            continue
        expected = REFUSED_AS.get(field)
        if expected is None:
            assert foreign.status == "NOT_FOUND", (method.name, field)
            assert foreign.reason.endswith("_NOT_FOUND")
        else:
            assert (foreign.status, foreign.reason) == expected

    assert (await everything(theirs.caller), await everything(own.caller)) == before
    assert len(colloquy.provider.requests) == requests


@ANY
async def test_own_ids_are_taken_by_the_same_calls(colloquy: Colloquy) -> None:
    """Proves the test above: its requests are fine but for whose ids they hold."""
    own = await furnish(colloquy, await colloquy.account("bob"))
    for method, field in ID_FIELDS:
        if method.name in ("DeleteConversation", "DeleteMessage", "WatchConversation"):
            continue
        try:
            await ask(own.caller, method, build(method, field, own.ids[field], own))
        except grpc.aio.AioRpcError as error:
            assert read(error).status == "UNIMPLEMENTED", (method.name, field)  # noqa: PT017


@ALONE
async def test_an_account_with_nothing_sees_nothing(colloquy: Colloquy) -> None:
    theirs = await furnish(colloquy, await colloquy.account("alice"))
    await eventually(lambda: _finds(theirs.caller, "Hello"), True)
    bob = await colloquy.account("bob")
    for request in (
        api.ListConversationsRequest(),
        api.ListConversationsRequest(participant_external_id="writer"),
    ):
        listed = await bob.call("ListConversations", request)
        assert not listed.conversations
        assert not listed.next_page_token
    assert not await _finds(bob, "Hello")


async def _finds(caller: Caller, query: str) -> bool:
    """Whether a caller finds anything."""
    request = api.SearchMessagesRequest(query=query)
    return bool((await caller.call("SearchMessages", request)).hits)


@ALONE
async def test_names_that_callers_give_belong_to_their_account(colloquy: Colloquy) -> None:
    """external_id, request_id and users' external_id of two accounts are never the same thing."""
    theirs = await furnish(colloquy, await colloquy.account("alice"))
    own = await furnish(colloquy, await colloquy.account("bob"))
    assert own.conversation.id != theirs.conversation.id
    assert own.reply.id != theirs.reply.id
    assert own.ids["author.id"] != theirs.ids["author.id"]
    assert len(colloquy.provider.reply_requests) == 2


@ALONE
async def test_anothers_page_token_shows_only_ones_own(colloquy: Colloquy) -> None:
    alice, bob = await colloquy.account("alice"), await colloquy.account("bob")
    await bob.create(title="Bob's")
    for number in range(3):
        await alice.create(title=f"Alice's {number}")
    page = await alice.call("ListConversations", api.ListConversationsRequest(page_size=1))
    assert page.next_page_token
    listed = await bob.call(
        "ListConversations", api.ListConversationsRequest(page_token=page.next_page_token)
    )
    assert [conversation.title for conversation in listed.conversations] == ["Bob's"]


@ALONE
async def test_anothers_resume_token_is_refused_like_one_of_nothing(colloquy: Colloquy) -> None:
    theirs = await furnish(colloquy, await colloquy.account("alice"))
    own = await furnish(colloquy, await colloquy.account("bob"))
    request = api.GetConversationRequest(conversation_id=theirs.conversation.id)
    token = (await theirs.caller.call("GetConversation", request)).resume_token
    refusal = await refused(own.caller.watch(own.conversation.id, token))
    assert (refusal.status, list(refusal.fields)) == ("INVALID_ARGUMENT", ["resume_token"])


async def test_a_reply_being_written_cannot_be_reached_from_outside(colloquy: Colloquy) -> None:
    alice, bob = await colloquy.account("alice"), await colloquy.account("bob")
    gate = asyncio.Event()
    colloquy.provider.script(Answer(tokens=6, gate_after=3, gate=gate))
    conversation = await alice.create(title="Live")
    stream = alice.send(conversation.id, request_id="live")
    accepted = await stream.accepted()
    for call in (
        bob.watch(conversation.id),
        bob.watch(conversation.id, accepted and stream.events[0].resume_token),
        bob.cancel(accepted.reply.id),
        bob.call(
            "CancelReply",
            api.CancelReplyRequest(conversation_id=conversation.id, request_id="live"),
        ),
        bob.send(conversation.id, request_id="live"),
        bob.regenerate(accepted.reply.id),
        bob.call(
            "DeleteConversation", api.DeleteConversationRequest(conversation_id=conversation.id)
        ),
    ):
        refusal = await refused(call)
        assert refusal.status == "NOT_FOUND"
    gate.set()
    reply = await stream.reply()
    assert reply.state == resources.Message.STATE_COMPLETED
    assert len(reply.content.split()) == 6


# --- keys and roles -------------------------------------------------------------------------------


@ANY
async def test_every_call_needs_a_key_before_anything_else(colloquy: Colloquy) -> None:
    """Also those that this server does not offer yet, and whatever the request holds."""
    for key in ("", "colloquy_unknown"):
        nobody = Caller(colloquy.channel, key)
        for method in METHODS:
            refusal = await refused(ask(nobody, method, None))
            assert (refusal.status, refusal.reason) == ("UNAUTHENTICATED", "UNAUTHENTICATED")


@ANY
async def test_the_platforms_key_only_administers_and_no_other_key_does(
    colloquy: Colloquy, alice: Caller
) -> None:
    member = await colloquy.key(
        alice.account_id,
        admin_api.ApiKey.ROLE_MEMBER,
        user=resources.User(external_id="mia"),
    )
    admin = await colloquy.key(
        alice.account_id,
        admin_api.ApiKey.ROLE_ADMIN,
        user=resources.User(external_id="ada"),
    )
    platform = Caller(colloquy.channel, ADMIN_KEY)
    for method in METHODS:
        for caller in [alice, member, admin] if is_admin(method) else [platform]:
            refusal = await refused(ask(caller, method, None))
            assert (refusal.status, refusal.reason) == ("PERMISSION_DENIED", "PERMISSION_DENIED"), (
                method.name
            )


@ANY
async def test_a_provisioning_key_makes_accounts_and_keys_and_nothing_else(
    colloquy: Colloquy,
) -> None:
    bot = Caller(colloquy.channel, PROVISIONING_KEY)
    for method in METHODS:
        expected = "PERMISSION_DENIED"
        if method.name in ("CreateAccount", "CreateApiKey"):
            expected = "INVALID_ARGUMENT"  # the request is empty
        assert (await refused(ask(bot, method, None))).status == expected, method.name


@ANY
async def test_without_a_platform_key_nobody_administers(colloquy: Colloquy, alice: Caller) -> None:
    await colloquy.restart(admin_api_key=None)
    for key in (ADMIN_KEY, "", "None"):
        caller = Caller(colloquy.channel, key)
        for method in filter(is_admin, METHODS):
            assert (await refused(ask(caller, method, None))).status == "UNAUTHENTICATED"
    refusal = await refused(ask(alice.at(colloquy), next(filter(is_admin, METHODS)), None))
    assert refusal.status == "PERMISSION_DENIED"


@ANY
async def test_a_members_key_speaks_as_its_user_and_as_nobody_else(
    colloquy: Colloquy, alice: Caller
) -> None:
    member = await colloquy.key(
        alice.account_id,
        admin_api.ApiKey.ROLE_MEMBER,
        user=resources.User(external_id="mia", display_name="Mia"),
    )
    conversation = await alice.create(title="Shared")
    stream = alice.send(conversation.id, author=resources.User(external_id="noah"))
    reply = await stream.reply()
    noah = stream.events[0].accepted.message.author

    stream = member.send(conversation.id)
    await stream.rest()
    mia = stream.events[0].accepted.message.author
    assert (mia.external_id, mia.display_name) == ("mia", "Mia")

    for author in (resources.User(id=mia.id), resources.User(external_id="mia")):
        stream = member.send(conversation.id, author=author)
        await stream.rest()
        assert stream.events[0].accepted.message.author == mia

    before = await everything(alice)
    for author in (
        resources.User(id=noah.id),
        resources.User(external_id="noah"),
        resources.User(external_id="somebody new"),
        resources.User(id=mia.id, external_id="noah"),
    ):
        rating = api.RateReplyRequest(
            message_id=reply.id, rating=resources.RATING_BAD, author=author
        )
        wrong = api.RateReplyRequest(message_id="x", author=author)
        for call in (
            member.send(conversation.id, author=author),
            member.send("x", "", author=author),
            member.call("RateReply", rating),
            member.call("RateReply", wrong),
        ):
            refusal = await refused(call)
            assert (refusal.status, refusal.reason) == ("PERMISSION_DENIED", "PERMISSION_DENIED")
    assert await everything(alice) == before


@ANY
async def test_a_services_key_speaks_for_any_user_or_as_the_default_one(
    colloquy: Colloquy, alice: Caller
) -> None:
    conversation = await alice.create(title="Shared")

    async def said_by(author: resources.User | None) -> resources.User:
        stream = alice.send(conversation.id, author=author)
        await stream.rest()
        return stream.events[0].accepted.message.author

    default = await said_by(None)
    assert not default.external_id
    assert (await said_by(None)).id == default.id
    new = await said_by(resources.User(external_id="u1", display_name="Una", avatar_url="a.png"))
    assert (new.external_id, new.display_name, new.avatar_url) == ("u1", "Una", "a.png")
    assert await said_by(resources.User(external_id="u1")) == new
    assert await said_by(resources.User(id=new.id)) == new
    renamed = await said_by(resources.User(external_id="u1", display_name="Una B."))
    assert (renamed.id, renamed.display_name, renamed.avatar_url) == (new.id, "Una B.", "a.png")
    refusal = await refused(
        alice.send(conversation.id, author=resources.User(id=default.id, external_id="u1"))
    )
    assert list(refusal.fields) == ["author.id"]
    shown = await alice.conversation(conversation.id)
    assert [user.id for user in shown.participants] == [default.id, new.id]


@ANY
@pytest.mark.parametrize("role", [admin_api.ApiKey.ROLE_MEMBER, admin_api.ApiKey.ROLE_SERVICE])
async def test_every_role_sees_all_of_its_account(
    colloquy: Colloquy, alice: Caller, role: Any
) -> None:
    user = resources.User(external_id="mia") if role == admin_api.ApiKey.ROLE_MEMBER else None
    other = await colloquy.key(alice.account_id, role, user=user)
    conversation = await alice.create(title="Shared")
    assert (await other.conversation(conversation.id)).title == "Shared"
