"""The two rules by which events become text: a `message` replaces, a `delta` is appended.

transcript = Transcript()
for event in client.watch(conversation_id):
    transcript.apply(event)
    print(transcript.conversation.title, [held.text for held in transcript.messages.values()])
"""

from __future__ import annotations

from colloquy.api.conversation_service_pb2 import ConversationEvent
from colloquy.api.resources_pb2 import Conversation, Message
from colloquy.errors import OutOfOrder

FINAL_STATES = frozenset({Message.STATE_COMPLETED, Message.STATE_FAILED, Message.STATE_CANCELLED})


def is_final(message: Message) -> bool:
    """Whether a message will get no more text."""
    return message.state in FINAL_STATES


def unseen(delta: ConversationEvent.Delta, attempt: int, length: int) -> str:
    """Return what of a delta is new to someone who holds `length` code points of `attempt`.

    Empty when none of it is. Raises OutOfOrder when text between the two is missing.
    """
    if delta.attempt < attempt:
        return ""
    if delta.attempt > attempt or delta.offset > length:
        raise OutOfOrder(
            f"text is missing: a piece begins at {delta.offset} of attempt {delta.attempt}, "
            f"held are {length} of attempt {attempt}"
        )
    return delta.text[length - delta.offset :]


class ReplyText:
    """A message, put together from the events so far."""

    def __init__(self, message: Message) -> None:
        self._pieces: list[str] = []
        self.replace(message)

    @property
    def message(self) -> Message:
        """The message of the last `message` event; its `content` may lag behind `text`."""
        return self._message

    @property
    def text(self) -> str:
        """All text so far."""
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0] if self._pieces else ""

    def __len__(self) -> int:
        """How many code points the text has."""
        return self._length

    def replace(self, message: Message) -> None:
        """Take a message as it now stands."""
        self._message = message
        self._pieces = [message.content]
        self._length = len(message.content)

    def append(self, delta: ConversationEvent.Delta) -> str:
        """Take more text and return what of it was new.

        Raises OutOfOrder when text before it is missing.
        """
        text = "" if is_final(self._message) else unseen(delta, self._message.attempt, self._length)
        if text:
            self._pieces.append(text)
            self._length += len(text)
        return text


class Transcript:
    """A conversation, put together from the events so far.

    `conversation` is None until an event brought it. `messages` is in the order in which they were
    first heard of, without those that are deleted. Holds every message in memory.
    """

    def __init__(self) -> None:
        self.conversation: Conversation | None = None
        self.messages: dict[str, ReplyText] = {}
        self.deleted = False

    def apply(self, event: ConversationEvent) -> None:
        """Take an event. Raises OutOfOrder when text before it is missing."""
        kind = event.WhichOneof("event")
        if kind == "accepted":
            self._replace(event.accepted.message)
            self._replace(event.accepted.reply)
        elif kind == "message":
            self._replace(event.message)
        elif kind == "delta":
            held = self.messages.get(event.delta.message_id)
            if held is None:
                raise OutOfOrder(f"text came for {event.delta.message_id}, a message not known")
            held.append(event.delta)
        elif kind == "conversation":
            self.conversation = event.conversation
        elif kind == "deleted":
            self.deleted = True

    def _replace(self, message: Message) -> None:
        held = self.messages.get(message.id)
        if message.deleted:
            self.messages.pop(message.id, None)
        elif held is None:
            self.messages[message.id] = ReplyText(message)
        else:
            held.replace(message)
