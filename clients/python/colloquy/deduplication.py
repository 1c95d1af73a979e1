"""Deduplicates the events of streams that break, overlap and repeat themselves."""

from __future__ import annotations

from dataclasses import dataclass

from colloquy.api.conversation_service_pb2 import ConversationEvent
from colloquy.api.resources_pb2 import Conversation, Message
from colloquy.errors import OutOfOrder
from colloquy.transcript import is_final, unseen

# How many messages are remembered, so as not to yield them twice. A stream that resumes repeats at
# most the last change, which touches a few messages.
_MAX_REMEMBERED = 256


@dataclass
class _Seen:
    """What was passed on of a message: everything but its text, and how long that is."""

    shell: Message
    length: int


class Deduplicator:
    """Takes events as they come, from one stream after another, and returns each piece once.

    Whoever reads the result sees the deltas of an attempt join without gap or overlap, a larger
    attempt begin with a message without text, and every other message repeated only when
    something but its text changed. Where a stream leaves deltas out and sends the whole text
    instead, in a message or in `accepted`, the missing delta is made from it. So the joined deltas
    equal the final text, except when a reply is cancelled in a way that takes its last words back.

    Holds no text: its memory does not grow with the conversation.
    """

    def __init__(self, token: str = "") -> None:
        """Begin, or go on after the event that `token` came with."""
        self.token = token
        # After a token the first delta may belong to a message that was sent before it.
        self._may_adopt = bool(token)
        self._seen: dict[str, _Seen] = {}
        self._conversation: Conversation | None = None

    def apply(self, event: ConversationEvent) -> list[ConversationEvent]:
        """Return what of an event is new. Raises OutOfOrder when text before it is missing."""
        kind = event.WhichOneof("event")
        pieces: list[ConversationEvent] = []
        if kind == "message":
            pieces = self._message(event)
        elif kind == "delta":
            pieces = self._delta(event)
        elif kind == "accepted":
            pieces = self._accepted(event)
        elif kind == "conversation" and event.conversation != self._conversation:
            self._conversation = event.conversation
            pieces = [event]
        elif kind == "deleted":
            pieces = [event]
        self.token = event.resume_token or self.token
        return pieces

    def _accepted(self, event: ConversationEvent) -> list[ConversationEvent]:
        prompt, reply = event.accepted.message, event.accepted.reply
        self._remember(prompt)
        self._remember(reply)
        pieces = [event]
        if reply.content:
            # A repeated request gets the text so far, whose deltas this reader did not get.
            begun = ConversationEvent.Accepted(message=prompt, reply=_beginning(reply))
            pieces = [
                self._made(accepted=begun),
                self._made(delta=_delta(reply, 0, reply.content)),
            ]
        if is_final(reply):
            pieces.append(self._made(message=reply))
        pieces[-1].resume_token = event.resume_token
        return pieces

    def _message(self, event: ConversationEvent) -> list[ConversationEvent]:
        message = event.message
        seen = self._seen.get(message.id)
        if seen is None:
            self._remember(message)
            return [event]
        length = len(message.content)
        changed = _shell(message) != seen.shell
        if is_final(seen.shell):
            repeated = not is_final(message) or (not changed and length == seen.length)
            if not repeated:
                self._remember(message)
            return [] if repeated else [event]
        attempt = seen.shell.attempt
        if not is_final(message) and (message.attempt, length) < (attempt, seen.length):
            return []
        begins = message.attempt > attempt
        known = 0 if begins else seen.length
        missing = message.content[known:] if message.attempt >= attempt else ""
        pieces: list[ConversationEvent] = []
        if missing and begins:
            pieces.append(self._made(message=_beginning(message)))
        if missing:
            pieces.append(self._made(delta=_delta(message, known, missing)))
        if is_final(message) or (changed and not (missing and begins)):
            pieces.append(event)
        if pieces:
            pieces[-1].resume_token = event.resume_token
        self._remember(message)
        return pieces

    def _delta(self, event: ConversationEvent) -> list[ConversationEvent]:
        delta = event.delta
        seen = self._seen.get(delta.message_id)
        if seen is None:
            if not self._may_adopt:
                raise OutOfOrder(f"text came for {delta.message_id}, a message not told before")
            shell = Message(id=delta.message_id, attempt=delta.attempt)
            seen = self._seen[delta.message_id] = _Seen(shell, delta.offset)
        if is_final(seen.shell):
            return []
        text = unseen(delta, seen.shell.attempt, seen.length)
        if not text:
            return []
        if text != delta.text:
            delta = ConversationEvent.Delta(
                message_id=delta.message_id,
                attempt=delta.attempt,
                offset=seen.length,
                text=text,
            )
            event = ConversationEvent(resume_token=event.resume_token, delta=delta)
        seen.length += len(text)
        return [event]

    def _made(
        self,
        *,
        accepted: ConversationEvent.Accepted | None = None,
        message: Message | None = None,
        delta: ConversationEvent.Delta | None = None,
    ) -> ConversationEvent:
        # Not the event's own token: whoever resumes from here needs the rest of the event.
        return ConversationEvent(
            resume_token=self.token, accepted=accepted, message=message, delta=delta
        )

    def _remember(self, message: Message) -> None:
        self._seen[message.id] = _Seen(_shell(message), len(message.content))
        if len(self._seen) > _MAX_REMEMBERED:
            finished = (key for key, seen in self._seen.items() if is_final(seen.shell))
            oldest = next(finished, None)
            if oldest is not None:
                del self._seen[oldest]


def _shell(message: Message) -> Message:
    """Return a message without its text, and without what changes whenever the text does."""
    shell = Message()
    shell.CopyFrom(message)
    for field in ("content", "update_time", "context"):
        shell.ClearField(field)
    return shell


def _beginning(message: Message) -> Message:
    """Return how the attempt of a message began: without text, without an end."""
    beginning = _shell(message)
    beginning.state = Message.STATE_GENERATING
    for field in ("finish_reason", "error", "usage"):
        beginning.ClearField(field)
    return beginning


def _delta(message: Message, offset: int, text: str) -> ConversationEvent.Delta:
    return ConversationEvent.Delta(
        message_id=message.id, attempt=message.attempt, offset=offset, text=text
    )
