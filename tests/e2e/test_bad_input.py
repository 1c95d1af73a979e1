"""Bad input gets the right status, says what is wrong with which field, and changes nothing."""

from __future__ import annotations

import asyncio
import base64
import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import grpc
import pytest
from colloquy.api import admin_service_pb2 as admin_api
from colloquy.api import conversation_service_pb2 as api
from colloquy.api import resources_pb2 as resources
from colloquy_server.errors import InvalidField
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from tests.fakes.provider import Answer
from tests.fleets import ALONE, ANY, BY_ALL
from tests.harness import MODELS, Caller, Colloquy
from tests.statuses import read, refused

NOWHERE = "01890000-0000-7000-8000-000000000000"
"""An id that nothing has."""

MIB = 1 << 20


async def everything(colloquy: Colloquy, caller: Caller) -> list[bytes]:
    """All that the API shows of an account, and the versions of its conversations."""
    shown: list[Any] = []
    admin = colloquy.admin
    keys = await admin.admin.ListApiKeys(
        admin_api.ListApiKeysRequest(account_id=caller.account_id), metadata=admin.metadata
    )
    shown.append(keys)
    listed = await caller.call("ListConversations", api.ListConversationsRequest(page_size=200))
    shown.append(listed)
    for conversation in listed.conversations:
        by_id = {"conversation_id": conversation.id}
        shown.append(await caller.call("GetConversation", api.GetConversationRequest(**by_id)))
        shown.append(await caller.call("ListMessages", api.ListMessagesRequest(**by_id)))
    return [part.SerializeToString(deterministic=True) for part in shown]


Ids = dict[str, str]

BAD_SENDS: dict[str, tuple[dict[str, Any], str, str]] = {
    "no conversation": ({"conversation_id": ""}, "conversation_id", "INVALID_FIELD"),
    "malformed id": ({"conversation_id": "x-1"}, "conversation_id", "INVALID_FIELD"),
    "id in braces": ({"conversation_id": f"{{{NOWHERE}}}"}, "conversation_id", "INVALID_FIELD"),
    "empty": ({"content": ""}, "content", "INVALID_FIELD"),
    "U+0000": ({"content": "a\0b"}, "content", "INVALID_FIELD"),
    "over 1 MiB": ({"content": "é" * (MIB // 2) + "x"}, "content", "MESSAGE_TOO_LONG"),
    "10 MB": ({"content": "x" * 10_000_000}, "content", "MESSAGE_TOO_LONG"),
    "request_id of 129": ({"request_id": "r" * 129}, "request_id", "INVALID_FIELD"),
    "request_id with U+0000": ({"request_id": "\0"}, "request_id", "INVALID_FIELD"),
    "11 files": (
        {"attachment_ids": [f"01890000-0000-7000-8000-{i:012d}" for i in range(11)]},
        "attachment_ids",
        "INVALID_FIELD",
    ),
    "a malformed file": ({"attachment_ids": ["x"]}, "attachment_ids", "INVALID_FIELD"),
    "one file twice": ({"attachment_ids": [NOWHERE] * 2}, "attachment_ids", "INVALID_FIELD"),
    "a malformed author": ({"author": resources.User(id="x")}, "author.id", "INVALID_FIELD"),
    "an unknown author": ({"author": resources.User(id=NOWHERE)}, "author.id", "INVALID_FIELD"),
    "a long name": (
        {"author": resources.User(external_id="b", display_name="n" * 256)},
        "author.display_name",
        "INVALID_FIELD",
    ),
    "an on_busy of another age": ({"on_busy": 77}, "on_busy", "INVALID_FIELD"),
}


@ANY
async def test_a_bad_send_names_the_field_and_changes_nothing(
    colloquy: Colloquy, alice: Caller
) -> None:
    conversation = await alice.create(title="Kept")
    await alice.send(conversation.id).rest()
    before = await everything(colloquy, alice)

    for case, (fields, field, reason) in BAD_SENDS.items():
        refusal = await refused(
            alice.send(**{"conversation_id": conversation.id, "content": "Hi", **fields})
        )
        assert (refusal.status, refusal.reason) == ("INVALID_ARGUMENT", reason), case
        assert list(refusal.fields) == [field], case
        assert refusal.fields[field], case

    assert await everything(colloquy, alice) == before
    assert len(colloquy.provider.reply_requests) == 1


@ANY
async def test_content_of_exactly_one_mib_is_taken(colloquy: Colloquy, alice: Caller) -> None:
    conversation = await alice.create(title="Long")
    # The window of the test model is 128,000 tokens: a message of 1 MiB of UTF-8 is over it.
    refusal = await refused(alice.send(conversation.id, "é" * (MIB // 2)))
    assert refusal.reason == "MESSAGE_TOO_LONG"
    assert "window" in refusal.message
    assert (await alice.send(conversation.id, "é" * 200_000).reply()).state == 3


@ANY
async def test_a_message_over_the_models_window_is_refused_before_any_call(
    colloquy: Colloquy, alice: Caller
) -> None:
    conversation = await alice.create(title="Small", model="small-model")
    before = await everything(colloquy, alice)
    refusal = await refused(alice.send(conversation.id, "word " * 1_000))
    assert (refusal.status, refusal.reason) == ("INVALID_ARGUMENT", "MESSAGE_TOO_LONG")
    assert list(refusal.fields) == ["content"]
    assert await everything(colloquy, alice) == before
    assert colloquy.provider.requests == []


@ANY
async def test_a_reply_cannot_be_made_again_by_a_model_whose_window_is_too_small(
    colloquy: Colloquy, alice: Caller
) -> None:
    conversation = await alice.create(title="Small")
    reply = await alice.send(conversation.id, "word " * 1_000).reply()
    before = await everything(colloquy, alice)
    refusal = await refused(alice.regenerate(reply.id, model="small-model"))
    assert (refusal.status, refusal.reason) == ("INVALID_ARGUMENT", "MESSAGE_TOO_LONG")
    assert await everything(colloquy, alice) == before
    assert len(colloquy.provider.reply_requests) == 1


@ANY
@pytest.mark.parametrize(
    ("model", "reason"),
    [("no-such-model", "MODEL_UNKNOWN"), ("keyless-model", "MODEL_UNAVAILABLE")],
)
async def test_a_model_that_cannot_be_used_is_refused_naming_those_that_can(
    colloquy: Colloquy, alice: Caller, model: str, reason: str
) -> None:
    conversation = await alice.create(title="Kept")
    reply = await alice.send(conversation.id).reply()
    before = await everything(colloquy, alice)
    update = api.UpdateConversationRequest(
        conversation=resources.Conversation(id=conversation.id, model=model),
        update_mask=FieldMask(paths=["model"]),
    )
    calls: list[tuple[Any, str]] = [
        (alice.create(model=model), "model"),
        (alice.call("UpdateConversation", update), "conversation.model"),
        (alice.regenerate(reply.id, model=model), "model"),
    ]
    for call, field in calls:
        refusal = await refused(call)
        assert (refusal.status, refusal.reason) == ("INVALID_ARGUMENT", reason)
        assert list(refusal.fields) == [field]
        assert "test-model" in refusal.message
        assert "other-model" in refusal.message
    assert await everything(colloquy, alice) == before


async def test_a_refusal_reaches_its_caller_however_much_there_is_to_say(tmp_path: Path) -> None:
    colloquy = Colloquy(tmp_path)
    more = "".join(f"  some-vendor/a-model-of-theirs-{n:03}: *model\n" for n in range(150))
    colloquy.models = MODELS.replace("  title-model: *model\n", f"  title-model: *model\n{more}")
    async with colloquy:
        alice = await colloquy.account()
        # The characters that take the most room in a status.
        refusal = await refused(alice.create(model="\N{ROLLING ON THE FLOOR LAUGHING}" * 255))
        assert refusal.reason == "MODEL_UNKNOWN"
        assert refusal.fields["model"].endswith("more: see ListModels.")
        for said in ("x" * 100_000, "\N{ROLLING ON THE FLOOR LAUGHING}" * 1_000):
            error = InvalidField({"title": said})
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(colloquy.app.catalog.__class__, "default", Mock(side_effect=error))
                refusal = await refused(alice.create())
            assert refusal.fields["title"].startswith(said[:250])


BAD_CALLS: dict[str, tuple[str, Callable[[Ids], Any], str]] = {
    "get without an id": (
        "GetConversation",
        lambda _: api.GetConversationRequest(),
        "conversation_id",
    ),
    "get message x": ("GetMessage", lambda _: api.GetMessageRequest(message_id="x"), "message_id"),
    "long title": (
        "CreateConversation",
        lambda _: api.CreateConversationRequest(title="t" * 256),
        "title",
    ),
    "prompt over 256 KiB": (
        "CreateConversation",
        lambda _: api.CreateConversationRequest(system_prompt="é" * (128 << 10) + "x"),
        "system_prompt",
    ),
    "U+0000 in a prompt": (
        "CreateConversation",
        lambda _: api.CreateConversationRequest(system_prompt="a\0"),
        "system_prompt",
    ),
    "long external_id": (
        "CreateConversation",
        lambda _: api.CreateConversationRequest(external_id="e" * 256),
        "external_id",
    ),
    "negative page": (
        "ListConversations",
        lambda _: api.ListConversationsRequest(page_size=-1),
        "page_size",
    ),
    "negative page of messages": (
        "ListMessages",
        lambda ids: api.ListMessagesRequest(conversation_id=ids["conversation"], page_size=-7),
        "page_size",
    ),
    "update of nothing": (
        "UpdateConversation",
        lambda _: api.UpdateConversationRequest(),
        "conversation",
    ),
    "update without an id": (
        "UpdateConversation",
        lambda _: api.UpdateConversationRequest(
            conversation=resources.Conversation(title="x"), update_mask=FieldMask(paths=["title"])
        ),
        "conversation.id",
    ),
    "update that names nothing": (
        "UpdateConversation",
        lambda ids: api.UpdateConversationRequest(
            conversation=resources.Conversation(id=ids["conversation"])
        ),
        "update_mask",
    ),
    "update of the id": (
        "UpdateConversation",
        lambda ids: api.UpdateConversationRequest(
            conversation=resources.Conversation(id=ids["conversation"]),
            update_mask=FieldMask(paths=["id"]),
        ),
        "update_mask",
    ),
    "update of an unknown field": (
        "UpdateConversation",
        lambda ids: api.UpdateConversationRequest(
            conversation=resources.Conversation(id=ids["conversation"], title="New"),
            update_mask=FieldMask(paths=["title", "colour"]),
        ),
        "update_mask",
    ),
    **{
        f"update of {path}": (
            "UpdateConversation",
            lambda ids, path=path: api.UpdateConversationRequest(  # type: ignore[misc]
                conversation=resources.Conversation(id=ids["conversation"], title="New"),
                update_mask=FieldMask(paths=[path]),
            ),
            "update_mask",
        )
        for path in ("title.x", "title.", "model.a.b", ".", "", "TITLE")
    },
    "cancel of nothing": ("CancelReply", lambda _: api.CancelReplyRequest(), "message_id"),
    "cancel of both": (
        "CancelReply",
        lambda ids: api.CancelReplyRequest(message_id=ids["reply"], request_id="r"),
        "message_id",
    ),
    "cancel by half a request": (
        "CancelReply",
        lambda ids: api.CancelReplyRequest(conversation_id=ids["conversation"]),
        "message_id",
    ),
    "cancel of a user's message": (
        "CancelReply",
        lambda ids: api.CancelReplyRequest(message_id=ids["prompt"]),
        "message_id",
    ),
    "rating of a user's message": (
        "RateReply",
        lambda ids: api.RateReplyRequest(message_id=ids["prompt"], rating=resources.RATING_GOOD),
        "message_id",
    ),
    "rating of another age": (
        "RateReply",
        lambda ids: api.RateReplyRequest(message_id=ids["reply"], rating=9),  # type: ignore[arg-type]
        "rating",
    ),
    "long comment": (
        "RateReply",
        lambda ids: api.RateReplyRequest(message_id=ids["reply"], comment="c" * 4_001),
        "comment",
    ),
    "search for nothing": ("SearchMessages", lambda _: api.SearchMessagesRequest(), "query"),
    "search in x": (
        "SearchMessages",
        lambda _: api.SearchMessagesRequest(query="a", conversation_id="x"),
        "conversation_id",
    ),
}


@ANY
async def test_a_bad_call_names_the_field_and_changes_nothing(
    colloquy: Colloquy, alice: Caller
) -> None:
    conversation = await alice.create(title="Kept")
    stream = alice.send(conversation.id)
    reply = await stream.reply()
    prompt = stream.events[0].accepted.message
    before = await everything(colloquy, alice)
    ids = {"conversation": conversation.id, "prompt": prompt.id, "reply": reply.id}

    for case, (method, make, field) in BAD_CALLS.items():
        refusal = await refused(alice.call(method, make(ids)))
        assert (refusal.status, refusal.reason) == ("INVALID_ARGUMENT", "INVALID_FIELD"), case
        assert list(refusal.fields) == [field], case

    assert await everything(colloquy, alice) == before


@ANY
async def test_only_a_reply_can_be_made_again(colloquy: Colloquy, alice: Caller) -> None:
    conversation = await alice.create(title="Kept")
    stream = alice.send(conversation.id)
    await stream.rest()
    before = await everything(colloquy, alice)
    refusal = await refused(alice.regenerate(stream.events[0].accepted.message.id))
    assert (refusal.status, list(refusal.fields)) == ("INVALID_ARGUMENT", ["message_id"])
    assert await everything(colloquy, alice) == before


@BY_ALL
async def test_all_bad_fields_are_named_at_once(alice: Caller) -> None:
    refusal = await refused(alice.send("x", "", request_id="r" * 200))
    assert set(refusal.fields) == {"conversation_id", "content", "request_id"}


BAD_PAGE_TOKENS = (
    "x",
    "not base64!",
    "é",
    "W10=",  # []
    "e30=",  # {}
    "WzEsMl0=",  # [1,2]
    "WyJhIiwiYiIsImMiXQ==",  # ["a","b","c"]
    "Wy0xLC0xXQ==",  # [-1,-1]
    "WzEuNSwiYSJd",  # [1.5,"a"]
    "W3RydWUsImEiXQ==",  # [true,"a"]
    "WzE4NDQ2NzQ0MDczNzA5NTUxNjE1LCJhIl0=",  # [18446744073709551615,"a"]
    "WzE4NDQ2NzQ0MDczNzA5NTUxNjE1XQ==",  # [18446744073709551615]
    "WzEsIlx1MDAwMCJd",  # [1,"\u0000"]
    "WyJcdTAwMDAiXQ==",  # ["\u0000"]
    "W" * 1_025,
)


@ALONE
async def test_a_page_token_that_is_none_is_refused(colloquy: Colloquy, alice: Caller) -> None:
    conversation = await alice.create()
    admin = colloquy.admin
    calls: list[Callable[[str], Any]] = [
        lambda token: alice.call(
            "ListConversations", api.ListConversationsRequest(page_token=token)
        ),
        lambda token: alice.call(
            "ListMessages",
            api.ListMessagesRequest(conversation_id=conversation.id, page_token=token),
        ),
        lambda token: admin.admin.ListAccounts(
            admin_api.ListAccountsRequest(page_token=token), metadata=admin.metadata
        ),
        lambda token: admin.admin.ListApiKeys(
            admin_api.ListApiKeysRequest(account_id=alice.account_id, page_token=token),
            metadata=admin.metadata,
        ),
    ]
    for call in calls:
        for token in BAD_PAGE_TOKENS:
            refusal = await refused(call(token))
            assert (refusal.status, refusal.reason) == ("INVALID_ARGUMENT", "INVALID_FIELD"), token
            assert list(refusal.fields) == ["page_token"]


@ANY
async def test_a_huge_page_size_is_taken_as_200(alice: Caller) -> None:
    for number in range(3):
        await alice.create(title=f"Number {number}")
    page = await alice.call(
        "ListConversations", api.ListConversationsRequest(page_size=2_147_483_647)
    )
    assert len(page.conversations) == 3
    assert page.next_page_token == ""


@ALONE
async def test_a_resume_token_that_is_none_is_refused(alice: Caller) -> None:
    conversation, other = await alice.create(), await alice.create()
    request = api.GetConversationRequest(conversation_id=other.id)
    others = (await alice.call("GetConversation", request)).resume_token
    for token in ("x", "not base64!", "é", others[:-4], others + others, others, "A" * 1_025):
        refusal = await refused(alice.watch(conversation.id, token))
        assert (refusal.status, refusal.reason) == ("INVALID_ARGUMENT", "INVALID_FIELD")
        assert list(refusal.fields) == ["resume_token"]


@ANY
async def test_a_resume_token_with_bytes_changed_never_breaks_the_server(
    colloquy: Colloquy, alice: Caller
) -> None:
    """It may be taken or refused, but what is told is true, and every refusal is ours."""
    await colloquy.restart(heartbeat_interval=0.02)
    alice = alice.at(colloquy)
    conversation = await alice.create(title="Kept")
    stream = alice.send(conversation.id)
    reply = await stream.reply()
    token = base64.urlsafe_b64decode(stream.events[1].resume_token)
    refusals = []
    for place in range(len(token)):
        forged = bytearray(token)
        forged[place] ^= 0xFF
        watch = alice.watch(conversation.id, base64.urlsafe_b64encode(bytes(forged)).decode())
        try:
            await watch.until("heartbeat")
        except grpc.aio.AioRpcError as error:
            refusals.append(read(error))
        for message in watch.transcript.messages.values():
            if message.id == reply.id:
                assert reply.content.startswith(message.content)
        watch.cancel()
    assert {refusal.status for refusal in refusals} == {"INVALID_ARGUMENT"}


@ANY
async def test_bytes_that_are_no_message_are_refused_by_us(alice: Caller) -> None:
    for name in ("SendMessage", "GetMessage", "WatchConversation"):
        method = f"/conversation.v1.ConversationService/{name}"
        send_bytes: Any = alice.channel.unary_stream(method)
        for data in (b"\xff\xff\xff", b"\x0a\x7fabc", b"\x0a\x02\xc3\x28", b"\x0a"):
            call = send_bytes(data, metadata=alice.metadata)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call.read()
            refusal = read(caught.value)
            assert (refusal.status, refusal.reason) == ("INVALID_ARGUMENT", "INVALID_FIELD")


WRONG_KEYS = (
    "",
    "Bearer",
    "Bearer ",
    "Bearer wrong",
    "Basic YTpi",
    "colloquy_without_scheme",
    "Bearer a b",
)


@BY_ALL
async def test_a_wrong_key_is_unauthenticated_whatever_it_asks(
    alice: Caller,
) -> None:
    conversation = await alice.create()
    for authorization, named in itertools.product(WRONG_KEYS, (conversation.id, "malformed")):
        metadata = (("authorization", authorization),) if authorization else ()
        request = api.GetConversationRequest(conversation_id=named)
        refusal = await refused(alice.conversations.GetConversation(request, metadata=metadata))
        assert (refusal.status, refusal.reason) == ("UNAUTHENTICATED", "UNAUTHENTICATED")


@ANY
async def test_the_scheme_of_the_key_may_be_written_in_any_case(alice: Caller) -> None:
    for scheme in ("bearer", "BEARER", "Bearer "):
        metadata = (("authorization", f"{scheme} {alice.key}"),)
        await alice.conversations.ListModels(api.ListModelsRequest(), metadata=metadata)


@ALONE
async def test_an_expired_key_is_unauthenticated(colloquy: Colloquy, alice: Caller) -> None:
    expires = Timestamp()
    expires.FromDatetime(datetime.now(UTC) + timedelta(seconds=2))
    brief = await colloquy.key(alice.account_id, expire_time=expires)
    async with asyncio.timeout(60):
        while True:
            try:
                await brief.call("ListModels", api.ListModelsRequest())
            except grpc.aio.AioRpcError as error:
                refusal = read(error)
                break
    assert datetime.now(UTC) >= expires.ToDatetime(UTC)
    assert (refusal.status, refusal.reason) == ("UNAUTHENTICATED", "UNAUTHENTICATED")


@ANY
async def test_a_key_cannot_be_made_to_have_expired_already(
    colloquy: Colloquy, alice: Caller
) -> None:
    past = Timestamp(seconds=1_000_000)
    refusal = await refused(colloquy.key(alice.account_id, expire_time=past))
    assert (refusal.status, list(refusal.fields)) == ("INVALID_ARGUMENT", ["expire_time"])


@BY_ALL
async def test_too_many_requests_are_told_when_to_come_back(
    colloquy: Colloquy, alice: Caller
) -> None:
    bob = await colloquy.account("bob")
    await colloquy.restart(max_requests_per_second=3)
    alice, bob = alice.at(colloquy), bob.at(colloquy)
    request = api.ListModelsRequest()
    answers = await asyncio.gather(
        *(alice.call("ListModels", request) for _ in range(10)), return_exceptions=True
    )
    refusals = [read(a) for a in answers if isinstance(a, grpc.aio.AioRpcError)]
    assert 6 <= len(refusals) <= 7
    for refusal in refusals:
        assert (refusal.status, refusal.reason) == ("RESOURCE_EXHAUSTED", "RATE_LIMITED")
        assert refusal.retry_delay is not None
        assert 0 < refusal.retry_delay <= 1
        assert len(refusal.quota) == 1
    await bob.call("ListModels", request)  # another key has its own rate
    again = await colloquy.key(alice.account_id)
    await again.call("ListModels", request)


@BY_ALL
async def test_no_status_tells_what_the_provider_said(colloquy: Colloquy, alice: Caller) -> None:
    """The double's errors hold a key and a secret: `Refusal` and this look for them."""
    colloquy.provider.script(Answer(status=400), Answer(status=401))
    conversation = await alice.create(title="Kept")
    for _ in range(2):
        reply = await alice.send(conversation.id).reply()
        assert reply.state == resources.Message.STATE_FAILED
        assert "secret" not in str(reply)
        assert "sk-" not in str(reply)
