"""Streams that break, overlap and repeat themselves become one clean sequence."""

from __future__ import annotations

import pytest
from colloquy import Transcript
from colloquy.api.conversation_service_pb2 import ConversationEvent
from colloquy.api.resources_pb2 import Conversation, Message, Rating
from colloquy.deduplication import Deduplicator
from colloquy.errors import OutOfOrder
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.history import Reader, accepted, as_it_stood, history, more, reply, told

attempts_of_pieces = st.lists(
    st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=5), min_size=1, max_size=3
)
states = st.sampled_from([Message.STATE_COMPLETED, Message.STATE_FAILED, Message.STATE_CANCELLED])


def stream_from(
    events: list[ConversationEvent], token: str, now: int, mode: str
) -> list[ConversationEvent]:
    """What a watcher with a token is told that comes when `now` events have happened."""
    start = int(token)
    rest = events[start:]
    if mode == "deltas" or now <= start:
        return rest
    missed = events[start:now]
    told_now = [told(as_it_stood(events, now), str(now))]
    told_now += [
        ConversationEvent(resume_token=str(now), conversation=event.conversation)
        for event in missed
        if event.HasField("conversation")
    ]
    if mode == "resync":
        return told_now + events[now:]
    # One larger delta, for a watcher that fell behind, when that is all there is to tell.
    if all(event.HasField("delta") for event in missed):
        first = missed[0].delta
        text = "".join(event.delta.text for event in missed)
        return [more(text, first.offset, first.attempt, str(now)), *events[now:]]
    return told_now + events[now:]


@settings(deadline=None)
@given(attempts_of_pieces, states, st.data())
def test_each_piece_comes_once_however_the_streams_break(
    attempts: list[list[str]], state: Message.State.ValueType, data: st.DataObject
) -> None:
    events = history(attempts, state)
    deduplicator, reader = Deduplicator(), Reader()
    attached = data.draw(st.integers(1, len(events) - 1), "`accepted` comes after")
    reader.read(deduplicator.apply(accepted(str(attached), as_it_stood(events, attached))))
    while not reader.finals:
        now = data.draw(st.integers(int(deduplicator.token), len(events)), "happened so far")
        mode = data.draw(st.sampled_from(["deltas", "resync", "larger"]), "the server's answer")
        stream = stream_from(events, deduplicator.token, now, mode)
        for event in stream[: data.draw(st.integers(1, len(stream)), "breaks after")]:
            reader.read(deduplicator.apply(event))
    assert reader.accepted == 1
    assert len(reader.finals) == 1
    assert reader.finals[0] == events[-1].message
    assert reader.text == "".join(attempts[-1]) == reader.finals[0].content


@settings(deadline=None)
@given(attempts_of_pieces, st.data())
def test_whoever_resumes_from_any_piece_is_told_the_rest(
    attempts: list[list[str]], data: st.DataObject
) -> None:
    events = history(attempts)
    deduplicator, transcript = Deduplicator(), Transcript()
    now = data.draw(st.integers(1, len(events)))
    pieces = list(deduplicator.apply(events[0]))
    for event in stream_from(events, "1", now, "resync"):
        pieces += deduplicator.apply(event)
    kept = data.draw(st.integers(1, len(pieces)))
    for piece in pieces[:kept]:
        transcript.apply(piece)
    # Another process that holds the same goes on from the token of the last piece.
    other = Deduplicator(pieces[kept - 1].resume_token)
    for event in events[int(other.token) :]:
        for piece in other.apply(event):
            transcript.apply(piece)
    assert transcript.messages["reply"].text == "".join(attempts[-1])


def test_text_that_a_message_tells_instead_of_deltas_becomes_a_delta() -> None:
    deduplicator = Deduplicator()
    deduplicator.apply(accepted("1"))
    deduplicator.apply(more("ab", 0, token="2"))
    final = told(reply("abcdef", state=Message.STATE_COMPLETED), "9")
    delta, last = deduplicator.apply(final)
    assert (delta.delta.offset, delta.delta.text) == (2, "cdef")
    assert delta.resume_token == "2", "whoever stops here must still be told the end"
    assert last == final


def test_an_attempt_that_was_missed_begins_without_text() -> None:
    deduplicator = Deduplicator()
    deduplicator.apply(accepted("1"))
    deduplicator.apply(more("ab", 0, token="2"))
    final = reply("xyz", 3, Message.STATE_FAILED)
    final.error.message = "it broke"
    begun, delta, last = deduplicator.apply(told(final, "9"))
    assert begun.message == reply("", 3)
    assert (delta.delta.attempt, delta.delta.offset, delta.delta.text) == (3, 0, "xyz")
    assert last.message == final


def test_a_final_text_that_takes_words_back_replaces_them() -> None:
    deduplicator = Deduplicator()
    deduplicator.apply(accepted("1"))
    deduplicator.apply(more("abcdef", 0, token="2"))
    final = told(reply("abc", state=Message.STATE_CANCELLED), "3")
    assert deduplicator.apply(final) == [final]


def test_an_older_state_of_a_message_is_not_told() -> None:
    deduplicator = Deduplicator()
    deduplicator.apply(accepted("1"))
    deduplicator.apply(more("abc", 0, token="2"))
    assert deduplicator.apply(told(reply("ab"), "3")) == []
    deduplicator.apply(told(reply("", 2), "4"))
    assert deduplicator.apply(told(reply("abc", 1), "5")) == []
    assert deduplicator.token == "5"


def test_a_gap_is_an_error_and_keeps_the_token() -> None:
    deduplicator = Deduplicator()
    deduplicator.apply(accepted("1"))
    with pytest.raises(OutOfOrder):
        deduplicator.apply(more("x", 5, token="2"))
    assert deduplicator.token == "1"


def test_without_a_token_text_of_an_unknown_message_is_a_gap() -> None:
    with pytest.raises(OutOfOrder):
        Deduplicator().apply(more("x", 0))


def test_with_a_token_the_first_delta_may_continue_what_the_caller_holds() -> None:
    deduplicator = Deduplicator("7")
    assert deduplicator.apply(more("x", 5, token="8"))
    with pytest.raises(OutOfOrder):
        deduplicator.apply(more("z", 7, token="9"))


def test_a_finished_message_is_told_again_when_it_changes() -> None:
    deduplicator = Deduplicator()
    final = reply("abc", state=Message.STATE_COMPLETED)
    assert deduplicator.apply(told(final))
    assert deduplicator.apply(told(final)) == []
    rated = Message()
    rated.CopyFrom(final)
    rated.rating = Rating.RATING_GOOD
    assert deduplicator.apply(told(rated))
    assert deduplicator.apply(more("late", 3)) == []


def test_a_conversation_is_told_when_it_changes() -> None:
    deduplicator = Deduplicator()
    event = ConversationEvent(conversation=Conversation(title="T"))
    assert deduplicator.apply(event) == [event]
    assert deduplicator.apply(event) == []


def test_heartbeats_and_events_of_a_newer_server_only_move_the_token() -> None:
    deduplicator = Deduplicator()
    beat = ConversationEvent.Heartbeat()
    assert deduplicator.apply(ConversationEvent(resume_token="5", heartbeat=beat)) == []
    assert deduplicator.apply(ConversationEvent(resume_token="6")) == []
    assert deduplicator.token == "6"


def test_a_long_conversation_does_not_fill_the_memory() -> None:
    deduplicator = Deduplicator()
    for number in range(2000):
        message = reply("x", state=Message.STATE_COMPLETED)
        message.id = str(number)
        deduplicator.apply(told(message))
    assert len(deduplicator._seen) <= 256
