"""Orders of events that went wrong once, played again. P and Q are the processes 0 and 1."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from colloquy_server.database.models import CancelWish, Message, State
from colloquy_server.database.repository import cancellation
from sqlalchemy import Engine, select, update
from sqlalchemy.exc import IntegrityError

from tests.stateful.machine import ReplyMachine
from tests.stateful.readers import Client


@pytest.fixture
def state(machine: type[ReplyMachine]) -> Iterator[ReplyMachine]:
    state = machine()
    state.begin(processes=2, per_account=2, absent=set())
    yield state
    state.close()


def send(state: ReplyMachine, p: int = 0, on_busy: int = 1, *, has_place: bool = True) -> None:
    state.send(p, 0, "Hi", "", on_busy, has_place=has_place, listens=False, pace="at once")


def say(state: ReplyMachine, n: int = 0, *, is_shown: bool = True) -> None:
    state.text_comes(n, "x", is_shown=is_shown, is_twice=False, pace="at once")


def watch(state: ReplyMachine, p: int = 0) -> Client:
    """A client that watches, and has read what there is."""
    state.watch(p, 0)
    return read_newest(state)


def resume(state: ReplyMachine, parent: int, seen: int, p: int = 0) -> Client:
    """A client that saw events of the `parent`, up to `seen`, and has read what follows."""
    state.resume(p, parent, seen)
    return read_newest(state)


def read_newest(state: ReplyMachine) -> Client:
    state.read(len(state.readable) - 1, 100, lingers=False)
    return state.clients[-1]


def test_no_text_comes_after_a_replys_end(state: ReplyMachine) -> None:
    """Its owner does not know yet that it was cancelled over its head, and goes on."""
    send(state)
    state.watch(0, 0)
    state.cancel(1, 0, "at once")
    state.force_cancel(1, 0, has_place=False, pace="at once")
    say(state)
    state.poll(0)
    state.settle()


def test_no_text_comes_after_an_end_that_was_not_the_latest(state: ReplyMachine) -> None:
    """Between the end and the text an older reply changed."""
    send(state)
    state.finish(0, 3, has_place=False, is_twice=False, pace="at once")
    send(state)
    state.watch(0, 0)
    state.cancel(1, 1, "at once")
    state.force_cancel(1, 0, has_place=False, pace="at once")
    state.poll(0)
    state.rate(0, 0)
    state.read(0, 100, lingers=False)
    say(state)
    state.settle()


def test_shutting_down_with_nothing_left_to_release(state: ReplyMachine) -> None:
    """The leases of all replies of a process were over before it could release them."""
    send(state)
    state.lease_ends(0)
    state.drain(state.processes[0])
    state.settle()


def test_the_end_of_one_reply_comes_before_the_start_of_the_next(state: ReplyMachine) -> None:
    """Also for a watcher that reads both from the database, and when the next one was sent
    before: it had been overtaken by one that interrupts."""
    send(state)
    send(state)
    send(state, on_busy=3)
    state.finish(0, 3, has_place=True, is_twice=False, pace="at once")
    state.watch(1, 0)
    state.read(0, 100, lingers=False)
    say(state)
    state.checkpoint(0, "at once")
    state.poll(1)
    state.read(0, 100, lingers=False)
    say(state)
    state.finish(0, 3, has_place=True, is_twice=False, pace="at once")
    state.poll(1)
    state.read(0, 100, lingers=False)
    state.settle()


def test_the_end_of_one_reply_comes_before_the_start_of_the_next_on_another_page(
    state: ReplyMachine,
) -> None:
    """The end is behind what a watcher reads at a time, because its reply changed once more."""
    state.watch(0, 0)
    send(state)
    state.read(0, 100, lingers=False)
    say(state)
    state.finish(0, 3, has_place=False, is_twice=False, pace="lands late")
    send(state)
    state.regenerate(0, 0, "", has_place=False, listens=False, pace="at once")
    state.read(0, 100, lingers=False)
    state.settle()


def test_a_reply_that_waits_is_not_followed(state: ReplyMachine) -> None:
    """What was accepted behind another reply begins later, and so may end later: to a watcher that
    goes on from there its end is not told before its beginning."""
    state.send(0, 0, "Hi", "", 1, has_place=True, listens=True, pace="lands late")
    send(state, 1)
    state.resume(0, 0, 0)
    state.send(1, 0, "Hi", "", 3, has_place=True, listens=False, pace="commits late")
    state.send(1, 0, "Hi", "", 1, has_place=True, listens=False, pace="lands late")
    state.settle()


def test_the_first_tokens_of_a_watch_each_stand_before_the_rest(state: ReplyMachine) -> None:
    """A watcher that saw the first of two unfinished replies is told of the second one."""
    send(state)
    send(state)
    watcher = watch(state)
    assert [event.WhichOneof("event") for event in watcher.events] == [
        "conversation",
        "message",
        "message",
    ]
    for seen in (0, 1):
        known = resume(state, 2, seen).transcript.messages.items()
        assert known >= watcher.transcript.messages.items()
    state.settle()


def test_a_token_says_which_change_of_a_reply_was_seen(state: ReplyMachine) -> None:
    """A watcher that saw a new attempt is not told of it again with what it did not see."""
    send(state)
    say(state)
    state.provider_fails(0)
    send(state)
    say(state)
    watch(state)
    events = resume(state, 2, 1).events[2:]
    new = [event.message.id for event in events if event.HasField("message")]
    first, second = state.model.replies
    assert first.id not in new
    assert second.id in new
    state.settle()


def test_a_token_stands_before_a_change_until_its_last_event(state: ReplyMachine) -> None:
    """A watcher that saw a prompt is told of the reply that was stored with it."""
    send(state)
    watcher = watch(state)
    send(state)
    state.read(0, 100, lingers=False)
    reply = state.model.replies[1]
    seen = next(i for i, e in enumerate(watcher.events) if e.message.id == reply.reply_to)
    assert reply.id in resume(state, 1, seen).transcript.messages
    state.settle()


def test_a_resync_takes_no_text_away(state: ReplyMachine) -> None:
    """A process that knows less than a watcher saw has a change of the reply to tell."""
    send(state)
    watcher = watch(state)
    say(state)
    state.read(0, 100, lingers=False)
    state.regenerate(1, 0, "", has_place=False, listens=False, pace="at once")
    resume(state, 1, len(watcher.events) - 1, p=1)
    state.settle()


def test_a_token_that_names_no_reply_is_caught_up_with(state: ReplyMachine) -> None:
    """It is of a send that waits; what is being written before it is told, as far as it is."""
    send(state)
    say(state)
    send(state)
    assert state.model.replies[0].id in resume(state, 1, 0).transcript.messages
    state.settle()


def test_a_request_id_is_of_one_regenerate(state: ReplyMachine) -> None:
    send(state)
    send(state)
    for number in (0, 1):
        state.regenerate(0, number, "a", has_place=False, listens=False, pace="at once")
    state.settle()


def test_a_wish_is_used_up_with_its_request_alone(state: ReplyMachine, engine: Engine) -> None:
    """Those of other requests, and of this one's name in another conversation, are still there."""
    first, second = (talk.id for talk in state.talks[:2])
    for talk, request in ((0, "a"), (0, "b"), (1, "a")):
        state.cancel_request(0, talk, request, is_old=False, pace="at once")
    state.send(0, 0, "Hi", "a", 1, has_place=True, listens=False, pace="at once")
    wishes = select(CancelWish.conversation_id, CancelWish.request_id).where(
        CancelWish.account_id == state.account_id
    )
    with engine.connect() as connection:
        left = {(row.conversation_id, row.request_id) for row in connection.execute(wishes)}
    assert left == {(first, "b"), (second, "a")}
    state.send(0, 0, "Hi", "b", 1, has_place=True, listens=False, pace="at once")
    state.send(0, 1, "Hi", "a", 1, has_place=True, listens=False, pace="at once")
    assert {reply.state for reply in state.model.replies} == {State.CANCELLED}
    state.settle()


def test_a_forced_cancel_is_of_what_was_to_be_cancelled(state: ReplyMachine) -> None:
    send(state)
    (reply,) = state.model.replies
    step = state.db.run(
        state.account_id, cancellation.force_cancel, reply.conversation, reply.id, None, "", 0
    )
    assert step is None
    state.settle()


def test_handing_back_never_ends_a_reply(state: ReplyMachine) -> None:
    """Not even one that two owners died of."""
    send(state)
    for taker in (1, 0):
        state.lease_ends(0)
        state.take_over(taker, 0, "at once")
    state.drain(state.processes[0])
    state.take_over(1, 0, "at once")
    state.settle()


def test_a_takeover_keeps_the_longer_text(state: ReplyMachine) -> None:
    """What the new owner's watchers saw may be less than what was saved."""
    send(state)
    state.watch(1, 0)
    state.read(0, 100, lingers=False)
    say(state)
    state.checkpoint(0, "at once")
    state.poll(1)
    say(state)
    state.checkpoint(0, "at once")
    state.lease_ends(0)
    state.take_over(1, 0, "at once")
    state.settle()


def test_a_send_ends_with_its_reply_and_shows_no_other(state: ReplyMachine) -> None:
    state.send(0, 0, "Hi", "", 1, has_place=True, listens=True, pace="at once")
    state.read(0, 100, lingers=False)
    send(state)
    state.read(0, 100, lingers=False)
    state.finish(0, 3, has_place=True, is_twice=False, pace="at once")
    state.finish(0, 3, has_place=True, is_twice=False, pace="at once")
    state.read(0, 100, lingers=False)
    client = state.clients[0]
    accepted = client.events[0].accepted
    shown = {event.message.id for event in client.events if event.HasField("message")}
    assert shown == {accepted.reply.id}
    assert not client.is_open
    state.settle()


def test_a_takeover_keeps_no_text_of_an_attempt_that_is_over(state: ReplyMachine) -> None:
    """A new attempt began after the process that takes over had looked."""
    send(state)
    say(state)
    state.checkpoint(0, "at once")
    state.watch(1, 0)
    state.provider_fails(0)
    state.cancel(1, 0, "at once")
    state.lease_ends(0)
    state.begin_attempt(*state.owners()[0], "", pace="commits late")
    state.take_over(1, 0, "commits late")
    state.go_on(0, 0)
    state.go_on(1, 0)
    state.settle()


def test_a_reply_that_was_released_is_not_renewed(state: ReplyMachine) -> None:
    """A renewal was under way when its process shut down."""
    send(state)
    state.renew(0, is_in_time=True, pace="commits late")
    state.drain(state.processes[0])
    state.settle()


def test_a_late_checkpoint_takes_nothing_from_what_was_released(state: ReplyMachine) -> None:
    send(state)
    say(state)
    state.checkpoint(0, "commits late")
    say(state)
    state.drain(state.processes[0])
    state.settle()


def test_handing_back_what_another_process_took_over(state: ReplyMachine) -> None:
    """One of two replies was lost; the other is given up all the same."""
    send(state)
    state.send(0, 1, "Hi", "", 1, has_place=True, listens=False, pace="at once")
    state.lease_ends(0)
    state.over.clear()
    state.take_over(1, 0, "at once")
    state.drain(state.processes[0])
    state.settle()


def test_the_database_refuses_a_second_live_reply(state: ReplyMachine, engine: Engine) -> None:
    send(state)
    send(state)
    with pytest.raises(IntegrityError), engine.begin() as connection:
        connection.execute(
            update(Message)
            .where(Message.account_id == state.account_id, Message.state == State.QUEUED)
            .values(state=State.GENERATING)
        )
