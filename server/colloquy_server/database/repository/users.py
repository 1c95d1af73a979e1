"""Users: whom a name means, adding people and keeping up what they are called."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, bindparam, delete, select, update

from colloquy_server.database.models import Account, AliasKind, User, new_id
from colloquy_server.database.repository import aliases
from colloquy_server.database.repository.changes import insert_all_new, insert_new
from colloquy_server.database.rows import USER, UserRow
from colloquy_server.database.tokenizer import joined_words
from colloquy_server.database.transactions import Session
from colloquy_server.errors import InvalidField, NotFound, Unauthenticated


@dataclass(frozen=True, slots=True)
class Author:
    """Who speaks: by `id` or by `external_id`; neither means the account's default user. Names
    that are not empty are kept as the user's own from now on."""

    id: str = ""
    external_id: str = ""
    display_name: str = ""
    avatar_url: str = ""
    email: str = ""
    """From somebody who is believed, in small letters: whoever is not known by `external_id` is the
    user who has this address."""
    is_caller: bool = False
    """Whether `id` is not what a request says, but the user of the key or token it came with."""


_BY_ID = select(*USER).where(
    User.id == bindparam("wanted"),
    User.account_id == bindparam("owner"),
    User.is_leaving.is_(False),
)
_BY_EXTERNAL_ID = select(*USER).where(
    User.external_id == bindparam("wanted"), User.account_id == bindparam("owner")
)
_DEFAULT_USER = select(Account.default_user_id).where(Account.id == bindparam("owner"))
_RENAME = (
    update(User)
    .where(User.id == bindparam("wanted"))
    .values(
        display_name=bindparam("name"),
        avatar_url=bindparam("avatar"),
        email=bindparam("address"),
        words=bindparam("new_words"),
    )
)


def find_author(s: Session, account_id: str, author: Author) -> UserRow | None:
    """The user that an Author means, if there is one yet.

    Raises InvalidField for an unknown id, and Unauthenticated for the caller's own.
    """
    user_id: str | None = author.id
    if not (author.id or author.external_id):
        user_id = s.run(_DEFAULT_USER, {"owner": account_id}).scalar_one_or_none()
        if user_id is None:
            raise NotFound("ACCOUNT")
    statement, wanted = (_BY_ID, user_id) if user_id else (_BY_EXTERNAL_ID, author.external_id)
    row = s.run(statement, {"wanted": wanted, "owner": account_id}).one_or_none()
    user = UserRow._make(row) if row is not None else None
    if not user_id:
        others = (author.external_id,)
        return user or aliases.named(s, account_id, others, AliasKind.EXTERNAL_ID).get(others[0])
    if user is None and author.is_caller:  # deleted a moment ago, by another process
        raise Unauthenticated("The user of this key or token was deleted.")
    if user is None or (author.external_id and user.external_id != author.external_id):
        raise InvalidField({"author.id": "no such user; set author.external_id to add one"})
    return user


def is_up_to_date(user: UserRow, author: Author) -> bool:
    """Whether a user is all that an Author says, of whom it was found by its id if it has one."""
    is_named = not author.id or author.external_id in ("", user.external_id)
    return (
        is_named
        and author.display_name in ("", user.display_name)
        and author.avatar_url in ("", user.avatar_url)
        and author.email in ("", user.email)
    )


def resolve_author(s: Session, account_id: str, author: Author, time: int) -> UserRow:
    """The user that an Author means, added or brought up to date. Raises as `find_author`."""
    user = find_author(s, account_id, author)
    if user is None and author.email:
        user = aliases.adopt(s, account_id, author.external_id, author.email)
    if user is None:
        user = _add_user(s, account_id, author, time)
    return user if is_up_to_date(user, author) else _rename(s, account_id, user, author)


_TAKE_BACK = delete(User).where(User.id == bindparam("wanted"))


def _add_user(s: Session, account_id: str, author: Author, time: int) -> UserRow:
    new = _new_user(account_id, author, time)
    is_new = insert_new(s, User, **new)
    if is_new and author.email and not aliases.give_email(s, account_id, new["id"], author.email):
        # Somebody with this address was added this moment, under another name.
        s.run(_TAKE_BACK, {"wanted": new["id"]})
        user = aliases.adopt(s, account_id, author.external_id, author.email)
    else:
        user = find_author(s, account_id, author)
    assert user is not None
    return user


def _new_user(account_id: str, author: Author, time: int) -> dict[str, Any]:
    return {
        "id": new_id(),
        "account_id": account_id,
        "external_id": author.external_id,
        "display_name": author.display_name,
        "avatar_url": author.avatar_url,
        "email": author.email,
        "words": joined_words(author.display_name, author.external_id),
        "create_time": time,
        "unread_since": time,
    }


def _rename(s: Session, account_id: str, user: UserRow, author: Author) -> UserRow:
    if author.email not in ("", user.email):
        aliases.give_email(s, account_id, user.id, author.email)
    user = user._replace(
        display_name=author.display_name or user.display_name,
        avatar_url=author.avatar_url or user.avatar_url,
        email=author.email or user.email,
    )
    names = {"name": user.display_name, "avatar": user.avatar_url, "address": user.email}
    words = joined_words(user.display_name, user.external_id or "")
    s.run(_RENAME, {"wanted": user.id, **names, "new_words": words})
    return user


_BY_IDS = select(*USER).where(User.id.in_(bindparam("wanted", expanding=True)))
_BY_EXTERNAL_IDS = select(*USER).where(User.external_id.in_(bindparam("wanted", expanding=True)))


def resolve_people(
    s: Session, account_id: str, people: Sequence[Author], time: int, *, may_rename: bool
) -> list[UserRow]:
    """The users whom a list names, each once, in its order: as `resolve_author`, but in few
    statements, with no default user, and names of those who are known only with `may_rename`.

    Raises InvalidField.
    """
    if not all(person.id or person.external_id for person in people):
        raise InvalidField({"users": "each needs an id or an external_id"})
    found = _users(s, _BY_IDS, {person.id for person in people if person.id})
    by_id = {user.id: user for user in found}
    named = {person.external_id: person for person in people if not person.id}
    found = _users(s, _BY_EXTERNAL_IDS, set(named))
    by_external_id = {user.external_id or "": user for user in found}
    missing = named.keys() - by_external_id.keys()
    if missing:
        by_external_id |= aliases.named(s, account_id, missing, AliasKind.EXTERNAL_ID)
    for name in missing - by_external_id.keys():
        if named[name].email:  # the address may be that of somebody who is known
            by_external_id[name] = resolve_author(s, account_id, named[name], time)
    if missing := missing - by_external_id.keys():
        new = [_new_user(account_id, named[name], time) for name in named if name in missing]
        insert_all_new(s, User, new)
        added = _users(s, _BY_EXTERNAL_IDS, missing)
        by_external_id |= {user.external_id or "": user for user in added}
    users: dict[str, UserRow] = {}
    for person in people:
        user = by_id.get(person.id) if person.id else by_external_id[person.external_id]
        is_named = user is not None and person.external_id in ("", user.external_id)
        if user is None or (person.id and not is_named):
            raise InvalidField({"users.id": "no such user; set external_id to add one"})
        if may_rename and not is_up_to_date(user, person):
            user = _rename(s, account_id, user, person)
        users[user.id] = user
    return list(users.values())


def _users(s: Session, statement: Select[Any], wanted: Collection[str]) -> list[UserRow]:
    if not wanted:
        return []
    return [UserRow._make(row) for row in s.run(statement, {"wanted": list(wanted)})]


_HOLD = (
    select(User.id)
    .where(User.id == bindparam("wanted"), User.is_leaving.is_(False))
    .with_for_update(read=True, key_share=True)
)


def hold_user(s: Session, user_id: str) -> bool:
    """Keeps a user from being deleted before this transaction ends; False when that has begun."""
    return s.run(_HOLD, {"wanted": user_id}).one_or_none() is not None


def present_users(s: Session, user_ids: Collection[str]) -> set[str]:
    """Those of the users that are not deleted, and are not about to be."""
    present = select(User.id).where(User.id.in_(user_ids), User.is_leaving.is_(False))
    return set(s.scalars(present))
