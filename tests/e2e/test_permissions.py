"""Every call by every kind of caller: who may make it, and what all others are told.

The calls are read from the descriptors of all services: a new one fails here until it has a row.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from colloquy.api import admin_service_pb2 as admin_api
from colloquy.api import attachment_service_pb2 as files_api
from colloquy.api import conversation_service_pb2 as api
from colloquy.api import resources_pb2 as resources
from colloquy_server.database.models import ApiKey, Delivery, db_now
from colloquy_server.database.repository import outbox, webhooks
from colloquy_server.database.transactions import EVERY_ACCOUNT, Session
from google.protobuf import json_format
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from sqlalchemy import update

from tests.e2e.test_accounts_apart import METHODS, is_admin, path
from tests.fakes.identity_provider import AUDIENCE, IdentityProviderDouble
from tests.fleets import ALONE, FLEETS
from tests.harness import ADMIN_KEY, PROVISIONING_KEY, Caller, Colloquy, eventually
from tests.statuses import read

CALLERS = (
    "creator",
    "participant",
    "other member",
    "admin",
    "service",
    "other account",
    "platform key",
    "provisioning key",
    "expired",
    "revoked",
    "OIDC member",
)
"""The OIDC member is a participant, too."""

OK, DENIED, UNKNOWN, NOBODY = "OK", "PERMISSION_DENIED", "NOT_FOUND", "UNAUTHENTICATED"

_ENDED = {"expired": NOBODY, "revoked": NOBODY}
_NO_ADMINISTRATOR = {"platform key": DENIED, "provisioning key": DENIED, **_ENDED}

ACCOUNT = {**dict.fromkeys(CALLERS, OK), **_NO_ADMINISTRATOR}
"""What everybody with an account may do in it."""

SEES = {**ACCOUNT, "other member": UNKNOWN, "other account": UNKNOWN}
"""What whoever sees the conversation may do."""

OWNS = {**SEES, "participant": DENIED, "OIDC member": DENIED}
"""What is for who made the conversation, an admin and a service."""

ADMINISTERS = {**dict.fromkeys(CALLERS, DENIED), **_ENDED, "admin": OK, "service": OK}
ADMINISTERS["other account"] = UNKNOWN
"""What is for an admin and a service."""

SERVES = {**ADMINISTERS, "admin": DENIED, "other account": OK}
"""What is for a service's key."""

REVOKES = {**ACCOUNT, **dict.fromkeys(CALLERS[1:3], UNKNOWN), "other account": UNKNOWN}
REVOKES["OIDC member"] = UNKNOWN
"""Of the creator's session."""

PLATFORM = {**dict.fromkeys(CALLERS, DENIED), "platform key": OK, **_ENDED}
PROVISIONS = {**PLATFORM, "provisioning key": OK}


@dataclass(frozen=True)
class Target:
    """What a call is about. The conversation is only for its participants."""

    conversation: resources.Conversation
    prompt: resources.Message
    reply: resources.Message
    file: str
    guest: resources.User
    account: str
    key: str
    budget: str
    session: str
    webhook: str
    dead_letter: str


@dataclass(frozen=True)
class Row:
    """A call: its request, as JSON, and who may make it."""

    method: str
    fields: Callable[[Target], dict[str, Any]]
    rights: dict[str, str]
    note: str = ""

    def __str__(self) -> str:
        return f"{self.method} {self.note}".strip()


def _in_conversation(target: Target) -> dict[str, Any]:
    return {"conversationId": target.conversation.id}


def _of_reply(target: Target) -> dict[str, Any]:
    return {"messageId": target.reply.id}


def _of_file(target: Target) -> dict[str, Any]:
    return {"attachmentId": target.file}


def _change(**fields: Any) -> Callable[[Target], dict[str, Any]]:
    return lambda target: {"conversation": {"id": target.conversation.id, **fields}}


def _in_account(**fields: Any) -> Callable[[Target], dict[str, Any]]:
    return lambda target: {"accountId": target.account, **fields}


ROWS = [
    Row("CreateConversation", lambda _: {"title": "New"}, ACCOUNT),
    Row("GetConversation", _in_conversation, SEES),
    Row("ListConversations", lambda _: {}, ACCOUNT),
    Row("UpdateConversation", _change(title="New"), SEES, "title"),
    Row("UpdateConversation", _change(model="other-model"), SEES, "model"),
    Row("UpdateConversation", _change(systemPrompt="New"), OWNS, "system_prompt"),
    Row("UpdateConversation", _change(visibility="VISIBILITY_ACCOUNT"), OWNS, "visibility"),
    Row("UpdateConversation", _change(archived=True), SEES, "archived"),
    Row("UpdateConversation", _change(pinned=True), SEES, "pinned"),
    Row("UpdateConversation", _change(expireTime="2999-01-01T00:00:00Z"), OWNS, "expire_time"),
    Row("WatchConversations", lambda _: {}, ACCOUNT),
    Row("MarkRead", lambda target: {**_in_conversation(target), **_of_reply(target)}, SEES),
    Row("ListUsers", lambda _: {}, ACCOUNT),
    Row("DeleteConversation", _in_conversation, OWNS),
    Row(
        "AddParticipants",
        lambda target: {**_in_conversation(target), "users": [{"externalId": "newcomer"}]},
        SEES,
    ),
    Row(
        "RemoveParticipant",
        lambda target: {**_in_conversation(target), "userId": target.guest.id},
        OWNS,
    ),
    Row("ListMessages", _in_conversation, SEES),
    Row("GetMessage", _of_reply, SEES),
    Row("DeleteMessage", lambda target: {"messageId": target.prompt.id}, OWNS),
    Row("SendMessage", lambda target: {**_in_conversation(target), "content": "Hello"}, SEES),
    Row("RegenerateReply", _of_reply, SEES),
    Row("CancelReply", _of_reply, SEES),
    Row(
        "CancelReply",
        lambda target: {**_in_conversation(target), "requestId": "to come"},
        SEES,
        "by request_id",
    ),
    Row("WatchConversation", _in_conversation, SEES),
    Row("RateReply", lambda target: {**_of_reply(target), "rating": "RATING_GOOD"}, SEES),
    Row("SearchMessages", lambda _: {"query": "marker"}, ACCOUNT),
    Row(
        "SearchMessages",
        lambda target: {**_in_conversation(target), "query": "marker"},
        SEES,
        "in a conversation",
    ),
    Row("ListModels", lambda _: {}, ACCOUNT),
    Row("UploadAttachment", lambda _: {"header": {"filename": "new.txt"}}, ACCOUNT),
    Row("GetAttachment", _of_file, SEES),
    Row("DownloadAttachment", _of_file, SEES),
    Row("CreateAccount", lambda _: {"name": "New"}, PROVISIONS),
    Row("ListAccounts", lambda _: {}, PLATFORM),
    Row("UpdateAccount", _in_account(quotas={"conversations": 10}), PLATFORM),
    Row("DeleteAccount", _in_account(), PLATFORM),
    Row("CreateApiKey", _in_account(name="New", role="ROLE_SERVICE"), PROVISIONS),
    Row("ListApiKeys", _in_account(), PLATFORM),
    Row("RevokeApiKey", lambda target: {"apiKeyId": target.key}, PLATFORM),
    Row("DeleteUser", lambda target: {"userId": target.guest.id}, PLATFORM),
    Row("ExportUser", lambda target: {"userId": target.guest.id}, PLATFORM),
    Row("ListAuditEvents", _in_account(), PLATFORM),
    Row("CreateWebhook", _in_account(url="https://93.184.215.14/"), PLATFORM),
    Row("ListWebhooks", _in_account(), PLATFORM),
    Row("DeleteWebhook", lambda target: {"webhookId": target.webhook}, PLATFORM),
    Row("ListDeadLetters", _in_account(), PLATFORM),
    Row("RetryDeadLetter", lambda target: {"deliveryId": target.dead_letter}, PLATFORM),
    Row(
        "SetBudget",
        _in_account(period="PERIOD_DAY", unit="UNIT_REPLIES", limit=10),
        PLATFORM,
    ),
    Row("ListBudgets", _in_account(), PLATFORM),
    Row("DeleteBudget", lambda target: {"budgetId": target.budget}, PLATFORM),
    Row("AdminService.GetUsage", _in_account(), PLATFORM),
    Row("GetUsage", lambda _: {"groupBy": ["USAGE_GROUP_USER"]}, ACCOUNT),
    Row("GetUsage", lambda target: {"userId": target.guest.id}, ADMINISTERS, "of another"),
    Row("GetSession", lambda _: {}, ACCOUNT),
    Row("ListSessions", lambda _: {}, ACCOUNT),
    Row(
        "ListSessions",
        lambda target: {"userId": target.guest.id},
        ADMINISTERS,
        "of another",
    ),
    Row("RevokeSession", lambda target: {"sessionId": target.session}, REVOKES),
    Row("CreateSignInLink", lambda _: {"user": {"externalId": "guest"}}, SERVES),
]

MATRIX_FLEETS = ("sqlite", "postgres") if len(FLEETS) > 2 else ("sqlite",)
"""A thousand calls: on Postgres with TEST_FLEETS=all. See test_audience.py for who sees what."""

PARTS = 4
"""Tests that share the rows: one test of all of them takes too long on a machine that is busy."""

BY_NAME: dict[str, MethodDescriptor] = {
    (f"{method.containing_service.name}." if is_admin(method) and method.name == "GetUsage" else "")
    + method.name: method
    for method in METHODS
}
"""By their names, with the service's where two have one of the same name."""

PROMPT = "Find the marker"

READS = ("Get", "List", "Search", "Watch", "Download", "Export")
"""How the names of calls begin that change nothing."""


class World:
    """An account with one caller of every kind, and more callers from outside of it."""

    def __init__(self, colloquy: Colloquy, callers: dict[str, Caller], users: dict[str, str]):
        self.colloquy = colloquy
        self.callers = callers
        self.service = callers["service"]
        self.users = users
        """The external ids of members."""

    async def target(self) -> Target:
        """A conversation that the creator made for some, with an exchange, a file and a guest."""
        creator = self.callers["creator"]
        conversation = await creator.create(
            title="Ours", visibility=resources.Conversation.VISIBILITY_PARTICIPANTS
        )
        names = [self.users["participant"], self.users["OIDC member"], "guest"]
        users = [resources.User(external_id=name) for name in names]
        file = await upload(creator, conversation.id)
        invited = await creator.call(
            "AddParticipants",
            api.AddParticipantsRequest(conversation_id=conversation.id, users=users),
        )
        guest = next(
            user for user in invited.conversation.participants if user.external_id == "guest"
        )
        stream = creator.send(conversation.id, PROMPT, attachment_ids=[file])
        reply = await stream.reply()
        provisioning = self.callers["provisioning key"]
        made = await provisioning.admin.CreateAccount(
            admin_api.CreateAccountRequest(name="Another"), metadata=provisioning.metadata
        )
        key = await provisioning.admin.CreateApiKey(
            admin_api.CreateApiKeyRequest(
                account_id=made.account.id, name="Another", role=admin_api.ApiKey.ROLE_SERVICE
            ),
            metadata=provisioning.metadata,
        )
        platform = self.colloquy.admin
        budget = await platform.admin.SetBudget(
            admin_api.SetBudgetRequest(
                account_id=made.account.id,
                period=resources.Budget.PERIOD_MONTH,
                unit=resources.Budget.UNIT_USD,
                limit=10,
            ),
            metadata=platform.metadata,
        )
        return Target(
            conversation,
            stream.events[0].accepted.message,
            reply,
            file,
            guest,
            made.account.id,
            key.api_key.id,
            budget.budget.id,
            await self.colloquy.session(self.callers["creator"]),
            *await self.webhook(made.account.id),
        )

    async def webhook(self, account_id: str) -> tuple[str, str]:
        """A webhook of an account, and an event that it did not take."""

        def store(s: Session) -> tuple[str, str]:
            made = webhooks.create(s, account_id, "https://203.0.113.1/", [], "whsec_")
            outbox.record(s, account_id, "budget.warning", "", {})
            dead = update(Delivery).where(Delivery.webhook_id == made.id).values(dead_time=db_now())
            return made.id, s.run(dead.returning(Delivery.id)).scalar_one()

        return await self.colloquy.app.db.write(EVERY_ACCOUNT, store)

    async def all_of(self, target: Target) -> list[str]:
        """What the account has of a conversation."""
        return [
            str(await self.service.conversation(target.conversation.id)),
            *map(str, await self.service.history(target.conversation.id)),
        ]


@pytest.fixture
async def world(colloquy: Colloquy) -> AsyncIterator[World]:
    async with IdentityProviderDouble() as idp:
        rules = [{"when": "everyone", "account": "acme"}]
        await colloquy.restart(
            oidc_issuer=idp.issuer, oidc_audience=AUDIENCE, oidc_rules=json.dumps(rules)
        )
        platform = colloquy.admin
        made = await platform.admin.CreateAccount(
            admin_api.CreateAccountRequest(name="Acme", external_id="acme"),
            metadata=platform.metadata,
        )
        account_id = made.account.id
        roles = admin_api.ApiKey
        users = {name: name for name in ("creator", "participant", "other member")}
        callers = {
            name: await colloquy.key(
                account_id, roles.ROLE_MEMBER, user=resources.User(external_id=name)
            )
            for name in (*users, "expired", "revoked")
        }
        users["OIDC member"] = "mia@acme.example"
        token = idp.token(sub="mia", email="mia@acme.example", email_verified=True)
        callers |= {
            "admin": await colloquy.key(
                account_id, roles.ROLE_ADMIN, user=resources.User(external_id="admin")
            ),
            "service": await colloquy.key(account_id),
            "other account": await colloquy.account("Others"),
            "platform key": Caller(colloquy.channel, ADMIN_KEY),
            "provisioning key": Caller(colloquy.channel, PROVISIONING_KEY),
            "OIDC member": Caller(colloquy.channel, token, account_id),
        }
        await end(colloquy, account_id)
        yield World(colloquy, callers, users)


async def upload(caller: Caller, text: str) -> str:
    """A file of the caller's that is no other; its id."""

    async def parts() -> AsyncIterator[files_api.UploadAttachmentRequest]:
        header = files_api.UploadAttachmentRequest.Header(filename="file.txt")
        yield files_api.UploadAttachmentRequest(header=header)
        yield files_api.UploadAttachmentRequest(chunk=text.encode())

    made = await caller.attachments.UploadAttachment(parts(), metadata=caller.metadata)
    return str(made.attachment.id)


async def end(colloquy: Colloquy, account_id: str) -> None:
    """Ends the keys of two members, before they are used."""
    platform = colloquy.admin
    listed = await platform.admin.ListApiKeys(
        admin_api.ListApiKeysRequest(account_id=account_id), metadata=platform.metadata
    )
    ids = {key.user.external_id: key.id for key in listed.api_keys}
    await platform.admin.RevokeApiKey(
        admin_api.RevokeApiKeyRequest(api_key_id=ids["revoked"]), metadata=platform.metadata
    )
    expiry = update(ApiKey).where(ApiKey.id == ids["expired"]).values(expire_time=1)
    await colloquy.app.db.write(EVERY_ACCOUNT, lambda s: s.execute(expiry))


async def outcome(caller: Caller, method: MethodDescriptor, request: Message) -> str:
    """Makes a call of any shape: the name of its status. Of a stream the first answer counts."""
    response_type = GetMessageClass(method.output_type)
    codec: Any = {
        "request_serializer": GetMessageClass(method.input_type).SerializeToString,
        "response_deserializer": response_type.FromString,
    }
    call: Any
    try:
        if method.client_streaming:

            async def requests() -> AsyncIterator[Message]:
                yield request
                yield GetMessageClass(method.input_type)(chunk=b"Hello")

            call = caller.channel.stream_unary(path(method), **codec)
            await call(requests(), metadata=caller.metadata)
        elif method.server_streaming:
            call = caller.channel.unary_stream(path(method), **codec)
            stream = call(request, metadata=caller.metadata)
            assert await stream.read() is not grpc.aio.EOF
            stream.cancel()
        else:
            call = caller.channel.unary_unary(path(method), **codec)
            await call(request, metadata=caller.metadata)
    except grpc.aio.AioRpcError as error:
        refusal = read(error)
        wanted = {DENIED: "PERMISSION_DENIED", NOBODY: "UNAUTHENTICATED"}
        reason = wanted.get(refusal.status)
        assert refusal.reason == reason if reason else refusal.reason.endswith("_NOT_FOUND")
        return refusal.status
    return OK


def test_every_call_has_its_row() -> None:
    assert {row.method for row in ROWS} == set(BY_NAME)
    assert all(set(row.rights) == set(CALLERS) for row in ROWS)


async def call(caller: Caller, row: Row, target: Target) -> str:
    """Makes the call of a row: the name of its status."""
    method = BY_NAME[row.method]
    request = json_format.ParseDict(row.fields(target), GetMessageClass(method.input_type)())
    return await outcome(caller, method, request)


@pytest.mark.parametrize("colloquy", MATRIX_FLEETS, indirect=True)
@pytest.mark.parametrize("part", range(PARTS))
async def test_every_caller_may_make_the_calls_that_are_theirs(world: World, part: int) -> None:
    target = await world.target()
    before = await world.all_of(target)
    for row in ROWS[part::PARTS]:
        method = BY_NAME[row.method]
        answers = {}
        changes = [
            name for name in row.rights
            if row.rights[name] == OK and not method.name.startswith(READS)
        ]  # fmt: skip
        for name in world.callers.keys() - changes:
            answers[name] = await call(world.callers[name], row, target)
        assert await world.all_of(target) == before, f"somebody changed it by {row}"
        for name in changes:
            answers[name] = await call(world.callers[name], row, target)
            target = await world.target()
            before = await world.all_of(target)
        assert answers == row.rights, str(row)


@ALONE
async def test_lists_and_search_have_what_each_caller_sees(world: World) -> None:
    target = await world.target()
    search = api.SearchMessagesRequest(query="marker")

    async def finds(caller: Caller) -> bool:
        hits = (await caller.call("SearchMessages", search)).hits
        return any(hit.message.id == target.prompt.id for hit in hits)

    await eventually(lambda: finds(world.service), True)
    for name, caller in world.callers.items():
        if ACCOUNT[name] != OK:
            continue
        listed = await caller.call("ListConversations", api.ListConversationsRequest())
        is_listed = target.conversation.id in {each.id for each in listed.conversations}
        assert is_listed == (SEES[name] == OK), name
        assert await finds(caller) == (SEES[name] == OK), name
