"""What is wrong with a call is told in one order: who calls, what they may, the request's fields,
what they name."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from colloquy.api import admin_service_pb2 as admin_api
from colloquy.api import conversation_service_pb2 as api
from colloquy.api import resources_pb2 as resources

from tests.fleets import BY_ALL
from tests.harness import PROVISIONING_KEY, Caller, Colloquy
from tests.statuses import refused

NOWHERE = "01890000-0000-7000-8000-000000000000"
SOMEBODY = resources.User(external_id="somebody else")

ADMINISTRATION: list[Any] = [
    admin_api.DeleteAccountRequest(account_id="x"),
    admin_api.DeleteUserRequest(user_id="x"),
    admin_api.ListApiKeysRequest(account_id="x"),
    admin_api.RevokeApiKeyRequest(api_key_id="x"),
    admin_api.UpdateAccountRequest(account_id="x"),
]
TALK: list[Any] = [
    api.GetConversationRequest(conversation_id="x"),
    api.DeleteMessageRequest(message_id="x"),
    api.SendMessageRequest(conversation_id="x", author=SOMEBODY),
    api.RateReplyRequest(message_id="x", author=SOMEBODY),
]


def ask(caller: Caller, request: Any) -> Any:
    """The call whose request this is."""
    name = type(request).__name__.removesuffix("Request")
    stub = caller.admin if hasattr(caller.admin, name) else caller.conversations
    call = getattr(stub, name)(request, metadata=caller.metadata)
    return call.read() if hasattr(call, "read") else call


@BY_ALL
@pytest.mark.parametrize("request_", [*ADMINISTRATION, *TALK], ids=lambda r: type(r).__name__)
async def test_each_check_comes_before_the_next(colloquy: Colloquy, request_: Any) -> None:
    request_ = copy.deepcopy(request_)  # it is filled in, and the next test has it too
    alice = await colloquy.account()
    mia = await colloquy.key(
        alice.account_id, admin_api.ApiKey.ROLE_MEMBER, user=resources.User(external_id="mia")
    )
    stranger = Caller(colloquy.channel, "x")
    provisioning = Caller(colloquy.channel, PROVISIONING_KEY)
    is_administration = request_ in ADMINISTRATION
    may, may_not = (
        (colloquy.admin, [alice, mia, provisioning])
        if is_administration
        else (alice, [colloquy.admin, provisioning])
    )
    if "author" in request_.DESCRIPTOR.fields_by_name:
        may_not.append(mia)
    refusal = await refused(ask(stranger, request_))
    assert (refusal.status, refusal.reason) == ("UNAUTHENTICATED", "UNAUTHENTICATED")
    for caller in may_not:
        refusal = await refused(ask(caller, request_))
        assert (refusal.status, refusal.reason) == ("PERMISSION_DENIED", "PERMISSION_DENIED")
        assert not refusal.fields
    refusal = await refused(ask(may, request_))
    assert (refusal.status, refusal.reason) == ("INVALID_ARGUMENT", "INVALID_FIELD")
    [field] = {each for each in refusal.fields if each != "content"}
    if "content" in request_.DESCRIPTOR.fields_by_name:
        request_.content = "Hello"
    setattr(request_, field, NOWHERE)
    refusal = await refused(ask(may, request_))
    assert (refusal.status, refusal.reason) == (
        "NOT_FOUND",
        f"{field.removesuffix('_id').upper()}_NOT_FOUND",
    )
