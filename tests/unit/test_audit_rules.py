"""The audit trail: which calls are in it, and that nobody can fill it."""

from __future__ import annotations

from typing import Any

import pytest
from colloquy.api import (
    admin_service_pb2,
    attachment_service_pb2,
    conversation_service_pb2,
    session_service_pb2,
)
from colloquy.api import conversation_service_pb2 as api
from colloquy_server.api import audit
from colloquy_server.api.audit import AUDITED
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor

NOT_AUDITED = {
    # They read.
    *("GetConversation", "ListConversations", "ListMessages", "GetMessage", "SearchMessages"),
    *("WatchConversation", "WatchConversations", "ListUsers", "ListModels"),
    *("GetAttachment", "DownloadAttachment"),
    *("ListAccounts", "ListApiKeys", "ListAuditEvents", "GetSession", "ListSessions"),
    *("ListWebhooks", "ListDeadLetters"),
    *("ListBudgets", "GetUsage"),
    # What they do is seen in the conversation itself, which says who did it.
    *("CreateConversation", "SendMessage", "RegenerateReply", "CancelReply", "RateReply"),
    "UploadAttachment",
    # It is nobody else's business.
    "MarkRead",
}

METHODS = [
    method
    for module in (
        *(admin_service_pb2, attachment_service_pb2, conversation_service_pb2),
        session_service_pb2,
    )
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: str(method.name))
def test_each_rpc_is_audited_or_is_said_not_to_be(method: MethodDescriptor) -> None:
    assert (method.name in AUDITED) != (method.name in NOT_AUDITED)


def test_no_name_is_of_an_rpc_that_is_not_there() -> None:
    assert {*AUDITED, *NOT_AUDITED} == {method.name for method in METHODS}


@pytest.mark.parametrize("name", AUDITED)
def test_what_a_call_is_done_to_is_an_id_in_its_request_or_response(name: str) -> None:
    method = next(method for method in METHODS if method.name == name)
    for path in filter(None, (AUDITED[name].target, AUDITED[name].account)):
        beginning, *names = path.split(".")
        message = {"request": method.input_type, "response": method.output_type}[beginning]
        for field in names[:-1]:
            inner = message.fields_by_name[field].message_type
            assert inner is not None
            message = inner
        assert message.fields_by_name[names[-1]].type == FieldDescriptor.TYPE_STRING
        assert names[-1].endswith("id")


@pytest.mark.parametrize(
    ("request_", "is_noted"),
    [
        ({"conversation": {"title": "T"}}, False),
        ({"conversation": {"title": "T", "visibility": 2}}, True),
        ({"conversation": {"title": "T", "visibility": 2}, "update_mask": "title"}, False),
        ({"conversation": {"visibility": 2}, "update_mask": "visibility"}, True),
        ({"conversation": {"archived": True}}, True),
        ({"conversation": {"archived": False}, "update_mask": "archived"}, True),
        ({"conversation": {"pinned": True}}, False),
        ({"conversation": {"expire_time": {"seconds": 1}}}, True),
        ({"conversation": {}, "update_mask": "expire_time"}, True),
    ],
)
def test_a_change_of_a_conversation_is_noted_if_it_may_hide_or_end_it(
    request_: dict[str, Any], is_noted: bool
) -> None:
    request = api.UpdateConversationRequest(conversation=request_["conversation"])
    if "update_mask" in request_:
        request.update_mask.paths.append(request_["update_mask"])
    assert AUDITED["UpdateConversation"].when(request) is is_noted


def test_the_same_is_news_once_and_no_subject_has_news_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    news = audit._News(3 * audit._EACH)
    assert [news.is_new("key", "SignIn", "1.1.1.1") for _ in range(3)] == [True, False, False]
    noted = sum(news.is_new("key", "SignIn", f"{n}") for n in range(10 * audit._EACH))
    assert noted == audit._EACH - 1
    assert news.is_new("another key", "SignIn", "1.1.1.1")
    noted = sum(news.is_new(f"{n}", "SignIn", "1.1.1.1") for n in range(10 * audit._EACH))
    assert noted == 2 * audit._EACH - 1, "nor have all of them together"
    monkeypatch.setattr(news, "_until", 0.0)
    assert news.is_new("key", "SignIn", "1.1.1.1"), "in the next hour it is news again"
