"""Replace and append: what a reader of the events holds."""

from __future__ import annotations

import pytest
from colloquy import ReplyText, Transcript
from colloquy.api.conversation_service_pb2 import ConversationEvent
from colloquy.api.resources_pb2 import Conversation, Message
from colloquy.errors import OutOfOrder
from colloquy.transcript import unseen
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.history import history, more, reply, told

pieces = st.lists(st.text(min_size=1), max_size=6)


@settings(deadline=None)
@given(st.lists(pieces, min_size=1, max_size=3))
def test_a_transcript_ends_with_the_text_of_the_last_attempt(attempts: list[list[str]]) -> None:
    transcript = Transcript()
    for event in history(attempts):
        transcript.apply(event)
    assert transcript.messages["reply"].text == "".join(attempts[-1])
    assert transcript.messages["reply"].message.state == Message.STATE_COMPLETED
    assert list(transcript.messages) == ["prompt", "reply"]
    assert transcript.conversation is not None
    assert transcript.conversation.title == "A title"


@settings(deadline=None)
@given(pieces, st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=10))
def test_pieces_that_come_again_or_overlap_change_nothing(
    parts: list[str], cuts: list[tuple[float, float]]
) -> None:
    whole = "".join(parts)
    held = ReplyText(reply())
    for back, ahead in [*cuts, (0, 1)]:
        start = round(len(held) * (1 - back))
        end = start + round((len(whole) - start) * ahead)
        before = held.text
        new = held.append(more(whole[start:end], start).delta)
        assert held.text == before + new == whole[: max(len(before), end)]
    assert held.text == whole


def test_what_is_deleted_is_held_no_more() -> None:
    transcript = Transcript()
    for event in history([["gone"]]):
        transcript.apply(event)
    gone = Message(id="reply", state=Message.STATE_COMPLETED, deleted=True)
    for _ in range(2):
        transcript.apply(ConversationEvent(message=gone))
    assert list(transcript.messages) == ["prompt"]


def test_offsets_count_code_points() -> None:
    held = ReplyText(reply("🙂é"))
    assert held.append(more("x", 2).delta) == "x"
    assert held.text == "🙂éx"
    assert len(held) == 3


def test_missing_text_is_an_error_and_changes_nothing() -> None:
    held = ReplyText(reply("ab"))
    with pytest.raises(OutOfOrder, match="begins at 3 of attempt 1, held are 2"):
        held.append(more("d", 3).delta)
    assert held.text == "ab"


def test_text_of_an_attempt_that_has_not_begun_is_an_error() -> None:
    with pytest.raises(OutOfOrder):
        ReplyText(reply("ab")).append(more("x", 0, attempt=2).delta)


def test_text_of_an_old_attempt_is_not_new() -> None:
    assert unseen(more("old", 0, attempt=1).delta, 2, 0) == ""


def test_a_finished_message_takes_no_more_text() -> None:
    held = ReplyText(reply("ab", state=Message.STATE_CANCELLED))
    assert held.append(more("c", 2).delta) == ""
    assert held.text == "ab"


def test_a_message_replaces_what_is_held() -> None:
    held = ReplyText(reply("ab"))
    held.append(more("c", 2).delta)
    held.replace(reply("", attempt=2))
    assert held.text == ""
    assert held.append(more("new", 0, attempt=2).delta) == "new"


def test_text_for_a_message_that_nobody_told_of_is_an_error() -> None:
    with pytest.raises(OutOfOrder, match="not known"):
        Transcript().apply(more("x", 0))


def test_a_transcript_knows_that_the_conversation_is_gone() -> None:
    transcript = Transcript()
    transcript.apply(told(reply("ab")))
    transcript.apply(ConversationEvent(conversation=Conversation(title="T")))
    transcript.apply(ConversationEvent(heartbeat=ConversationEvent.Heartbeat()))
    assert not transcript.deleted
    transcript.apply(ConversationEvent(deleted=ConversationEvent.Deleted()))
    assert transcript.deleted
