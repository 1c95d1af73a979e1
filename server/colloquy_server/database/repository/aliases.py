"""Other names of users, by which somebody who comes from elsewhere is known for the same.

An e-mail address is the first user's of whom it was said: somebody who is not known yet and comes
with it is that user, and their external_id is from then on another name of that user. Two users who
are both known stay apart, whatever address they have.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import bindparam, delete, select

from colloquy_server.database.models import AliasKind, User, UserAlias
from colloquy_server.database.repository.changes import insert_new
from colloquy_server.database.rows import USER, UserRow
from colloquy_server.database.transactions import Session

_BY_NAMES = (
    select(UserAlias.name, *USER)
    .join(User, User.id == UserAlias.user_id)
    .where(
        UserAlias.account_id == bindparam("owner"),
        User.account_id == bindparam("owner"),
        UserAlias.kind == bindparam("kind"),
        UserAlias.name.in_(bindparam("names", expanding=True)),
        User.is_leaving.is_(False),
    )
)


def named(
    s: Session, account_id: str, external_ids: Collection[str], kind: AliasKind
) -> dict[str, UserRow]:
    """The users who have these names beside their own, by the names."""
    values = {"owner": account_id, "kind": kind, "names": list(external_ids)}
    return {row[0]: UserRow._make(row[1:]) for row in s.run(_BY_NAMES, values)}


def own_name(s: Session, external_id: str) -> str:
    """The external_id of the user who has this one, be it their own or another; as it is when
    nobody has it for another."""
    users = named(s, s.account_id, [external_id], AliasKind.EXTERNAL_ID)
    found = users.get(external_id)
    return (found.external_id if found is not None else None) or external_id


def adopt(s: Session, account_id: str, external_id: str, email: str) -> UserRow | None:
    """The user who has an e-mail address, with this external_id for another name from now on; None
    when nobody has it."""
    user = named(s, account_id, [email], AliasKind.EMAIL).get(email)
    if user is not None:
        _add(s, account_id, AliasKind.EXTERNAL_ID, external_id, user.id)
    return user


_FORGET = delete(UserAlias).where(
    UserAlias.account_id == bindparam("owner"),
    UserAlias.user_id == bindparam("wanted"),
    UserAlias.kind == AliasKind.EMAIL,
    UserAlias.name != bindparam("kept"),
)


def give_email(s: Session, account_id: str, user_id: str, email: str) -> bool:
    """Makes an address a user's, in the place of another one; False when it is somebody else's."""
    s.run(_FORGET, {"owner": account_id, "wanted": user_id, "kept": email})
    return _add(s, account_id, AliasKind.EMAIL, email, user_id)


def _add(s: Session, account_id: str, kind: AliasKind, name: str, user_id: str) -> bool:
    return insert_new(s, UserAlias, account_id=account_id, kind=kind, name=name, user_id=user_id)
