"""Quotas: how much accounts and keys may hold, and how much they do.

Files and conversations are counted in the rows of `quotas`, in the transaction that makes or
deletes them. Replies that wait are counted when one is about to, by an index that has only those.

The rules, which hold however many processes work at once:

- Whoever adds to what is held has the row of its account, and of its key, until it commits; so no
  two of them can both take the last place.
- These rows are locked behind all else in a transaction, an account's before those of its keys, and
  accounts in the order of their ids: so nobody waits in a circle, and a row that all of an account
  need is held for no longer than a commit takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Executable, Integer, bindparam, func, literal_column, select, update

from colloquy_server.database.models import Attachment, Feature, Message, Quota
from colloquy_server.database.repository.changes import is_queued
from colloquy_server.database.scope import of_account
from colloquy_server.database.transactions import Session
from colloquy_server.errors import NotFound, QuotaExceeded
from colloquy_server.settings import Settings


@dataclass(frozen=True, slots=True)
class Limits:
    """How much there may be at a time; 0 is no limit."""

    file_bytes: int = 0
    conversations: int = 0
    queued_replies: int = 0

    @classmethod
    def of_server(cls, settings: Settings) -> Limits:
        """Those of accounts that have none of their own."""
        return cls(
            settings.max_file_bytes_per_account or 0,
            settings.max_conversations_per_account or 0,
            settings.max_queued_replies_per_account or 0,
        )

    def columns(self) -> Mapping[str, int]:
        """The limits as `quotas` has them."""
        return {
            "max_file_bytes": self.file_bytes,
            "max_conversations": self.conversations,
            "max_queued_replies": self.queued_replies,
        }


NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Charge:
    """Whom something that is made counts for, beside its account: the key `api_key_id`, if that has
    quotas. `default` is what holds where an account has no limit of its own.

    What a reply uses counts for whoever asked for it, with or without quotas: with the key
    `used_key_id`, as the user `asker_id`, where that is not who wrote the prompt."""

    api_key_id: str | None = None
    default: Limits = NO_LIMITS
    used_key_id: str = ""
    asker_id: str = ""


FREE = Charge()
"""For the account alone, which has no limits but its own."""


@dataclass(frozen=True, slots=True)
class Room:
    """How many bytes a new file may have, and what is said of one that is larger."""

    bytes: int
    refusal: QuotaExceeded


def make(s: Session, account_id: str, id_: str, limits: Limits) -> None:
    """Gives a new account, or a new key of it, its quotas."""
    s.add(Quota(id=id_, account_id=account_id, **limits.columns()))
    s.flush()


def change(s: Session, account_id: str, limits: Limits) -> None:
    """Sets an account's limits. What is there stays, even where it is more. Raises NotFound."""
    row = s.run(_CHANGE, {"wanted": account_id, "whose": account_id, **_limits(limits)})
    if row.one_or_none() is None:
        raise NotFound("ACCOUNT")


def set_feature(s: Session, account_id: str, feature: Feature, *, has: bool = True) -> None:
    """Notes that an account has what few have, or has it no more. Its row stays locked."""
    features = Quota.features
    noted = features.bitwise_or(int(feature)) if has else features.bitwise_and(~int(feature))
    s.run(update(Quota).where(Quota.id == account_id).values(features=noted))


def _limits(limits: Limits) -> Mapping[str, int]:
    return {f"new_{name}": value for name, value in limits.columns().items()}


_CHANGE = (
    update(Quota)
    .where(Quota.id == bindparam("wanted"), Quota.account_id == bindparam("whose"))
    .values({name: bindparam(f"new_{name}") for name in NO_LIMITS.columns()})
    .returning(Quota.id)
)


# --- what is made and deleted ---------------------------------------------------------------------


@dataclass(slots=True)
class _Held:
    """By how much this transaction changes what somebody holds, and what then is to be looked at.
    `default` is for an account without a limit of its own."""

    conversations: int = 0
    file_bytes: int = 0
    known_bytes: int = 0
    has_queued: bool = False
    default: Limits = NO_LIMITS


_Pending = dict[tuple[str, str], _Held]
"""By account and, of one of its keys, the key's id: an account's sorts before its keys'."""


def count(
    s: Session,
    account_id: str,
    charge: Charge,
    *,
    conversations: int = 0,
    file_bytes: int = 0,
    known_bytes: int = 0,
    has_queued: bool = False,
) -> None:
    """Counts what this transaction makes, or with less than 0 what it deletes. At its end raises
    QuotaExceeded if that is too much.

    `known_bytes` are those of a file that are there already, but that somebody else uploaded. They
    are refused as new ones would be, since it would else show that they are there, and then are not
    counted twice. `has_queued` when it stores a reply that waits.
    """
    pending = s.info.get(_KEY)
    if pending is None:
        pending = s.info[_KEY] = _Pending()
        s.at_end(_settle)
    for key in ("", charge.api_key_id) if charge.api_key_id else ("",):
        held: _Held = pending.setdefault((account_id, key), _Held())
        held.conversations += conversations
        held.file_bytes += file_bytes
        held.known_bytes += known_bytes
        held.has_queued |= has_queued
        if not key and charge.default != NO_LIMITS:
            held.default = charge.default


_KEY = "quotas"


def _settle(s: Session) -> None:
    """Enters all of it."""
    pending: _Pending = s.info.pop(_KEY)
    for (account_id, key_id), held in sorted(pending.items(), key=lambda each: each[0]):
        subject = f"api_key:{key_id}" if key_id else f"account:{account_id}"
        values: dict[str, str | int] = {"wanted": key_id or account_id, "whose": account_id}
        more = {"more_conversations": held.conversations, "more_file_bytes": held.file_bytes}
        statement = _HOLD
        if any(more.values()):
            statement, values = _COUNT, {**values, **more}
        row = s.run(statement, values).one_or_none()
        if row is None:  # a key that is gone
            continue
        conversations, file_bytes, max_conversations, max_file_bytes, max_queued = row
        default = held.default
        if held.conversations > 0:
            _check(subject, "conversations", conversations, max_conversations, default)
        if held.file_bytes + held.known_bytes > 0:
            wanted_bytes = file_bytes + held.known_bytes
            _check(subject, "file_bytes", wanted_bytes, max_file_bytes, default)
        limit = max_queued or default.queued_replies
        if held.has_queued and limit:
            # A statement of its own: it sees what others committed before the row was ours.
            queued = _QUEUED_OF_KEY if key_id else _QUEUED
            values = {"size": limit + 1, **({"key": key_id} if key_id else {})}
            _check(subject, "queued_replies", s.run(queued, values).scalar_one(), limit, default)


_ROW = (
    Quota.conversations,
    Quota.file_bytes,
    Quota.max_conversations,
    Quota.max_file_bytes,
    Quota.max_queued_replies,
)
_IS_WANTED = Quota.id == bindparam("wanted"), Quota.account_id == bindparam("whose")
_HOLD: Executable = select(*_ROW).where(*_IS_WANTED).with_for_update()
_COUNT: Executable = (
    update(Quota)
    .where(*_IS_WANTED)
    .values(
        conversations=Quota.conversations + bindparam("more_conversations"),
        file_bytes=Quota.file_bytes + bindparam("more_file_bytes"),
    )
    .returning(*_ROW)
)

# No more are looked at than decide it.
_QUEUED = select(func.count()).select_from(
    select(literal_column("1").label("one"))
    .select_from(Message)
    .where(of_account(Message), is_queued)
    .limit(bindparam("size", type_=Integer))
    .subquery()
)
_QUEUED_OF_KEY = select(func.count()).select_from(
    select(literal_column("1").label("one"))
    .select_from(Message)
    .where(
        of_account(Message),
        Message.api_key_id == bindparam("key"),
        Message.api_key_id.is_not(None),
        Message.state == literal_column("1"),
    )
    .limit(bindparam("size", type_=Integer))
    .subquery()
)


def _check(subject: str, what: str, is_held: int, limit: int, default: Limits) -> None:
    limit = limit or getattr(default, what)
    if limit and is_held > limit:
        raise QuotaExceeded(subject, _NAMES[what], limit)


_NAMES = {
    "file_bytes": "bytes of files",
    "conversations": "conversations",
    "queued_replies": "queued replies",
}


# --- before a file is here ------------------------------------------------------------------------

_OF_FILES = select(Quota.id, Quota.max_file_bytes, Quota.file_bytes).where(
    Quota.account_id == bindparam("whose"),
    Quota.id.in_([bindparam("whose_too"), bindparam("key")]),
)
_IS_OF_UPLOADER = of_account(Attachment), Attachment.uploader_id == bindparam("uploader")
_IS_THERE = select(Attachment.id).where(*_IS_OF_UPLOADER, Attachment.sha256 == bindparam("wanted"))
_LARGEST = select(func.max(Attachment.byte_size)).where(*_IS_OF_UPLOADER)


def room_for_file(
    s: Session, account_id: str, charge: Charge, uploader_id: str, sha256: str
) -> Room | None:
    """How large a file may become that is on its way; None when it may be of any size, as it may
    when its uploader has its bytes here already: those of others tell nothing. `sha256` is what its
    sender says of it, if anything.

    It saves the server from taking in what it would refuse. Whether a file is refused is decided
    when it is stored.
    """
    room: Room | None = None
    values = {"whose": account_id, "whose_too": account_id, "key": charge.api_key_id or account_id}
    for id_, limit, used in s.run(_OF_FILES, values):
        is_account = id_ == account_id
        limit = limit or (charge.default.file_bytes if is_account else 0)
        if limit and (room is None or limit - used < room.bytes):
            subject = f"account:{id_}" if is_account else f"api_key:{id_}"
            refusal = QuotaExceeded(subject, _NAMES["file_bytes"], limit)
            room = Room(max(0, limit - used), refusal)
    if room is None:
        return None
    own = {"uploader": uploader_id}
    if sha256 and s.run(_IS_THERE, {**own, "wanted": sha256}).one_or_none():
        return None
    if not sha256:  # what is no larger than something that is there may be the same once more
        largest = s.run(_LARGEST, own).scalar_one_or_none() or 0
        return Room(max(room.bytes, largest), room.refusal)
    return room
