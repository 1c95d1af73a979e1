"""What the database must hold: the table of a reply's life, said once more without a database.

Each method is one transaction. It changes the model as the transaction must change the rows, or
raises `Refused`. After every step the machine compares the two.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto

from colloquy_server.database.models import Role, State
from colloquy_server.database.repository.leases import MAX_STRIKES
from colloquy_server.database.repository.sending import OnBusy
from colloquy_server.database.repository.titles import TITLE_TRIES

FENCED = "FENCED"

MAX_QUEUED = 3
"""Replies that may wait in one conversation."""


class Refused(Exception):
    """A transaction that changes nothing; `reason` is what its caller is told."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Held(Enum):
    """The lease of a reply."""

    NONE = auto()
    HELD = auto()
    OVER = auto()
    RELEASED = auto()


@dataclass
class Said:
    """A message."""

    conversation: str
    position: int
    role: Role
    state: State
    version: int
    id: str = ""
    content: str = ""
    author: str | None = None
    deleted: bool = False
    request_id: str | None = None
    reply_to: str | None = None
    attempt: int = 0
    superseded: bool = False
    rating: int = 0
    error: str = ""
    epoch: int = 0
    strikes: int = 0
    cancel_requested: bool = False
    rank: int = 0
    held: Held = Held.NONE

    @property
    def is_live(self) -> bool:
        return self.state == State.GENERATING

    @property
    def has_ended(self) -> bool:
        return self.state > State.GENERATING


@dataclass
class Talk:
    """A conversation."""

    id: str
    version: int = 1
    info_version: int = 1
    title: str = ""
    title_by_user: bool = False
    title_of: str | None = None
    title_owed: int = 0
    creator: str | None = None
    is_open: bool = True
    """Whether all of the account sees it."""
    people: dict[str, bool] = field(default_factory=dict)
    """Who takes part, in the order in which they came; False for those who were removed."""
    is_deleted: bool = False
    messages: list[Said] = field(default_factory=list)
    wishes: dict[str, bool] = field(default_factory=dict)
    """By request; False when the wish is too old to be granted."""

    @property
    def live(self) -> Said | None:
        live = [said for said in self.messages if said.is_live]
        assert len(live) <= 1
        return live[0] if live else None

    @property
    def queue(self) -> list[Said]:
        """What waits, in the order in which it is to be written."""
        waiting = [said for said in self.messages if said.state == State.QUEUED]
        return sorted(waiting, key=lambda said: (said.rank, said.position))

    def of_request(self, request_id: str | None) -> Said | None:
        """The reply that a request made."""
        for said in self.messages:
            if request_id and said.request_id == request_id:
                if said.role == Role.ASSISTANT:
                    return said
                return next(reply for reply in self.messages if reply.reply_to == said.id)
        return None

    @property
    def kept(self) -> list[Said]:
        """What is not deleted."""
        return [said for said in self.messages if not said.deleted]

    @property
    def participants(self) -> list[str]:
        return [user for user, is_in in self.people.items() if is_in]

    def is_seen_by(self, viewer: str) -> bool:
        """Whether a member sees it; who is nobody in particular sees all."""
        return not viewer or self.is_open or viewer in (self.creator, *self.participants)

    def bump(self) -> int:
        self.version += 1
        return self.version


@dataclass
class Placed:
    """What a send or a regenerate made, or found."""

    prompt: Said
    reply: Said
    is_new: bool
    owned: bool = False
    interrupted: str | None = None


@dataclass
class Taken:
    """A reply that lost its owner, and the one that the caller now owns: itself or the next."""

    said: Said
    owned: Said | None


class Model:
    """All conversations of one account."""

    def __init__(self, talks: list[Talk], per_account: int, default_user: str) -> None:
        self.talks = {talk.id: talk for talk in talks}
        self.per_account = per_account
        self.default_user = default_user
        self.gone: set[str] = set()
        """People who are deleted, or being deleted: nobody speaks as them."""
        self.leaving: list[str] = []
        """Those of them of whom something may be left."""

    # --- reading ------------------------------------------------------------------------------

    @property
    def messages(self) -> Iterator[Said]:
        for talk in self.talks.values():
            yield from talk.messages

    @property
    def replies(self) -> list[Said]:
        return [said for said in self.messages if said.role == Role.ASSISTANT]

    def get(self, message_id: str) -> Said:
        """A message that is not deleted. Raises Refused."""
        said = self.find(message_id)
        if said is None or said.deleted:
            raise Refused("MESSAGE_NOT_FOUND")
        return said

    def find(self, message_id: str | None) -> Said | None:
        """The message, also when it is deleted and only its row is left."""
        return next((said for said in self.messages if said.id == message_id), None)

    def talk(self, conversation_id: str, viewer: str = "") -> Talk:
        """Raises Refused."""
        talk = self.talks[conversation_id]
        if talk.is_deleted or not talk.is_seen_by(viewer):
            raise Refused("CONVERSATION_NOT_FOUND")
        return talk

    def given(self, reply_id: str) -> list[tuple[str, str]]:
        """What the model is told that writes this reply: who said what. Raises Refused."""
        reply = self.find(reply_id)
        if reply is None or reply.deleted:
            raise Refused(FENCED)
        talk, told = self.talks[reply.conversation], list[tuple[str, str]]()
        for said in talk.kept:
            if said.role == Role.USER:
                told.append(("user", said.content))
                if said.id == reply.reply_to:
                    break
                told += [
                    ("assistant", answer.content)
                    for answer in talk.kept
                    if answer.reply_to == said.id
                    and answer.state in (State.COMPLETED, State.CANCELLED)
                    and answer.content.strip()
                    and not answer.superseded
                ]
        return told

    @property
    def room(self) -> int:
        """How many more replies may be written."""
        return self.per_account - sum(said.is_live for said in self.messages)

    @property
    def has_room(self) -> bool:
        return self.room > 0

    # --- asking -------------------------------------------------------------------------------

    def send(
        self,
        conversation_id: str,
        content: str,
        request_id: str | None,
        on_busy: OnBusy,
        *,
        has_place: bool,
        member: str = "",
    ) -> Placed:
        """`has_place`: whether the process may write one more reply."""
        talk, author = self.talk(conversation_id, member), member or self.default_user
        found = talk.of_request(request_id)
        if found is not None:
            assert found.reply_to
            prompt = self.get(found.reply_to)
            if (prompt.request_id, prompt.content, prompt.author) != (request_id, content, author):
                raise Refused("REQUEST_ID_REUSED")
            if author in self.gone:
                raise Refused("REQUEST_ID_REUSED")
            return Placed(prompt, found, is_new=False)
        if author in self.gone:
            raise Refused("INVALID_FIELD")
        wished = talk.wishes.get(request_id or "", False)
        is_busy = talk.live is not None or bool(talk.queue)
        if not wished and is_busy and on_busy == OnBusy.REJECT:
            raise Refused("CONVERSATION_BUSY")
        if not wished and len(talk.queue) >= MAX_QUEUED:
            raise Refused("QUEUE_FULL")
        version = talk.bump()
        prompt = Said(
            conversation_id,
            len(talk.messages) + 1,
            Role.USER,
            State.COMPLETED,
            version,
            content=content,
            author=author,
            request_id=request_id,
        )
        talk.people[author] = True
        reply = self._reply(talk, prompt)
        interrupted = None
        if on_busy == OnBusy.INTERRUPT and not wished:
            reply.rank = -version
            if talk.live:
                talk.live.cancel_requested = True
                interrupted = talk.live.id
        owned = self._place(talk, reply, wished=wished, has_place=has_place)
        talk.wishes.pop(request_id or "", None)
        talk.messages += [prompt, reply]
        return Placed(prompt, reply, is_new=True, owned=owned, interrupted=interrupted)

    def regenerate(self, message_id: str, request_id: str | None, *, has_place: bool) -> Placed:
        old = self.get(message_id)
        talk = self.talk(old.conversation)
        if old.role != Role.ASSISTANT:
            raise Refused("INVALID_FIELD")
        assert old.reply_to
        prompt = self.get(old.reply_to)
        found = talk.of_request(request_id)
        if found is not None:
            self.get(found.id)
            if found.request_id != request_id or found.reply_to != prompt.id:
                raise Refused("REQUEST_ID_REUSED")
            return Placed(prompt, found, is_new=False)
        wished = talk.wishes.get(request_id or "", False)
        if not wished and len(talk.queue) >= MAX_QUEUED:
            raise Refused("QUEUE_FULL")
        version = talk.bump()
        for said in talk.messages:
            if said.reply_to == prompt.id and not wished:
                if said.state == State.QUEUED:
                    said.state, said.version = State.CANCELLED, version
                if not said.superseded:
                    said.superseded, said.version = True, version
        reply = self._reply(talk, prompt)
        reply.position = len(talk.messages) + 1
        reply.request_id = request_id
        owned = self._place(talk, reply, wished=wished, has_place=has_place)
        talk.wishes.pop(request_id or "", None)
        talk.messages.append(reply)
        return Placed(prompt, reply, is_new=True, owned=owned)

    def _reply(self, talk: Talk, prompt: Said) -> Said:
        return Said(
            talk.id,
            len(talk.messages) + 2,
            Role.ASSISTANT,
            State.QUEUED,
            talk.version,
            attempt=1,
            reply_to=prompt.id,
            rank=talk.version,
        )

    def _place(self, talk: Talk, reply: Said, *, wished: bool, has_place: bool) -> bool:
        if wished:
            reply.state = State.CANCELLED
            return False
        if talk.live or talk.queue or not has_place or not self.has_room:
            return False
        reply.state, reply.epoch, reply.held = State.GENERATING, 1, Held.HELD
        return True

    def cancel(self, message_id: str) -> bool:
        """Whether an owner has to be told."""
        said = self.get(message_id)
        if said.role != Role.ASSISTANT:
            raise Refused("INVALID_FIELD")
        return self._cancel(self.talk(said.conversation), said)

    def cancel_request(self, conversation_id: str, request_id: str) -> bool | None:
        """The same; None when the wish is kept."""
        talk = self.talk(conversation_id)
        said = talk.of_request(request_id)
        if said is not None:
            return self._cancel(talk, said)
        talk.bump()
        talk.wishes[request_id] = True
        return None

    def _cancel(self, talk: Talk, said: Said) -> bool:
        self.get(said.id)
        talk.bump()
        if said.state == State.QUEUED:
            said.state, said.version = State.CANCELLED, talk.version
        if said.is_live:
            said.cancel_requested = True
        return said.is_live

    def rate(self, message_id: str, rating: int) -> None:
        said = self.get(message_id)
        if said.role != Role.ASSISTANT:
            raise Refused("INVALID_FIELD")
        said.rating, said.version = rating, self.talk(said.conversation).bump()

    def name(self, conversation_id: str, title: str, *, prompt: Said | None) -> bool:
        """Whether the title was set: a user's, or one that was made of a prompt."""
        talk, by_user = self.talk(conversation_id), prompt is None
        if prompt and (talk.title or talk.title_by_user or prompt.deleted):
            return False
        talk.info_version = talk.bump()
        talk.title, talk.title_owed, talk.title_of = title, 0, prompt.id if prompt else None
        talk.title_by_user = talk.title_by_user or by_user
        return True

    def delete(self, conversation_id: str) -> set[str]:
        """The replies that were being written."""
        talk = self.talk(conversation_id)
        talk.bump()
        talk.is_deleted = True
        live = {talk.live.id} if talk.live else set()
        talk.messages, talk.wishes = [], {}
        return live

    # --- deleting -----------------------------------------------------------------------------

    def delete_message(self, message_id: str, member: str) -> set[str] | None:
        """The replies that were being written; None when it was deleted before."""
        said = self.find(message_id)
        if said is None or not self.talks[said.conversation].is_seen_by(member):
            raise Refused("MESSAGE_NOT_FOUND")
        if said.role == Role.ASSISTANT:
            raise Refused("INVALID_FIELD")
        if said.deleted:
            return None
        talk = self.talk(said.conversation)
        if member not in ("", said.author, talk.creator):
            raise Refused("PERMISSION_DENIED")
        talk.bump()
        return self._delete_prompts(talk, {said.id})

    def _delete_prompts(self, talk: Talk, prompts: set[str]) -> set[str]:
        live = set()
        for said in talk.kept:
            if said.id in prompts or said.reply_to in prompts:
                if said.is_live:
                    live.add(said.id)
                if not said.has_ended:
                    said.state = State.CANCELLED
                said.deleted, said.content, said.author = True, "", None
                said.rating, said.error = 0, ""
                said.epoch, said.version = said.epoch + 1, talk.version
        if talk.title_of in prompts:
            has_more = any(
                said.role == Role.ASSISTANT and said.state == State.COMPLETED for said in talk.kept
            )
            talk.title, talk.title_of, talk.title_owed = "", None, TITLE_TRIES if has_more else 0
            talk.info_version = talk.version
        return live

    def has_part_in(self, talk: Talk, user: str) -> bool:
        """Whether something is there that goes with a user."""
        return user in talk.people or talk.creator == user or self._said_by(talk, user) != set()

    def _said_by(self, talk: Talk, user: str) -> set[str]:
        return {said.id for said in talk.messages if said.author == user}

    def delete_said(self, conversation_id: str, user: str) -> set[str]:
        """Deletes a part of what a user said; the replies that were being written."""
        talk = self.talk(conversation_id)
        if {*talk.people, talk.creator} <= {user, self.default_user, None}:
            return self.delete(conversation_id)
        talk.bump()
        if said := self._said_by(talk, user):
            return self._delete_prompts(talk, said)
        talk.people.pop(user, None)
        talk.creator = None if talk.creator == user else talk.creator
        talk.info_version = talk.version
        return set()

    # --- who sees what ------------------------------------------------------------------------

    def show_to_all(self, conversation_id: str, member: str, *, is_open: bool) -> None:
        talk = self.talk(conversation_id, member)
        if member not in ("", talk.creator):
            raise Refused("PERMISSION_DENIED")
        talk.info_version = talk.bump()
        talk.is_open = is_open

    def invite(self, conversation_id: str, member: str, user: str) -> None:
        talk = self.talk(conversation_id, member)
        if user in self.gone:
            raise Refused("INVALID_FIELD")
        talk.bump()
        if not talk.people.get(user):
            talk.info_version = talk.version
        talk.people[user] = True

    def remove(self, conversation_id: str, member: str, user: str) -> None:
        talk = self.talk(conversation_id, member)
        if member not in ("", user, talk.creator):
            raise Refused("PERMISSION_DENIED")
        talk.bump()
        if talk.people.get(user) or talk.creator == user:
            talk.info_version = talk.version
        if user in talk.people:
            talk.people[user] = False
        talk.creator = None if talk.creator == user else talk.creator

    # --- writing ------------------------------------------------------------------------------

    def start(self, conversation_id: str) -> Said | None:
        talk = self.talks[conversation_id]
        if talk.is_deleted or talk.live or not talk.queue or not self.has_room:
            return None
        talk.bump()
        return self._start_next(talk)

    def _start_next(self, talk: Talk) -> Said | None:
        if not talk.queue or not self.has_room:
            return None
        head = talk.queue[0]
        head.state, head.held, head.version = State.GENERATING, Held.HELD, talk.version
        head.epoch += 1
        return head

    def _owned(self, message_id: str, epoch: int) -> Said:
        """The live reply of this owner. Raises Refused."""
        try:
            said = self.get(message_id)
        except Refused:
            raise Refused(FENCED) from None
        if not said.is_live or said.epoch != epoch or said.held == Held.RELEASED:
            raise Refused(FENCED)
        return said

    def checkpoint(
        self, texts: list[tuple[str, int, int, str]], *, releases: bool = False
    ) -> set[str]:
        """`texts` are (id, epoch, attempt, content); returns the ids that were fenced."""
        fenced = set()
        for message_id, epoch, attempt, content in texts:
            try:
                said = self._owned(message_id, epoch)
            except Refused:
                fenced.add(message_id)
                continue
            if said.attempt == attempt:
                said.content = content
                if releases:
                    said.held = Held.RELEASED
        return fenced

    def renew(self, owned: list[tuple[str, int]]) -> dict[str, bool]:
        """Returns, for each reply that is still the caller's, whether it is to be cancelled."""
        kept = {}
        for message_id, epoch in owned:
            try:
                said = self._owned(message_id, epoch)
            except Refused:
                continue
            said.held = Held.HELD
            kept[message_id] = said.cancel_requested
        return kept

    def begin_attempt(self, message_id: str, epoch: int, text: str) -> Said:
        said = self._owned(message_id, epoch)
        said.version = self.talks[said.conversation].bump()
        said.attempt += 1
        said.content = text
        return said

    def finish(
        self, message_id: str, epoch: int, state: State, content: str, *, has_place: bool
    ) -> Said | None:
        """The next reply, if it was started."""
        said = self._owned(message_id, epoch)
        talk = self.talks[said.conversation]
        return self._end(talk, said, state, content, has_place=has_place)

    def _end(
        self,
        talk: Talk,
        said: Said,
        state: State,
        content: str,
        *,
        has_place: bool,
        error: str = "",
    ) -> Said | None:
        said.version = talk.bump()
        said.state, said.content, said.error = state, content, error
        if state == State.COMPLETED and not (talk.title or talk.title_by_user or talk.title_owed):
            talk.title_owed = TITLE_TRIES
        return self._start_next(talk) if has_place else None

    def force_cancel(
        self, message_id: str, known: str, attempt: int, *, has_place: bool
    ) -> Taken | None:
        """None when there is nothing to cancel any more."""
        said = self.find(message_id)
        if said is None or not said.is_live or not said.cancel_requested:
            return None
        content = said.content
        if attempt == said.attempt and len(known) > len(content):
            content = known
        said.epoch += 1
        talk = self.talks[said.conversation]
        return Taken(said, self._end(talk, said, State.CANCELLED, content, has_place=has_place))

    def take_over(self, message_id: str, known: str, attempt: int) -> Taken | None:
        """None when there is nothing to take over."""
        said = self.find(message_id)
        if said is None or not said.is_live or said.held == Held.HELD:
            return None
        talk = self.talks[said.conversation]
        died = said.held == Held.OVER
        content = said.content
        if attempt == said.attempt and len(known) > len(content):
            content = known
        if said.cancel_requested:
            return Taken(said, self._end(talk, said, State.CANCELLED, content, has_place=True))
        if died and said.strikes + 1 >= MAX_STRIKES:
            error = "REPLY_ABANDONED"
            return Taken(
                said, self._end(talk, said, State.FAILED, content, has_place=True, error=error)
            )
        talk.bump()
        said.epoch += 1
        said.strikes += died
        said.held = Held.HELD
        said.content = content
        return Taken(said, said)
