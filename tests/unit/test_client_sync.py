"""The sync client, driven without a network by grpcio-testing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal, TypeVar

import grpc
import grpc_testing
import pytest
from colloquy import AdminClient, ConversationClient
from colloquy.api import admin_service_pb2 as admin_pb
from colloquy.api import attachment_service_pb2 as attachment_pb
from colloquy.api import conversation_service_pb2 as pb
from colloquy.api.conversation_service_pb2 import ConversationEvent
from colloquy.api.resources_pb2 import Conversation, Message
from colloquy.errors import (
    AlreadyExists,
    Busy,
    ColloquyError,
    DeadlineExceeded,
    InvalidArgument,
    ResourceExhausted,
    Unavailable,
)
from colloquy.retry import Timing
from colloquy.sync.timed_reader import TimedReader
from google.rpc import status_pb2

from tests.fakes.door import status
from tests.fakes.history import Reader, accepted, history, more, reply, told

T = TypeVar("T")
SERVICES = [
    file.DESCRIPTOR.services_by_name[name]
    for file, name in (
        (pb, "ConversationService"),
        (attachment_pb, "AttachmentService"),
        (admin_pb, "AdminService"),
    )
]
GONE = status(grpc.StatusCode.UNAVAILABLE)


class Wire:
    """The other end of a client: takes its calls in order and answers them."""

    def __init__(self) -> None:
        self.channel = grpc_testing.channel(SERVICES, grpc_testing.strict_real_time())
        self.waits: list[float] = []
        self.client = ConversationClient(
            "127.0.0.1:1",
            "clq_key",
            channel=self.channel,
            sleep=self.waits.append,
            timing=Timing(random=lambda: 1.0),
            silence=30,
        )
        self._pool = ThreadPoolExecutor()

    def run(self, what: Callable[[], T]) -> Future[T]:
        """Use the client in a thread of its own."""
        return self._pool.submit(what)

    def answer(self, name: str, response: Any) -> Any:
        """Answer the next call of a method, with a message or a status; return its request."""
        metadata, request, rpc = self.channel.take_unary_unary(method(name))
        assert ("authorization", "Bearer clq_key") in metadata
        bad = isinstance(response, status_pb2.Status)
        code, details, trailing = ending(response if bad else None)
        rpc.terminate(None if bad else response, trailing, code, details)
        return request

    def stream(
        self, name: str, events: list[ConversationEvent], end: status_pb2.Status | None = None
    ) -> Any:
        """Take the next call of a streaming method, tell it events, end it; return its request.

        grpcio-testing forgets what was not read yet when a call fails, so a break in the middle is
        an end with OK here; tests/integration/test_client_resume.py breaks streams as they do.
        """
        metadata, request, rpc = self.channel.take_unary_stream(method(name))
        assert ("authorization", "Bearer clq_key") in metadata
        rpc.send_initial_metadata(())
        response = {
            "SendMessage": pb.SendMessageResponse,
            "RegenerateReply": pb.RegenerateReplyResponse,
            "WatchConversation": pb.WatchConversationResponse,
        }[name]
        for event in events:
            rpc.send_response(response(event=event))
        code, details, trailing = ending(end)
        rpc.terminate(trailing, code, details)
        return request

    def close(self) -> None:
        self._pool.shutdown()


def method(name: str) -> Any:
    return next(s.methods_by_name[name] for s in SERVICES if name in s.methods_by_name)


def ending(end: status_pb2.Status | None) -> tuple[grpc.StatusCode, str, tuple[Any, ...]]:
    if end is None:
        return grpc.StatusCode.OK, "", ()
    code = next(c for c in grpc.StatusCode if c.value[0] == end.code)
    return code, end.message, (("grpc-status-details-bin", end.SerializeToString()),)


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = Wire()
    yield made
    made.close()


def test_an_answer_that_holds_one_thing_is_that_thing(wire: Wire) -> None:
    made = wire.run(lambda: wire.client.create_conversation(title="T", model="m"))
    response = pb.CreateConversationResponse(conversation=Conversation(id="c", title="T"))
    request = wire.answer("CreateConversation", response)
    assert (request.title, request.model) == ("T", "m")
    assert len(request.request_id) == 36
    assert made.result() == Conversation(id="c", title="T")


def test_other_answers_come_whole(wire: Wire) -> None:
    got = wire.run(lambda: wire.client.get_conversation("c"))
    response = pb.GetConversationResponse(conversation=Conversation(id="c"), resume_token="7")
    wire.answer("GetConversation", response)
    assert got.result() == response


def test_a_call_is_made_again_with_the_same_request_id(wire: Wire) -> None:
    made = wire.run(wire.client.create_conversation)
    first = wire.answer("CreateConversation", GONE)
    second = wire.answer("CreateConversation", GONE)
    response = pb.CreateConversationResponse(conversation=Conversation(id="c"))
    third = wire.answer("CreateConversation", response)
    assert first == second == third
    assert made.result().id == "c"
    assert wire.waits == [0.1, 0.2]


def test_a_call_that_might_be_done_twice_is_not_repeated(wire: Wire) -> None:
    deleted = wire.run(lambda: wire.client.delete_conversation("c"))
    wire.answer("DeleteConversation", GONE)
    with pytest.raises(Unavailable):
        deleted.result()


def test_a_rate_limit_is_waited_for_as_long_as_the_server_says(wire: Wire) -> None:
    models = wire.run(wire.client.list_models)
    limited = status(grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED", retry_after=1.5)
    wire.answer("ListModels", limited)
    wire.answer("ListModels", pb.ListModelsResponse(default_model="m"))
    assert models.result().default_model == "m"
    assert wire.waits == [1.5]


def test_bad_fields_are_in_the_exception(wire: Wire) -> None:
    got = wire.run(lambda: wire.client.get_message("x"))
    wire.answer(
        "GetMessage",
        status(
            grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "bad", fields={"message_id": "uuid"}
        ),
    )
    with pytest.raises(InvalidArgument) as raised:
        got.result()
    assert raised.value.fields == {"message_id": "uuid"}


def test_only_what_is_given_is_changed(wire: Wire) -> None:
    changed = wire.run(lambda: wire.client.update_conversation("c", title=""))
    request = wire.answer("UpdateConversation", pb.UpdateConversationResponse())
    assert list(request.update_mask.paths) == ["title"]
    changed.result()


def test_a_time_to_end_is_set_and_taken_away(wire: Wire) -> None:
    end = datetime(2999, 1, 1, tzinfo=UTC)
    times: tuple[datetime | Literal["never"], ...] = (end, "never")
    for expire_time in times:
        changed = wire.run(partial(wire.client.update_conversation, "c", expire_time=expire_time))
        request = wire.answer("UpdateConversation", pb.UpdateConversationResponse())
        assert list(request.update_mask.paths) == ["expire_time"]
        assert request.conversation.HasField("expire_time") == (expire_time == end)
        changed.result()
    made = wire.run(lambda: wire.client.create_conversation(expire_time=end))
    request = wire.answer("CreateConversation", pb.CreateConversationResponse())
    assert request.expire_time.ToDatetime(UTC) == end
    made.result()


def test_a_cancel_that_comes_before_its_request_has_no_message(wire: Wire) -> None:
    cancelled = wire.run(lambda: wire.client.cancel_reply(conversation_id="c", request_id="r"))
    wire.answer("CancelReply", pb.CancelReplyResponse())
    assert cancelled.result() is None


def test_all_pages_are_iterated_over(wire: Wire) -> None:
    names = wire.run(lambda: [message.id for message in wire.client.messages("c")])
    page = pb.ListMessagesResponse(messages=[Message(id="1")], next_page_token="next")
    assert wire.answer("ListMessages", page).page_token == ""
    page = pb.ListMessagesResponse(messages=[Message(id="2")])
    assert wire.answer("ListMessages", page).page_token == "next"
    assert names.result() == ["1", "2"]


def read_all(events: Iterator[ConversationEvent]) -> Reader:
    reader = Reader()
    reader.read(events)
    return reader


def test_a_whole_reply(wire: Wire) -> None:
    events = [event for event in history([["Hel", "lo"]]) if not event.HasField("conversation")]
    seen = wire.run(lambda: list(wire.client.send("c", "Hi", request_id="r-1")))
    request = wire.stream("SendMessage", events)
    assert (request.conversation_id, request.content, request.request_id) == ("c", "Hi", "r-1")
    assert seen.result() == events


@pytest.mark.parametrize("first", range(9))
@pytest.mark.parametrize("second", range(9))
def test_each_piece_comes_once_wherever_it_breaks(wire: Wire, first: int, second: int) -> None:
    events = history([["He", "l"], ["Hello", " ", "you"]])
    read = wire.run(lambda: read_all(wire.client.send("c", "Hi")))
    sent = wire.stream("SendMessage", events[:first])
    if first == 0:
        again = wire.stream("SendMessage", events[:second])
        assert again == sent
        assert sent.request_id
        rest = second
    else:
        watched = wire.stream("WatchConversation", events[first : first + second])
        assert (watched.conversation_id, watched.resume_token) == ("c", str(first))
        rest = min(first + second, len(events))
    if rest < len(events):
        wire.stream("WatchConversation" if rest else "SendMessage", events[rest:])
    reader = read.result()
    assert (reader.accepted, len(reader.finals)) == (1, 1)
    assert reader.text == "Hello you" == reader.finals[0].content


def test_a_reply_can_be_awaited_whole(wire: Wire) -> None:
    asked = wire.run(lambda: wire.client.ask("c", "Hi"))
    wire.stream("SendMessage", history([["Hello"]]))
    assert asked.result().content == "Hello"


def test_a_reply_is_made_again(wire: Wire) -> None:
    remade = wire.run(lambda: wire.client.regenerate("reply", model="m").result())
    request = wire.stream("RegenerateReply", history([["Hello"]])[:2])
    assert (request.message_id, request.model) == ("reply", "m")
    wire.stream("WatchConversation", history([["Hello"]])[2:])
    assert remade.result().content == "Hello"


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (status(grpc.StatusCode.ABORTED, "CONVERSATION_BUSY"), Busy),
        (status(grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED"), AlreadyExists),
        (status(grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL"), ResourceExhausted),
    ],
)
def test_a_refusal_is_raised(
    wire: Wire, answer: status_pb2.Status, kind: type[ColloquyError]
) -> None:
    sent = wire.run(lambda: list(wire.client.send("c", "Hi", on_busy=pb.ON_BUSY_REJECT)))
    assert wire.stream("SendMessage", [], answer).on_busy == pb.ON_BUSY_REJECT
    with pytest.raises(kind):
        sent.result()


def test_breaking_off_cancels_the_call(wire: Wire) -> None:
    def first_event() -> ConversationEvent:
        for event in wire.client.send("c", "Hi"):
            return event
        raise AssertionError

    first = wire.run(first_event)
    _, _, rpc = wire.channel.take_unary_stream(method("SendMessage"))
    rpc.send_initial_metadata(())
    rpc.send_response(pb.SendMessageResponse(event=accepted()))
    assert first.result() == accepted()
    rpc.cancelled()


def test_closing_the_reply_cancels_the_call_too(wire: Wire) -> None:
    def first_event() -> ConversationEvent:
        with wire.client.send("c", "Hi") as events:
            return next(events)

    first = wire.run(first_event)
    _, _, rpc = wire.channel.take_unary_stream(method("SendMessage"))
    rpc.send_initial_metadata(())
    rpc.send_response(pb.SendMessageResponse(event=accepted()))
    assert first.result() == accepted()
    rpc.cancelled()


def test_a_server_that_falls_silent_is_left() -> None:
    wire = Wire()
    wire.client._silence = 0.05
    read = wire.run(lambda: read_all(wire.client.send("c", "Hi")))
    _, _, rpc = wire.channel.take_unary_stream(method("SendMessage"))
    rpc.send_initial_metadata(())
    rpc.send_response(pb.SendMessageResponse(event=accepted("1")))
    rpc.send_response(pb.SendMessageResponse(event=more("ab", 0, token="2")))
    rpc.cancelled()
    final = told(reply("ab", state=Message.STATE_COMPLETED), "3")
    assert wire.stream("WatchConversation", [final]).resume_token == "2"
    assert read.result().text == "ab"
    wire.close()


def test_a_caller_that_takes_its_time_is_not_silence() -> None:
    class Call:
        cancelled = False

        def __iter__(self) -> Iterator[int]:
            return iter(range(2))

        def cancel(self) -> None:
            self.cancelled = True

    call = Call()
    reader = TimedReader(call)
    for expected in range(2):
        assert reader.read(0.01) == expected
        threading.Event().wait(0.05)
        assert not call.cancelled
    reader.close()


def test_a_timeout_ends_a_reply_that_takes_too_long(wire: Wire) -> None:
    sent = wire.run(lambda: list(wire.client.send("c", "Hi", timeout=0.05)))
    _, _, rpc = wire.channel.take_unary_stream(method("SendMessage"))
    rpc.send_initial_metadata(())
    rpc.send_response(pb.SendMessageResponse(event=accepted()))
    rpc.cancelled()
    with pytest.raises(DeadlineExceeded):
        sent.result()


def test_a_watcher_comes_back_and_ends_with_the_conversation(wire: Wire) -> None:
    watched = wire.run(lambda: list(wire.client.watch("c", "5")))
    assert wire.stream("WatchConversation", [more("x", 3, token="6")]).resume_token == "5"
    gone = ConversationEvent(resume_token="7", deleted=ConversationEvent.Deleted())
    assert wire.stream("WatchConversation", [gone]).resume_token == "6"
    assert watched.result()[-1] == gone


def test_the_platform_key_opens_the_admin_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADMIN_API_KEY", "clq_key")
    wire = Wire()
    client = AdminClient(channel=wire.channel, sleep=wire.waits.append)
    made = wire.run(lambda: client.create_account("Acme"))
    wire.answer("CreateAccount", GONE)
    with pytest.raises(Unavailable):
        made.result()
    made = wire.run(lambda: client.create_account("Acme", external_id="acme"))
    wire.answer("CreateAccount", GONE)
    account = admin_pb.Account(id="a", name="Acme")
    wire.answer("CreateAccount", admin_pb.CreateAccountResponse(account=account))
    assert made.result() == account
    wire.close()
