"""What a client does when its stream breaks, event by event and without a network."""

from __future__ import annotations

import pytest
from colloquy.api.conversation_service_pb2 import ConversationEvent, ConversationsEvent
from colloquy.api.resources_pb2 import Conversation, Message
from colloquy.errors import DeadlineExceeded, NotFound, OutOfOrder, Unavailable
from colloquy.resumption import IndexResumption, ReplyResumption, WatchResumption
from colloquy.retry import Retry, Timing

from tests.fakes.history import PROMPT, accepted, history, more, reply, told


class Clock:
    """A clock that stands still until it is moved."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def retry(clock: Clock | None = None, timeout: float | None = None) -> Retry:
    return Retry(patience=10, timeout=timeout, timing=Timing(clock or Clock(), lambda: 1.0))


def heartbeat(token: str) -> ConversationEvent:
    return ConversationEvent(resume_token=token, heartbeat=ConversationEvent.Heartbeat())


@pytest.fixture
def following() -> ReplyResumption:
    return ReplyResumption("r-1", retry())


def test_before_accepted_the_call_is_made_again(following: ReplyResumption) -> None:
    assert following.token is None
    assert following.receive(heartbeat("3")) == []
    assert following.backoff(Unavailable("gone")) <= 0.1
    assert following.token is None
    assert following.conversation_id == ""


def test_after_accepted_it_is_watched_from_the_last_token(following: ReplyResumption) -> None:
    following.receive(accepted("1"))
    assert following.token == "1"
    assert following.conversation_id == "c"
    following.receive(more("ab", 0, token="2"))
    following.backoff(Unavailable("gone"))
    assert following.token == "2"
    assert following.receive(heartbeat("7")) == []
    assert following.token == "7"


def test_the_prompt_and_the_reply_are_at_hand(following: ReplyResumption) -> None:
    for event in history([["ab"], ["cd"]]):
        following.receive(event)
    assert following.prompt == PROMPT
    assert following.reply == reply("cd", 2, Message.STATE_COMPLETED)
    assert following.done


def test_what_a_watcher_is_told_beyond_the_reply_is_left_out(following: ReplyResumption) -> None:
    following.receive(accepted("1"))
    other = reply("other")
    other.id = "other"
    assert following.receive(told(other, "2")) == []
    assert following.receive(ConversationEvent(conversation=Conversation(title="T"))) == []
    delta = ConversationEvent.Delta(message_id="other", attempt=1, offset=5, text="x")
    assert following.receive(ConversationEvent(resume_token="3", delta=delta)) == []
    assert following.token == "3"
    assert not following.done


def test_the_prompt_told_again_is_left_out(following: ReplyResumption) -> None:
    following.receive(accepted("1"))
    assert following.receive(told(PROMPT, "2")) == []


@pytest.mark.parametrize(
    "state", [Message.STATE_COMPLETED, Message.STATE_FAILED, Message.STATE_CANCELLED]
)
def test_it_ends_with_the_final_message(
    following: ReplyResumption, state: Message.State.ValueType
) -> None:
    following.receive(accepted("1"))
    assert following.receive(told(reply("", state=state), "2"))
    assert following.done


def test_a_repeated_request_may_find_the_reply_finished(following: ReplyResumption) -> None:
    finished = reply("all of it", state=Message.STATE_COMPLETED)
    first, text, last = following.receive(accepted("5", finished))
    assert first == accepted("", reply())
    assert text == more("all of it", 0, token="")
    assert last == told(finished, "5")
    assert following.done


def test_a_repeated_request_is_told_the_text_so_far_as_text(following: ReplyResumption) -> None:
    """Whoever prints the deltas prints the whole reply, also after a break before `accepted`."""
    first, text = following.receive(accepted("5", reply("so far", 2)))
    assert first == accepted("", reply("", 2))
    assert text == more("so far", 0, 2, token="5")
    assert following.receive(more(", on", 6, 2, token="6")) == [more(", on", 6, 2, token="6")]
    assert following.reply == reply("so far", 2)
    assert not following.done


def test_it_ends_when_the_conversation_is_deleted(following: ReplyResumption) -> None:
    following.receive(accepted("1"))
    assert following.receive(ConversationEvent(deleted=ConversationEvent.Deleted()))
    assert following.done


def test_a_conversation_that_never_was_is_an_error(following: ReplyResumption) -> None:
    watching = WatchResumption("7", retry())
    for resumption in (following, watching):
        assert resumption.disconnected(NotFound("gone")) == []
        assert not resumption.done
        with pytest.raises(NotFound):
            resumption.backoff(NotFound("gone"))


def test_a_conversation_that_was_deleted_while_nobody_listened(following: ReplyResumption) -> None:
    watching = WatchResumption("7", retry())
    following.receive(accepted("1"))
    watching.receive(heartbeat("8"))
    for resumption in (following, watching):
        assert resumption.disconnected(Unavailable("gone")) == []
        (event,) = resumption.disconnected(NotFound("gone"))
        assert event.HasField("deleted")
        assert event.resume_token == resumption.token
        assert resumption.done


def test_an_end_without_a_final_message_is_a_break(following: ReplyResumption) -> None:
    following.receive(accepted("1"))
    assert following.backoff(following.ended_early()) <= 0.1


def test_a_gap_is_a_break_that_is_given_up_when_it_stays(following: ReplyResumption) -> None:
    following.receive(accepted("1"))
    for _ in range(5):
        with pytest.raises(OutOfOrder) as gap:
            following.receive(more("x", 3, token="4"))
        following.backoff(gap.value)
        assert following.token == "1"
    with pytest.raises(OutOfOrder):
        following.backoff(gap.value)


def test_a_stream_that_only_repeats_itself_is_no_progress(following: ReplyResumption) -> None:
    following.receive(accepted("1"))
    waits = []
    for _ in range(3):
        assert following.receive(told(reply(), "1")) == []
        waits.append(following.backoff(Unavailable("gone")))
    assert waits == [0.1, 0.2, 0.4]


def test_any_sign_of_life_is_progress(following: ReplyResumption) -> None:
    following.receive(accepted("1"))
    waits = []
    for _ in range(3):
        following.receive(heartbeat("1"))
        waits.append(following.backoff(Unavailable("gone")))
    assert waits == [0.1, 0.1, 0.1]


def test_silence_is_a_break() -> None:
    following = ReplyResumption("r-1", retry(), silence=45)
    assert following.read_timeout() == 45
    assert isinstance(following.timed_out(), Unavailable)


def test_a_timeout_bounds_how_long_an_event_is_waited_for() -> None:
    clock = Clock()
    following = ReplyResumption("r-1", retry(clock, timeout=60), silence=45)
    assert following.read_timeout() == 45
    clock.now = 50
    assert following.read_timeout() == 10
    clock.now = 59.9  # no two clocks agree
    assert isinstance(following.timed_out(), DeadlineExceeded)
    clock.now = 61
    assert following.read_timeout() == 0
    with pytest.raises(DeadlineExceeded, match="did not finish in time"):
        following.backoff(following.timed_out())


def test_silence_just_before_the_timeout_is_silence_still() -> None:
    clock = Clock()
    following = ReplyResumption("r-1", retry(clock, timeout=46), silence=45)
    assert following.read_timeout() == 45
    clock.now = 46
    assert isinstance(following.timed_out(), Unavailable)


def test_a_watcher_goes_on_from_the_token_that_it_was_given() -> None:
    watching = WatchResumption("9", retry())
    assert watching.token == "9"
    assert watching.receive(told(PROMPT, "10"))
    assert watching.token == "10"
    assert not watching.done


def test_a_watcher_ends_when_the_conversation_is_deleted() -> None:
    watching = WatchResumption("", retry())
    assert watching.token == ""
    assert watching.receive(ConversationEvent(deleted=ConversationEvent.Deleted()))
    assert watching.done


def test_a_watcher_that_never_reached_the_server_gives_up_and_another_does_not() -> None:
    clock = Clock()
    watching = WatchResumption("", retry(clock))
    watching.backoff(Unavailable("gone"))
    clock.now = 11
    with pytest.raises(Unavailable):
        watching.backoff(Unavailable("gone"))
    watching = WatchResumption("", retry(clock))
    watching.receive(heartbeat("1"))
    watching.backoff(Unavailable("gone"))
    clock.now = 10_000
    watching.backoff(Unavailable("gone"))


# --- all conversations ---


def changed(id_: str, token: str = "") -> ConversationsEvent:
    return ConversationsEvent(resume_token=token, conversation=Conversation(id=id_))


RESET = ConversationsEvent(reset=ConversationsEvent.Reset())


def test_all_conversations_are_watched_from_the_last_token() -> None:
    index = IndexResumption("", retry())
    assert index.token == ""
    assert index.receive(changed("a", "1")) == [changed("a", "1")]
    still = ConversationsEvent(resume_token="2", heartbeat=ConversationsEvent.Heartbeat())
    assert index.receive(still) == []
    assert index.disconnected(Unavailable("gone")) == []
    assert index.token == "2"
    assert index.receive(changed("a", "3")) == [changed("a", "3")]


def test_who_was_cut_off_in_the_beginning_forgets_what_they_heard() -> None:
    index = IndexResumption("", retry())
    index.receive(changed("a"))
    index.disconnected(Unavailable("gone"))
    assert index.token == ""
    assert index.receive(changed("b")) == [RESET, changed("b")]
    assert index.receive(changed("c", "1")) == [changed("c", "1")]
    index.receive(RESET)
    index.disconnected(Unavailable("gone"))
    assert index.receive(RESET) == [RESET], "once is enough"


def test_who_heard_nothing_yet_forgets_nothing() -> None:
    index = IndexResumption("", retry())
    index.disconnected(Unavailable("gone"))
    assert index.receive(changed("a")) == [changed("a")]
