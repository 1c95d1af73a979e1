"""What to do when a stream breaks: the decisions, for both clients, without a network.

A client does what a resumption says: it opens the call that `token` names, gives every event to
`receive`, yields what comes back, and ends when `done`. When the call ends before that, it calls
`disconnected`, waits as long as `backoff` says and opens the next one.

                 ┌────────── broke ──────────┐          ┌──── broke ─────┐
                 ▼                           │          ▼                │
    token None: send, same request_id ──accepted──▶ token: watch from it ──final message──▶ done
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from colloquy.api.conversation_service_pb2 import ConversationEvent, ConversationsEvent
from colloquy.api.resources_pb2 import Message
from colloquy.deduplication import Deduplicator
from colloquy.errors import ColloquyError, DeadlineExceeded, NotFound, Unavailable
from colloquy.retry import Retry
from colloquy.transcript import is_final

Event = TypeVar("Event")

# The server speaks at least every 15 s: after three times that it is taken for gone.
DEFAULT_SILENCE = 45.0


def silence_error(seconds: float) -> ColloquyError:
    """Return the error for a server that sent nothing for so many seconds."""
    return Unavailable(f"nothing was heard from the server for {seconds:.0f} s")


class Resumption(ABC, Generic[Event]):
    """One stream of the caller, over as many calls as it takes."""

    def __init__(self, retry: Retry, silence: float = DEFAULT_SILENCE) -> None:
        self.done = False
        self._retry = retry
        self._silence = silence
        # Whether the caller's timeout ends before silence would be a break.
        self._is_last_wait = False

    @property
    @abstractmethod
    def token(self) -> str | None:
        """Where the watch goes on; None to make the original call (again)."""

    @abstractmethod
    def receive(self, event: Event) -> list[Event]:
        """Take an event and return what to yield to the caller.

        Raises OutOfOrder when text before it is missing: the call is then as good as broken.
        """

    def read_timeout(self) -> float:
        """Return how many seconds to wait for the next event, from now on."""
        remaining = self._retry.remaining
        self._is_last_wait = remaining is not None and remaining < self._silence
        return self._silence if remaining is None else min(self._silence, remaining)

    def timed_out(self) -> ColloquyError:
        """Return the error for no event within the last `read_timeout`."""
        if self._is_last_wait:
            return DeadlineExceeded("the reply did not finish in time; it goes on in the server")
        return silence_error(self._silence)

    def ended_early(self) -> ColloquyError:
        """Return the error for a call that ended with OK before its last event."""
        return Unavailable("the stream ended too early")

    def disconnected(self, failure: ColloquyError) -> list[Event]:
        """Take the end of a call and return what to yield to the caller."""
        return []

    def backoff(self, failure: ColloquyError) -> float:
        """Return the seconds to wait before the next call. Raises `failure` when it is no use."""
        return self._retry.backoff(failure)


class ConversationResumption(Resumption[ConversationEvent]):
    """One that follows a conversation, or a reply in it."""

    def __init__(
        self, deduplicator: Deduplicator, retry: Retry, silence: float = DEFAULT_SILENCE
    ) -> None:
        super().__init__(retry, silence)
        # Whether a call went so far that the server knows the conversation.
        self._is_known = False
        self._deduplicator = deduplicator

    def disconnected(self, failure: ColloquyError) -> list[ConversationEvent]:
        """Take the end of a call and return what to yield to the caller.

        A conversation that was there and is no more was deleted while nobody listened.
        """
        if self._is_known and isinstance(failure, NotFound):
            self.done = True
            deleted = ConversationEvent.Deleted()
            return [ConversationEvent(resume_token=self._deduplicator.token, deleted=deleted)]
        return []


class ReplyResumption(ConversationResumption):
    """Follows one reply: the answer to SendMessage or RegenerateReply."""

    def __init__(self, request_id: str, retry: Retry, silence: float = DEFAULT_SILENCE) -> None:
        super().__init__(Deduplicator(), retry, silence)
        self.request_id = request_id
        # The user's message and the reply, of the last event with them; None before `accepted`.
        self.prompt: Message | None = None
        self.reply: Message | None = None

    @property
    def token(self) -> str | None:
        """None until `accepted` came."""
        return None if self.reply is None else self._deduplicator.token

    @property
    def conversation_id(self) -> str:
        """The conversation, known once the reply is."""
        return "" if self.reply is None else self.reply.conversation_id

    def receive(self, event: ConversationEvent) -> list[ConversationEvent]:
        """Return what of an event belongs to the prompt or its reply, and is new."""
        if event.HasField("accepted"):
            self._retry.persist()
            self._is_known = True
            self.prompt, self.reply = event.accepted.message, event.accepted.reply
        if self.reply is None:
            return []
        pieces = [piece for piece in self._deduplicator.apply(event) if self._is_mine(piece)]
        for piece in pieces:
            if piece.HasField("message") and piece.message.id == self.reply.id:
                self.reply = piece.message
        self.done = any(self._is_last(piece) for piece in pieces)
        if pieces or event.HasField("heartbeat"):
            self._retry.reset()
        return pieces

    def _is_mine(self, piece: ConversationEvent) -> bool:
        # WatchConversation sends everything; SendMessage would not have.
        assert self.reply is not None
        assert self.prompt is not None
        if piece.HasField("message"):
            return piece.message.id in (self.prompt.id, self.reply.id)
        if piece.HasField("delta"):
            return piece.delta.message_id == self.reply.id
        return not piece.HasField("conversation")

    def _is_last(self, piece: ConversationEvent) -> bool:
        assert self.reply is not None
        if piece.HasField("message"):
            return piece.message.id == self.reply.id and is_final(piece.message)
        return piece.HasField("deleted")


class WatchResumption(ConversationResumption):
    """Follows a conversation until it is deleted."""

    def __init__(self, token: str, retry: Retry, silence: float = DEFAULT_SILENCE) -> None:
        super().__init__(Deduplicator(token), retry, silence)

    @property
    def token(self) -> str:
        """Empty until the first event, unless the caller gave one."""
        return self._deduplicator.token

    def receive(self, event: ConversationEvent) -> list[ConversationEvent]:
        """Return what of an event is new."""
        self._retry.persist()
        self._is_known = True
        pieces = self._deduplicator.apply(event)
        self.done = event.HasField("deleted")
        if pieces or event.HasField("heartbeat"):
            self._retry.reset()
        return pieces


class IndexResumption(Resumption[ConversationsEvent]):
    """Follows all conversations that the caller sees."""

    def __init__(self, token: str, retry: Retry, silence: float = DEFAULT_SILENCE) -> None:
        super().__init__(retry, silence)
        self._token = token
        # Whether the caller holds what a watch that begins anew does not take back.
        self._holds_something = False
        self._begins_anew = False

    @property
    def token(self) -> str:
        """Empty until the beginning is told, unless the caller gave one."""
        return self._token

    def receive(self, event: ConversationsEvent) -> list[ConversationsEvent]:
        """Return the event, unless it is a heartbeat."""
        self._retry.persist()
        self._retry.reset()
        self._token = event.resume_token
        pieces: list[ConversationsEvent] = []
        if self._begins_anew and not event.HasField("reset"):
            pieces.append(ConversationsEvent(reset=ConversationsEvent.Reset()))
        self._begins_anew = False
        if not event.HasField("heartbeat"):
            pieces.append(event)
        self._holds_something = self._holds_something or bool(pieces)
        return pieces

    def disconnected(self, failure: ColloquyError) -> list[ConversationsEvent]:
        """A watch that broke off before its beginning was told begins anew."""
        self._begins_anew = self._holds_something and not self._token
        return []
