"""Made-up histories of a reply, and what a correct reader of it must have seen in the end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from colloquy.api.conversation_service_pb2 import ConversationEvent
from colloquy.api.resources_pb2 import Conversation, Message

PROMPT = Message(
    id="prompt", conversation_id="c", role=Message.ROLE_USER, state=Message.STATE_COMPLETED
)


def reply(
    content: str = "",
    attempt: int = 1,
    state: Message.State.ValueType = Message.STATE_GENERATING,
) -> Message:
    """The reply as it stands at some moment."""
    return Message(
        id="reply",
        conversation_id="c",
        role=Message.ROLE_ASSISTANT,
        content=content,
        attempt=attempt,
        state=state,
    )


def accepted(token: str = "0", so_far: Message | None = None) -> ConversationEvent:
    """The first event; a repeated request is told the reply `so_far`."""
    both = ConversationEvent.Accepted(message=PROMPT, reply=so_far or reply())
    return ConversationEvent(resume_token=token, accepted=both)


def told(message: Message, token: str = "") -> ConversationEvent:
    """A `message` event."""
    return ConversationEvent(resume_token=token, message=message)


def more(text: str, offset: int, attempt: int = 1, token: str = "") -> ConversationEvent:
    """A `delta` event."""
    delta = ConversationEvent.Delta(message_id="reply", attempt=attempt, offset=offset, text=text)
    return ConversationEvent(resume_token=token, delta=delta)


def history(
    attempts: Iterable[list[str]],
    state: Message.State.ValueType = Message.STATE_COMPLETED,
) -> list[ConversationEvent]:
    """All events of a reply: the token of each is its place, from which a watcher goes on."""
    events = [accepted()]
    text = ""
    number = 0
    for number, pieces in enumerate(attempts, start=1):
        text = ""
        if number > 1:
            events.append(told(reply("", number)))
        for piece in pieces:
            events.append(more(piece, len(text), number))
            text += piece
    events.append(told(reply(text, max(number, 1), state)))
    title = Conversation(id="c", title="A title")
    events.insert(len(events) // 2 + 1, ConversationEvent(conversation=title))
    for index, event in enumerate(events):
        event.resume_token = str(index + 1)
    return events


def as_it_stood(events: list[ConversationEvent], end: int) -> Message:
    """The reply after the first `end` events."""
    now = reply()
    for event in events[:end]:
        if event.HasField("message"):
            now = Message()
            now.CopyFrom(event.message)
        elif event.HasField("delta"):
            now.content += event.delta.text
    return now


@dataclass
class Reader:
    """A strict reader: it appends deltas without looking back, and counts what it is told."""

    accepted: int = 0
    finals: list[Message] = field(default_factory=list)
    attempt: int = 1
    text: str = ""
    seen: list[ConversationEvent] = field(default_factory=list)

    def read(self, events: Iterable[ConversationEvent]) -> None:
        """Take events; fail where a delta does not join the text, or comes twice."""
        for event in events:
            self.seen.append(event)
            if event.HasField("accepted"):
                self.accepted += 1
                assert event.accepted.reply.content == ""
                self.text, self.attempt = "", event.accepted.reply.attempt
            elif event.HasField("delta"):
                assert not self.finals, "text after the end"
                assert (event.delta.attempt, event.delta.offset) == (self.attempt, len(self.text))
                assert event.delta.text
                self.text += event.delta.text
            elif event.HasField("message") and event.message.id == "reply":
                self._message(event.message)

    def _message(self, message: Message) -> None:
        if message.state != Message.STATE_GENERATING:
            self.finals.append(message)
        elif message.attempt > self.attempt:
            assert message.content == ""
            self.text, self.attempt = "", message.attempt
        else:
            assert message.content == self.text
