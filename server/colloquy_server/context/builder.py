"""What a reply's model is given: the conversation as the provider's API wants it, as much of it as
the model's window holds.

Over the window, files of older turns become their names first, then the oldest turns go; the system
prompt and the newest message never do. What was given and what was not is written down.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from colloquy_server.context.authors import (
    NOTE_TOKENS,
    Authors,
    authors_of,
    envelope,
    file_envelope,
)
from colloquy_server.context.chat_messages import (
    ChatMessage,
    alternating,
    joined,
    system_message,
    text_message,
)
from colloquy_server.context.content_parts import (
    NO_ROOM,
    TOO_MANY_BYTES,
    UNREACHABLE,
    ContentParts,
    FileContent,
    Room,
    label,
    picture_tokens,
)
from colloquy_server.context.kept_histories import KeptHistories
from colloquy_server.context.token_estimates import TokenEstimates, estimate_tokens
from colloquy_server.database.models import Attachment
from colloquy_server.database.repository import history
from colloquy_server.database.repository.history import Earlier, History, Turn
from colloquy_server.database.repository.leases import Outcome
from colloquy_server.database.repository.receipts import Given
from colloquy_server.database.rows import MessageRow
from colloquy_server.database.transactions import Database, Session
from colloquy_server.errors import MessageTooLong
from colloquy_server.files.filetypes import Kind
from colloquy_server.providers.catalog import Model

_MARGIN = 0.05
"""The part of the window that is left free, because the counts are estimates."""

_NO_MORE = frozenset({NO_ROOM, TOO_MANY_BYTES, UNREACHABLE})
"""Reasons after which older files are only named."""

_UNASKED = "the message that it answers has no text, and nothing comes before it"

_OLDER = "a file of an older message: only its name is given"


def budget(model: Model) -> int:
    """How many tokens of context the model takes beside its longest reply."""
    return int((model.context_window - model.max_output_tokens) * (1 - _MARGIN))


@dataclass(frozen=True, slots=True)
class Request:
    """What a model is asked. `estimated` is in tokens as we count them, uncorrected."""

    messages: bytes
    """The messages, as a JSON array."""
    has_parts: bool
    """Whether something else than text is asked."""
    given: Given
    estimated: int
    whole: Earlier | None = None
    """All that was said up to the prompt and with it, if it can be kept for the next request."""


@dataclass(slots=True)
class _Shown:
    """A turn as the model will see it: its files with their contents."""

    turn: Turn
    files: list[tuple[Attachment, FileContent]] = field(default_factory=list)


class ContextBuilder:
    """Makes the requests of replies."""

    def __init__(self, db: Database, parts: ContentParts, estimates: TokenEstimates) -> None:
        self._db = db
        self._parts = parts
        self._estimates = estimates
        self._kept = KeptHistories()

    def check_fits(
        self,
        account_id: str,
        model: Model,
        system_prompt: str,
        content: str,
        files: Sequence[Attachment],
    ) -> None:
        """Raises MessageTooLong when a message could not be given to the model even alone.

        Texts of files are cut where they have to be; pictures cannot be.
        """
        needed = _cost(system_prompt) + estimate_tokens(content) + _names_cost(files)
        if "image" in model.input_kinds:
            needed += sum(picture_tokens(file) for file in files if file.kind == Kind.IMAGE)
        # What was learned of other texts refuses nothing; the provider may still do so.
        needed = int(needed * min(self._estimates.factor(account_id, model.id), 1))
        if needed > budget(model):
            raise MessageTooLong(
                {
                    "content": f"is about {needed} tokens with the system prompt, and {model.id}"
                    f" takes {budget(model)}: shorten it or choose a model with a larger window"
                }
            )

    def reader(
        self, account_id: str, model: Model
    ) -> Callable[[Session, MessageRow, str], History]:
        """Reads what a model may know of the newest prompt of a conversation, which it is given
        with the conversation's system prompt: to be a part of the transaction that stores it."""
        room = self._room(account_id, model, None)

        def read(s: Session, prompt: MessageRow, system_prompt: str) -> History:
            # Who stores the prompt holds the conversation: nothing changed between the versions.
            earlier = self._kept.get(prompt.conversation_id, prompt.version - 1)
            newest = history.newest(prompt)
            if (
                earlier is not None
                and earlier.author_id == prompt.author_id
                and not newest.files
                and newest.prompt.content.strip()
                and earlier.tokens + _turn_cost(newest) + _cost(system_prompt) <= room
            ):
                return History(system_prompt, [newest], True, earlier)
            return history.read_for_new(s, prompt, system_prompt, room, _turn_cost)

        return read

    def _room(self, account_id: str, model: Model, limit: int | None) -> int:
        factor = self._estimates.factor(account_id, model.id)
        return min(int(budget(model) / factor), budget(model) if limit is None else limit)

    async def build(
        self,
        account_id: str,
        reply_id: str,
        model: Model,
        known: History | None = None,
        limit: int | None = None,
        *,
        as_text: bool = False,
    ) -> Request:
        """The request of a reply, in at most `limit` tokens, or what the model takes; `as_text`
        gives files as their texts or names alone. `known` is what `reader` has read for it."""
        factor = self._estimates.factor(account_id, model.id)
        room = self._room(account_id, model, limit)
        found = known
        if found is None:
            found = await self._db.read(account_id, history.read, reply_id, room, _turn_cost)
        if found.earlier is not None:
            return _continued(found.system_prompt, found.earlier, found.turns[0], factor)
        newest = _Shown(found.turns[0])
        left = room - _cost(found.system_prompt) - _turn_cost(newest.turn)
        if found.participants:
            left -= NOTE_TOKENS
        # A correction learned of texts takes no room from pictures.
        spare = 0 if limit is not None else budget(model) - room
        raw = Room(0).raw
        given: dict[str, FileContent] = {}
        for file in sorted(newest.turn.files, key=lambda file: self._parts.rank(file, model)):
            tokens = left + spare if file.kind == Kind.IMAGE else left
            content = await self._parts.of(
                file, model, Room(max(tokens, 0), raw), is_new=True, as_text=as_text
            )
            given[file.id] = content
            left -= content.tokens
            raw -= content.raw
        newest.files = [(file, given[file.id]) for file in newest.turn.files]
        shown = [newest]
        names = {person.id: _cost(person.display_name) for person in found.participants}
        for turn in found.turns[1:]:
            cost = _turn_cost(turn) + names.get(turn.prompt.author_id or "", 0)
            if cost > left:
                break
            left -= cost
            shown.append(_Shown(turn))
        await self._add_older_files(shown[1:], model, Room(left, raw), as_text=as_text)
        shown.reverse()
        return await _request(found, shown, model, factor)

    async def _add_older_files(
        self, newest_first: list[_Shown], model: Model, room: Room, *, as_text: bool
    ) -> None:
        """Gives files of older turns as far as there is room, the newer ones first."""
        is_full = False
        for shown in newest_first:
            for file in shown.turn.files:
                content = FileContent(reason=_OLDER)
                if not is_full:
                    content = await self._parts.of(file, model, room, is_new=False, as_text=as_text)
                    is_full = content.reason in _NO_MORE
                if is_full and content.reason != UNREACHABLE:
                    content = FileContent(reason=_OLDER)
                shown.files.append((file, content))
                room.tokens -= content.tokens
                room.raw -= content.raw

    async def reduce(
        self, account_id: str, reply_id: str, model: Model, refused: Request, *, is_too_long: bool
    ) -> Request | None:
        """Another request after a provider refused one: a shorter one when it was too long, one
        without the files that it may not have liked; None when there is nothing to try."""
        if not is_too_long:
            if not refused.has_parts:
                return None
            return await self.build(account_id, reply_id, model, as_text=True)
        self._estimates.too_low(account_id, model.id)
        shorter = await self.build(account_id, reply_id, model, limit=refused.estimated // 2)
        return shorter if shorter.estimated < refused.estimated else None

    def is_over(self, account_id: str, model: Model, request: Request) -> bool:
        """Whether even the least of a request is more than the model takes: some servers cut off
        what is too much without a word."""
        # As in `check_fits`.
        factor = min(self._estimates.factor(account_id, model.id), 1)
        return int(request.estimated * factor) > budget(model)

    def keep(
        self, conversation_id: str, version: int, request: Request, outcome: Outcome, position: int
    ) -> None:
        """Keeps what was said up to the end of the last reply of a conversation, at `position`,
        which made this version: all of its request, and the reply itself."""
        whole = request.whole
        if whole is None or request.given.positions[-1] + 1 != position:
            return
        reason = history.why_withheld(outcome.state, outcome.content)
        if reason and whole.alternates:
            return  # the next message of the user becomes one with the last
        if reason:
            whole = whole._replace(withheld=(*whole.withheld, (position, reason)))
        else:
            said = text_message("assistant", outcome.content)
            given = Given(whole.floor, [position], whole.given)
            whole = whole._replace(
                messages=b"%b,%b" % (whole.messages, said),
                tokens=whole.tokens + estimate_tokens(outcome.content),
                given=tuple(given.ranges()),
            )
        self._kept.put(conversation_id, version, whole)

    def forget(self, conversation_id: str) -> None:
        """Keeps nothing of a conversation that is deleted."""
        self._kept.forget(conversation_id)

    def learn(self, account_id: str, model: Model, request: Request, counted: int) -> None:
        """Takes in what the provider counted for a request."""
        self._estimates.learn(account_id, model.id, request.estimated, counted)


def _cost(text: str) -> int:
    return estimate_tokens(text) if text else 0


def _turn_cost(turn: Turn) -> int:
    """Of a turn whose files are only named."""
    texts = [turn.prompt.content, *(reply.content for reply in turn.replies)]
    return sum(map(estimate_tokens, texts)) + _names_cost(turn.files)


def _names_cost(files: Sequence[Attachment]) -> int:
    return sum(estimate_tokens(label(file)) + 20 for file in files)


async def _request(
    known: History, oldest_first: list[_Shown], model: Model, factor: float
) -> Request:
    given = Given(floor=oldest_first[0].turn.prompt.position)
    estimated = 0
    authors = authors_of(known.participants, model.provider, [s.turn for s in oldest_first])
    messages: list[ChatMessage] = []
    for shown in oldest_first:
        prompt = shown.turn.prompt
        message = _user_message(shown, authors, is_newest=shown is oldest_first[-1])
        if message.content:
            messages.append(message)
            given.positions.append(prompt.position)
        else:
            given.withheld.append((prompt.position, history.NO_TEXT))
        for reply in shown.turn.replies:
            if messages:
                messages.append(ChatMessage("assistant", [reply.content]))
                given.positions.append(reply.position)
            else:
                given.withheld.append((reply.position, _UNASKED))
        given.withheld += shown.turn.withheld
        given.files += [
            (prompt.position, file.id, content.reason or content.note)
            for file, content in shown.files
            if content.reason or content.note
        ]
        estimated += _turn_cost(shown.turn) + sum(content.tokens for _, content in shown.files)
    alternates = model.provider.alternate_roles
    said = await joined(alternating(messages) if alternates else messages)
    whole = None
    newest = oldest_first[-1].turn.prompt
    is_whole = known.is_whole and len(oldest_first) == len(known.turns)
    has_files = any(shown.files for shown in oldest_first)
    if is_whole and not known.participants and not has_files and newest.content.strip():
        ranges, withheld = tuple(given.ranges()), tuple(given.withheld)
        whole = Earlier(
            said, estimated, newest.author_id, given.floor, ranges, withheld, alternates
        )
    system_prompt = "\n\n".join(filter(None, (known.system_prompt, authors.note)))
    estimated += _cost(system_prompt)
    given.estimated_tokens = int(estimated * factor)
    has_parts = any(content.parts for shown in oldest_first for _, content in shown.files)
    return Request(
        b"[%b%b]" % (system_message(system_prompt), said), has_parts, given, estimated, whole
    )


def _continued(system_prompt: str, earlier: Earlier, newest: Turn, factor: float) -> Request:
    """The request of a prompt to which all that came before it is kept."""
    prompt = newest.prompt
    said = b"%b,%b" % (earlier.messages, text_message("user", prompt.content))
    given = Given(earlier.floor, [prompt.position], earlier.given, [*earlier.withheld])
    tokens = earlier.tokens + _turn_cost(newest)
    whole = earlier._replace(messages=said, tokens=tokens, given=tuple(given.ranges()))
    estimated = tokens + _cost(system_prompt)
    given.estimated_tokens = int(estimated * factor)
    return Request(
        b"[%b%b]" % (system_message(system_prompt), said), False, given, estimated, whole
    )


def _user_message(shown: _Shown, authors: Authors, *, is_newest: bool) -> ChatMessage:
    """One user's message; nothing is in it when it is blank, unless it is what is asked."""
    prompt = shown.turn.prompt
    name = authors.names.get(prompt.author_id, "")
    seals = authors.is_enveloped and bool(name)
    texts: list[str] = []
    is_said = bool(prompt.content.strip()) or (is_newest and not shown.files)
    if seals and (is_said or shown.files):
        texts.append(envelope(name, prompt.content))
    elif is_said:
        texts.append(prompt.content)
    parts: list[bytes] = []
    for file, content in shown.files:
        parts += content.parts
        if content.text or (content.parts and content.note):
            cut = f" ({content.note})" if content.note else ""
            texts.append(
                file_envelope(file.filename, file.content_type, content.note, content.text)
                if seals
                else f"File {label(file)}{cut}" + (f":\n\n{content.text}" if content.text else "")
            )
        elif not content.parts:
            texts.append(f"File {label(file)} is attached, but not shown to you: {content.reason}.")
    return ChatMessage("user", [*texts, *parts], "" if authors.is_enveloped else name)
