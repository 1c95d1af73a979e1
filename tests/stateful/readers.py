"""Clients that watch, and what must be true of every event that they are sent."""

from __future__ import annotations

from dataclasses import dataclass, field

from colloquy.api import conversation_service_pb2 as api
from colloquy.api import resources_pb2 as resources
from colloquy_server.api.access import Principal
from colloquy_server.database.models import State

from tests.harness import Transcript
from tests.stateful.world import Process, Stepper, Writing


@dataclass
class Truth:
    """What watchers may be shown."""

    shown: dict[tuple[str, int], str] = field(default_factory=dict)
    """All text of an attempt that its rightful owner showed or stored, by (reply, attempt)."""
    ended: dict[str, tuple[State, int, str]] = field(default_factory=dict)
    """State, attempt and content of replies that have ended."""

    def show(self, message_id: str, attempt: int, text: str) -> None:
        """An owner showed this text, or stored it."""
        key = (message_id, attempt)
        if len(text) > len(self.shown.get(key, "")):
            self.shown[key] = text

    def allows(self, message: resources.Message) -> bool:
        """Whether this is a beginning of a reply's text."""
        shown = self.shown.get((message.id, message.attempt), "")
        return shown.startswith(message.content)


@dataclass
class StrictTranscript(Transcript):
    """A client's transcript that checks each event against the truth."""

    truth: Truth = field(default_factory=Truth)
    may_repeat: set[str] = field(default_factory=set)
    """Messages whose end may come once more: replies that had ended when they were accepted, and
    what was there before the stream."""

    def take(self, event: api.ConversationEvent) -> None:
        kind = event.WhichOneof("event")
        if kind == "message":
            self._check_message(event.message)
        elif kind == "delta":
            held = self.messages.get(event.delta.message_id)
            assert held is not None, "text of a message that was never sent"
            assert held.state <= State.GENERATING, "text of a reply that has ended"
        super().take(event)
        if kind == "accepted":
            reply = event.accepted.reply
            self._check_text(reply)
            if reply.state > State.GENERATING:
                self.may_repeat.add(reply.id)
        elif kind == "delta":
            held = self.messages[event.delta.message_id]
            assert self.truth.allows(held), "text that no owner wrote"

    def _check_message(self, message: resources.Message) -> None:
        held = self.messages.get(message.id)
        if message.deleted:
            assert not message.content, "text of a message that is deleted"
            assert message != held or message.id in self.may_repeat, "a deletion came twice"
            self.may_repeat.discard(message.id)
            return
        self._check_text(message)
        if held is None:
            return
        assert not held.deleted, "a message came back that is deleted"
        assert message.state >= held.state, "a reply went back to an earlier state"
        if held.state > State.GENERATING:
            assert message != held or message.id in self.may_repeat, "the end of a reply came twice"
            self.may_repeat.discard(message.id)
        elif message.attempt == held.attempt:
            if message.state <= State.GENERATING:
                assert message.content.startswith(held.content), "a resync took text away"
            elif held.content or held.state == resources.Message.STATE_GENERATING:
                self._check_whole(held, message)
        elif held.state == resources.Message.STATE_GENERATING and message.state > State.GENERATING:
            assert message.content == "", "the last attempt's text came without deltas"

    def _check_text(self, message: resources.Message) -> None:
        if message.state > State.GENERATING and message.reply_to:
            expected = self.truth.ended[message.id]
            assert (State(message.state), message.attempt, message.content) == expected
        elif message.state == resources.Message.STATE_GENERATING:
            assert self.truth.allows(message), "text that no owner wrote"

    def _check_whole(self, held: resources.Message, message: resources.Message) -> None:
        """The last message of a reply is what its deltas were, joined, unless its owner died
        with text that it had shown and not saved."""
        shown = self.truth.shown.get((message.id, message.attempt), "")
        if len(shown) > len(message.content):
            assert shown.startswith(message.content)
        else:
            assert held.content == message.content, "the deltas are not the whole text"


class Client:
    """A client that follows one stream, perhaps slowly. It can go on from any event that it saw."""

    def __init__(
        self, truth: Truth, caller: Principal, process: Process, conversation_id: str, base: int
    ) -> None:
        """`base` is the version since when it is to know every change."""
        self.caller = caller
        self.process = process
        self.conversation_id = conversation_id
        self.base = base
        self.is_only = False
        """Whether it follows one reply, and ends with it."""
        self.events: list[api.ConversationEvent] = []
        self.transcript = StrictTranscript(truth=truth)
        self.writing = Writing(self._take)
        self.stepper: Stepper | None = None

    def _take(self, event: api.ConversationEvent) -> None:
        self.events.append(event)
        self.transcript.take(event)

    @property
    def is_open(self) -> bool:
        return self.stepper is not None and not self.stepper.is_done

    def read(self, room: int, *, lingers: bool) -> None:
        """Reads up to `room` events. With `lingers` a read of the database that it needs is
        followed by whatever else happens before the next call."""
        assert self.stepper is not None
        self.writing.room = room
        self.process.db.lingers = lingers
        while self.stepper.can_run and self.writing.room > 0:
            self.stepper.run()
            if lingers:
                break
        self.process.db.lingers = False
        self.writing.room = 0

    def close(self) -> None:
        """Goes away."""
        if self.stepper is not None:
            self.stepper.close()

    def watch(self) -> None:
        """Begins to watch without a token."""
        self.stepper = self.process.watch(self.caller, self.conversation_id, "", self.writing)

    def resume(self, process: Process, event_number: int) -> Client:
        """The client that saw no more than this event, and goes on from there."""
        truth = self.transcript.truth
        other = Client(truth, self.caller, process, self.conversation_id, self.base)
        other.events = self.events[: event_number + 1]
        for event in other.events:
            Transcript.take(other.transcript, event)
        other.transcript.may_repeat = set(other.transcript.messages)
        token = other.events[-1].resume_token
        other.stepper = process.watch(self.caller, self.conversation_id, token, other.writing)
        return other
