"""Sessions of browsers, and the one-time links with which they are begun.

A session is good until it expires, is revoked, its user is deleted, or the key on which it stands
has ended. All statements name whose rows they are about: they run before it is known who calls.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Integer,
    Select,
    Text,
    and_,
    bindparam,
    case,
    delete,
    func,
    or_,
    select,
    tuple_,
    update,
)

from colloquy_server.database.models import (
    MICROS,
    Account,
    ApiKey,
    BrowserSession,
    KeyRole,
    Quota,
    SignInLink,
    SignInMethod,
    User,
    db_now,
    new_id,
)
from colloquy_server.database.repository.changes import hold_account, insert_new, now
from colloquy_server.database.repository.users import Author, resolve_author
from colloquy_server.database.rows import USER, UserRow
from colloquy_server.database.transactions import Session
from colloquy_server.errors import NotFound, Unauthenticated

IDLE_SECONDS = 7 * 86_400
"""After so long without use a session has ended."""

LINK_SECONDS = 900
"""For so long a link that nobody has used is good."""

_KEPT = 86_400 * MICROS
"""For so long the row of a session that has ended stays, so that it can be said that it has."""


class SessionRow(NamedTuple):
    """A session; see `models.BrowserSession`. Times are in microseconds."""

    id: str
    account_id: str
    user_id: str
    api_key_id: str | None
    method: int
    role: int
    user_agent: str
    create_time: int
    last_used_time: int
    expire_time: int


class FoundSession(NamedTuple):
    """A good session, with what a call needs to know of its user and key."""

    session: SessionRow
    external_id: str | None
    is_limited: bool
    """Whether its key has quotas."""
    expire_time: int
    """When it or its key expires, in microseconds."""


class Holder(NamedTuple):
    """Who is signed in, in which role, and the key on which that stands, if it does on one."""

    account_id: str
    user_id: str
    api_key_id: str | None
    role: int


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session that is begun: `previous_hash` is of the one that the browser had, which ends;
    `lifetime`, in seconds, is how long it lasts however much it is used."""

    method: SignInMethod
    secret_hash: str
    user_agent: str
    lifetime: float
    previous_hash: str = ""


_COLUMNS = tuple(getattr(BrowserSession, name) for name in SessionRow._fields)
_WIDTH = len(_COLUMNS)

_key_is_good = and_(
    ApiKey.revoke_time.is_(None),
    or_(ApiKey.expire_time.is_(None), ApiKey.expire_time > db_now()),
)
_is_good = and_(
    BrowserSession.revoke_time.is_(None),
    BrowserSession.expire_time > db_now(),
    User.is_leaving.is_(False),
    or_(BrowserSession.api_key_id.is_(None), _key_is_good),
)


def _good(*columns: Any) -> Select[Any]:
    of_user = and_(User.id == BrowserSession.user_id, User.account_id == BrowserSession.account_id)
    of_key = and_(
        ApiKey.id == BrowserSession.api_key_id, ApiKey.account_id == BrowserSession.account_id
    )
    return (
        select(*columns)
        .select_from(BrowserSession)
        .join(User, of_user)
        .outerjoin(ApiKey, of_key)
        .where(_is_good)
    )


_BY_HASHES = (
    _good(BrowserSession.secret_hash, *_COLUMNS, User.external_id, ApiKey.expire_time, Quota.id)
    .outerjoin(
        Quota,
        and_(Quota.id == ApiKey.id, Quota.account_id == ApiKey.account_id),
    )
    .where(BrowserSession.secret_hash.in_(bindparam("wanted", expanding=True)))
)


def by_hash(s: Session, hashes: Collection[str]) -> tuple[dict[str, FoundSession], int]:
    """The good sessions whose secrets have these hashes, by those, with the database's time."""
    found: dict[str, FoundSession] = {}
    for secret_hash, *row in s.run(_BY_HASHES, {"wanted": list(hashes)}):
        session = SessionRow._make(row[:_WIDTH])
        external_id, key_ends, quota_id = row[_WIDTH:]
        ends = min(session.expire_time, key_ends or session.expire_time)
        found[secret_hash] = FoundSession(session, external_id, quota_id is not None, ends)
    return found, now(s)


_VALID = _good(BrowserSession.id).where(BrowserSession.id.in_(bindparam("wanted", expanding=True)))


def valid(s: Session, session_ids: Collection[str]) -> set[str]:
    """Those of the sessions that are good."""
    return set(s.run(_VALID, {"wanted": list(session_ids)}).scalars())


_USED = bindparam("used", type_=BigInteger)
_ENDS_AT_THE_LATEST = BrowserSession.create_time + bindparam("lifetime", type_=BigInteger)
_ENDS_IDLE = _USED + IDLE_SECONDS * MICROS
_STORE_USE = (
    update(BrowserSession)
    .where(BrowserSession.id == bindparam("wanted"), BrowserSession.last_used_time < _USED)
    .values(
        last_used_time=_USED,
        expire_time=case(
            (BrowserSession.method == SignInMethod.IDENTITY_PROVIDER, BrowserSession.expire_time),
            (_ENDS_AT_THE_LATEST < _ENDS_IDLE, _ENDS_AT_THE_LATEST),
            else_=_ENDS_IDLE,
        ),
    )
)


def store_uses(s: Session, uses: Mapping[str, float], lifetime: float) -> None:
    """Stores when sessions were last used: by their ids, in monotonic seconds of this process.
    `lifetime`, in seconds, is how long one lasts however much it is used."""
    time = now(s)
    ago = monotonic()
    s.run(
        _STORE_USE,
        [
            {
                "wanted": session_id,
                "used": time - int((ago - uses[session_id]) * MICROS),
                "lifetime": int(lifetime * MICROS),
            }
            for session_id in sorted(uses)
        ],
    )


# --- beginning and ending them --------------------------------------------------------------------

_USER = select(User.id).where(
    User.id == bindparam("wanted"),
    User.account_id == bindparam("owner"),
    User.is_leaving.is_(False),
)
_HOLD_USER = _USER.with_for_update(read=True, key_share=True)
_SWEEP = delete(BrowserSession).where(
    BrowserSession.account_id == bindparam("owner"),
    or_(
        BrowserSession.expire_time < bindparam("old", type_=BigInteger),
        BrowserSession.revoke_time < bindparam("old", type_=BigInteger),
    ),
)
_REVOKE_BY_HASH = (
    update(BrowserSession)
    .where(BrowserSession.secret_hash == bindparam("wanted"), BrowserSession.revoke_time.is_(None))
    .values(revoke_time=db_now())
)


def create(s: Session, holder: Holder, new: NewSession) -> SessionRow:
    """Begins a session. Raises Unauthenticated when its user or account was deleted this moment.

    Whoever ends the key on which it stands ends it, too, be that before or afterwards.
    """
    try:
        hold_account(s, holder.account_id)
    except NotFound:
        raise Unauthenticated("The account was deleted.") from None
    holds = {"wanted": holder.user_id, "owner": holder.account_id}
    if s.run(_HOLD_USER, holds).one_or_none() is None:
        raise Unauthenticated("The user was deleted.")
    time = now(s)
    s.run(_SWEEP, {"owner": holder.account_id, "old": time - _KEPT})
    if new.previous_hash:
        s.run(_REVOKE_BY_HASH, {"wanted": new.previous_hash})
    lasts = min(new.lifetime, IDLE_SECONDS)
    row = SessionRow(
        new_id(),
        holder.account_id,
        holder.user_id,
        holder.api_key_id,
        new.method,
        holder.role,
        new.user_agent[:255],
        time,
        time,
        time + int(lasts * MICROS),
    )
    is_new = insert_new(s, BrowserSession, secret_hash=new.secret_hash, **row._asdict())
    assert is_new  # 256 random bits
    return row


_behind = tuple_(BrowserSession.last_used_time, BrowserSession.id) < tuple_(
    bindparam("before", type_=BigInteger), bindparam("before_id", type_=Text)
)


def _page(*conditions: Any) -> Select[Any]:
    return (
        _good(*_COLUMNS)
        .where(
            BrowserSession.account_id == bindparam("owner"),
            BrowserSession.user_id == bindparam("whose"),
            *conditions,
        )
        .order_by(BrowserSession.last_used_time.desc(), BrowserSession.id.desc())
        .limit(bindparam("size", type_=Integer))
    )


_FIRST_PAGE, _LATER_PAGE = _page(), _page(_behind)


def page(
    s: Session, account_id: str, user_id: str, *, limit: int, before: tuple[int, str] | None
) -> list[SessionRow]:
    """The good sessions of a user, the one that was used last first; `before` is (last_used_time,
    id). Raises NotFound for a user whom the account does not have."""
    if s.run(_USER, {"wanted": user_id, "owner": account_id}).one_or_none() is None:
        raise NotFound("USER")
    values: dict[str, object] = {"owner": account_id, "whose": user_id, "size": limit}
    if before is not None:
        values |= {"before": before[0], "before_id": before[1]}
    statement = _LATER_PAGE if before else _FIRST_PAGE
    return [SessionRow._make(row) for row in s.run(statement, values)]


_ONE = select(*_COLUMNS, BrowserSession.revoke_time).where(
    BrowserSession.id == bindparam("wanted"), BrowserSession.account_id == bindparam("owner")
)
_REVOKE = (
    update(BrowserSession)
    .where(BrowserSession.id == bindparam("wanted"), BrowserSession.revoke_time.is_(None))
    .values(revoke_time=db_now())
    .execution_options(preserve_rowcount=True)
)


def revoke(s: Session, account_id: str, session_id: str, user_id: str) -> SessionRow:
    """Ends a session of the account, or, with a `user_id`, of this user; one that has ended stays
    as it is. Raises NotFound."""
    row = s.run(_ONE, {"wanted": session_id, "owner": account_id}).one_or_none()
    session = SessionRow._make(row[:_WIDTH]) if row is not None else None
    if session is None or user_id not in ("", session.user_id):
        raise NotFound("SESSION")
    if s.run(_REVOKE, {"wanted": session_id}).rowcount == 0:
        s.undo()
    return session


# --- links ----------------------------------------------------------------------------------------


class MadeLink(NamedTuple):
    """A link that was made, for a user, until `expire_time` in microseconds."""

    user: UserRow
    expire_time: int

    @property
    def id(self) -> str:
        """What it is about: the user's id."""
        return self.user.id


_SWEEP_LINKS = delete(SignInLink).where(
    SignInLink.account_id == bindparam("owner"),
    SignInLink.expire_time < bindparam("old", type_=BigInteger),
)


def create_link(
    s: Session, account_id: str, key_id: str, author: Author, role: KeyRole, code_hash: str
) -> MadeLink:
    """Makes a link with which a browser is signed in as a user, who is added if need be.

    Raises NotFound for an account that is gone, and InvalidField for a user who is.
    """
    hold_account(s, account_id)
    time = now(s)
    user = resolve_author(s, account_id, author, time)
    holds = {"wanted": user.id, "owner": account_id}
    if s.run(_HOLD_USER, holds).one_or_none() is None:
        raise NotFound("USER")
    s.run(_SWEEP_LINKS, {"owner": account_id, "old": time})
    expire_time = time + LINK_SECONDS * MICROS
    insert_new(
        s,
        SignInLink,
        code_hash=code_hash,
        account_id=account_id,
        user_id=user.id,
        api_key_id=key_id,
        role=role,
        expire_time=expire_time,
    )
    return MadeLink(user, expire_time)


_HOLDER = tuple(getattr(SignInLink, name) for name in Holder._fields)
_USE_LINK = (
    delete(SignInLink)
    .where(SignInLink.code_hash == bindparam("wanted"))
    .returning(*_HOLDER, SignInLink.expire_time > db_now())
)
_KEY = select(func.count()).where(ApiKey.id == bindparam("wanted"), _key_is_good)


def create_by_link(s: Session, code_hash: str, new: NewSession) -> SessionRow:
    """Uses a link up and begins its session; the first of several who use it at once has it alone.

    Raises Unauthenticated for a link that is not good, and as `create`.
    """
    row = s.run(_USE_LINK, {"wanted": code_hash}).one_or_none()
    holder = Holder._make(row[:-1]) if row is not None and row[-1] else None
    if holder is None or not s.run(_KEY, {"wanted": holder.api_key_id}).scalar_one():
        raise Unauthenticated(
            "This link was used already, or is too old: ask for a new one where it came from."
        )
    return create(s, holder, new)


# --- who somebody is ------------------------------------------------------------------------------

_WHO = (
    select(Account.name, *USER)
    .join(User, User.account_id == Account.id)
    .where(
        Account.id == bindparam("owner"),
        User.id == bindparam("wanted"),
        User.is_leaving.is_(False),
    )
)
_SESSION = select(*_COLUMNS).where(
    BrowserSession.id == bindparam("wanted"), BrowserSession.account_id == bindparam("owner")
)


def describe(
    s: Session, account_id: str, user_id: str, session_id: str
) -> tuple[str, UserRow, SessionRow | None]:
    """What an account is called, its user, and the session if there is one with this id.

    Raises Unauthenticated when the user was deleted this moment.
    """
    row = s.run(_WHO, {"owner": account_id, "wanted": user_id}).one_or_none()
    if row is None:
        raise Unauthenticated("The user of this key or token was deleted.")
    found = s.run(_SESSION, {"owner": account_id, "wanted": session_id}).one_or_none()
    session = SessionRow._make(found) if found is not None else None
    return row[0], UserRow._make(row[1:]), session
