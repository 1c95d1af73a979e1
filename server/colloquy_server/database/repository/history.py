"""What a reply's model may know: a conversation, read from its newest turn back as far as it is
wanted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Integer, bindparam, select
from sqlalchemy.orm import aliased

from colloquy_server.database.models import (
    Attachment,
    Conversation,
    Membership,
    Message,
    Role,
    State,
    User,
)
from colloquy_server.database.repository import attachments
from colloquy_server.database.repository.changes import Fenced, is_kept
from colloquy_server.database.rows import USER, MessageRow, UserRow
from colloquy_server.database.transactions import Session

NO_TEXT = "no text"
"""Why a message is not shown that is blank."""

_FIRST_PAGE = 32
_MAX_PAGE = 1_024
"""Messages that are read at a time: few, then more, as long messages soon fill a window."""


class Said(NamedTuple):
    """A message, as far as a model may know it."""

    id: str
    position: int
    role: int
    content: str
    author_id: str | None
    attachment_count: int
    reply_to: str | None
    state: int
    superseded: bool


@dataclass(frozen=True, slots=True)
class Turn:
    """A user's message with its author and files, the replies to it that the model may know, and
    the places of those that it may not, each with the reason."""

    prompt: Said
    replies: Sequence[Said] = ()
    withheld: Sequence[tuple[int, str]] = ()
    files: Sequence[Attachment] = ()


class Earlier(NamedTuple):
    """All that was said in a conversation, by one person alone and without files, as a model is
    given it: `messages` are JSON, joined by commas; where it `alternates`, those of one role in a
    row are one. `floor` is the place of the first of them, `given` has their places in ranges, and
    `withheld` those of what is not among them."""

    messages: bytes
    tokens: int
    author_id: str | None
    floor: int
    given: tuple[tuple[int, int], ...]
    withheld: tuple[tuple[int, str], ...]
    alternates: bool = False


@dataclass(frozen=True, slots=True)
class History:
    """A system prompt, and turns from the newest back; `is_whole` when there are no more of them.
    `participants` are all who ever wrote in the conversation, in the order of their first messages,
    if several wrote these. With `earlier` there is only the newest turn, and that is all that came
    before."""

    system_prompt: str
    turns: list[Turn]
    is_whole: bool
    earlier: Earlier | None = None
    participants: Sequence[UserRow] = ()


_prompt = aliased(Message)
_ASKED = (
    select(Message.conversation_id, Conversation.system_prompt, _prompt.position)
    .join(Conversation, Conversation.id == Message.conversation_id)
    .join(_prompt, _prompt.id == Message.reply_to)
    .where(Message.id == bindparam("reply_id"), is_kept)
)
_SAID = tuple(getattr(Message, name) for name in Said._fields)
_BACKWARDS = (
    select(*_SAID)
    .where(
        Message.conversation_id == bindparam("conversation"),
        Message.position < bindparam("before"),
        is_kept,
    )
    .order_by(Message.position.desc())
    .limit(bindparam("size", type_=Integer))
)
# Replies to older prompts that were asked for again since.
_LATER = (
    select(*_SAID)
    .join(_prompt, _prompt.id == Message.reply_to)
    .where(
        Message.conversation_id == bindparam("conversation"),
        Message.position > bindparam("newest"),
        _prompt.position < bindparam("newest"),
        is_kept,
    )
    .order_by(Message.position.desc())
)
_PARTICIPANTS = (
    select(*USER)
    .join(Membership, Membership.user_id == User.id)
    .where(Membership.conversation_id == bindparam("conversation"))
    .order_by(Membership.position)
)


def read(s: Session, reply_id: str, room: int, cost: Callable[[Turn], int]) -> History:
    """The turns up to the prompt that a reply answers, newest first, until what they cost by
    `cost` exceeds the room.

    Replies that are superseded, failed or empty are withheld; cancelled ones with text are not.
    Raises Fenced when the reply is deleted.
    """
    asked = s.run(_ASKED, {"reply_id": reply_id}).one_or_none()
    if asked is None:
        raise Fenced
    conversation_id, system_prompt, newest = asked
    later = s.run(_LATER, {"conversation": conversation_id, "newest": newest})
    return _read(s, conversation_id, system_prompt, newest, list(later), room, cost)


def newest(prompt: MessageRow) -> Turn:
    """The turn of a prompt to which there is no reply yet."""
    said = Said._make(getattr(prompt, name) for name in Said._fields)
    return Turn(said, files=prompt.attachments)


def read_for_new(
    s: Session, prompt: MessageRow, system_prompt: str, room: int, cost: Callable[[Turn], int]
) -> History:
    """The same for the newest prompt of a conversation, to which there is no other reply yet."""
    if prompt.position == 1:  # nothing was said before
        return History(system_prompt, [newest(prompt)], is_whole=True)
    return _read(s, prompt.conversation_id, system_prompt, prompt.position, [], room, cost)


def _read(
    s: Session,
    conversation_id: str,
    system_prompt: str,
    newest: int,
    later: Iterable[Sequence[object]],
    room: int,
    cost: Callable[[Turn], int],
) -> History:
    turns: list[Turn] = []
    replies: dict[str | None, list[Said]] = defaultdict(list)
    for row in later:
        said = Said._make(row)
        replies[said.reply_to].append(said)
    before, size = newest + 1, _FIRST_PAGE
    while True:
        values = {"conversation": conversation_id, "before": before, "size": size}
        page = [Said._make(row) for row in s.run(_BACKWARDS, values)]
        with_files = [said.id for said in page if said.attachment_count]
        files = attachments.files_of(s, with_files)
        for said in page:  # a reply comes before its prompt
            if said.role != Role.USER:
                replies[said.reply_to].append(said)
                continue
            answers = [] if said.position == newest else replies.pop(said.id, [])
            turn = _turn(said, answers[::-1], files.get(said.id, ()))
            turns.append(turn)
            room -= cost(turn)
            if room < 0:
                return _history(s, conversation_id, system_prompt, turns, is_whole=False)
        if len(page) < size:
            return _history(s, conversation_id, system_prompt, turns, is_whole=True)
        before, size = page[-1].position, min(size * 4, _MAX_PAGE)


def _turn(prompt: Said, answers: list[Said], files: Sequence[Attachment]) -> Turn:
    told: list[Said] = []
    withheld: list[tuple[int, str]] = []
    for said in answers:
        reason = _why_withheld(said)
        if reason:
            withheld.append((said.position, reason))
        else:
            told.append(said)
    return Turn(prompt, told, withheld, files)


def _history(
    s: Session, conversation_id: str, system_prompt: str, turns: list[Turn], *, is_whole: bool
) -> History:
    participants: list[UserRow] = []
    if len({turn.prompt.author_id for turn in turns}) > 1:
        rows = s.run(_PARTICIPANTS, {"conversation": conversation_id})
        participants = [UserRow._make(row) for row in rows]
    return History(system_prompt, turns, is_whole, participants=participants)


def _why_withheld(said: Said) -> str:
    return (
        "superseded by a later reply" if said.superseded else why_withheld(said.state, said.content)
    )


def why_withheld(state: int, content: str) -> str:
    """Why a reply is not shown to a model; empty when it is."""
    if state == State.FAILED:
        return "the reply failed"
    if state not in (State.COMPLETED, State.CANCELLED):
        return "not finished"
    return "" if content.strip() else NO_TEXT
