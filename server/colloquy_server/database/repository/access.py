"""Accounts, their users and their keys."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import bindparam, delete, select, update

from colloquy_server.database.models import (
    Account,
    ApiKey,
    CancelWish,
    Conversation,
    KeyRole,
    Membership,
    Message,
    User,
    new_id,
)
from colloquy_server.database.repository import attachments, search
from colloquy_server.database.repository.changes import (
    NO_SYNC,
    hold_account,
    insert_new,
    is_generating,
    now,
)
from colloquy_server.database.rows import USER, UserRow
from colloquy_server.database.transactions import Session
from colloquy_server.errors import InvalidField, NotFound


@dataclass(frozen=True, slots=True)
class Author:
    """Who speaks: by `id` or by `external_id`; neither means the account's default user. Names
    that are not empty are kept as the user's own from now on."""

    id: str = ""
    external_id: str = ""
    display_name: str = ""
    avatar_url: str = ""


def create_account(s: Session, name: str, external_id: str | None) -> Account:
    """Makes an account with its default user, or returns the one that has this external_id."""
    time = now(s)
    account_id, user_id = new_id(), new_id()
    is_new = insert_new(
        s,
        Account,
        id=account_id,
        name=name,
        external_id=external_id,
        default_user_id=user_id,
        create_time=time,
    )
    if not is_new:
        return s.scalars(select(Account).where(Account.external_id == external_id)).one()
    s.add(User(id=user_id, account_id=account_id, display_name=name, create_time=time))
    s.flush()
    return get_account(s, account_id)


def get_account(s: Session, account_id: str) -> Account:
    """An account. Raises NotFound."""
    account = s.get(Account, account_id)
    if account is None:
        raise NotFound("ACCOUNT")
    return account


def accounts(s: Session, *, limit: int, after: str) -> list[Account]:
    """Accounts, oldest first, behind the id `after`."""
    query = select(Account).where(Account.id > after).order_by(Account.id).limit(limit)
    return list(s.scalars(query))


def delete_account(s: Session, account_id: str) -> tuple[list[str], list[str]]:
    """Deletes an account with all that is in it; returns its conversations and the live
    replies. Raises NotFound."""
    # Waits for what is being made in it, and keeps off more.
    found = select(Account.id).where(Account.id == account_id).with_for_update()
    if s.scalars(found).one_or_none() is None:
        raise NotFound("ACCOUNT")
    conversations = list(
        s.scalars(
            update(Conversation)  # takes every row's lock, so that no reply starts meanwhile
            .where(Conversation.account_id == account_id)
            .values(version=Conversation.version + 1)
            .returning(Conversation.id),
            execution_options=NO_SYNC,
        )
    )
    live = list(
        s.scalars(select(Message.id).where(Message.account_id == account_id, is_generating))
    )
    conversations_of = select(Conversation.id).where(Conversation.account_id == account_id)
    search.forget(s, conversations)
    # By their conversations, which have an index.
    said = Message.conversation_id.in_(conversations_of)
    s.execute(delete(Message).where(said), execution_options=NO_SYNC)
    for table in (CancelWish, Membership, Conversation, ApiKey, User):
        s.execute(delete(table).where(table.account_id == account_id), execution_options=NO_SYNC)
    attachments.remove_account(s, account_id)
    s.execute(delete(Account).where(Account.id == account_id), execution_options=NO_SYNC)
    return conversations, live


def create_key(
    s: Session,
    account_id: str,
    *,
    name: str,
    role: KeyRole,
    user: Author,
    secret_hash: str,
    expire_time: int | None,
) -> ApiKey:
    """Makes a key; a service's key has the account's default user. Raises NotFound."""
    hold_account(s, account_id)
    time = now(s)
    key = ApiKey(
        id=new_id(),
        account_id=account_id,
        name=name,
        role=role,
        user_id=resolve_author(s, account_id, user, time).id,
        secret_hash=secret_hash,
        create_time=time,
        expire_time=expire_time,
        revoke_time=None,
    )
    s.add(key)
    s.flush()
    s.refresh(key)
    return key


def keys(s: Session, account_id: str, *, limit: int, after: str) -> list[ApiKey]:
    """An account's keys, oldest first, behind the id `after`. Raises NotFound."""
    get_account(s, account_id)
    return list(
        s.scalars(
            select(ApiKey)
            .where(ApiKey.account_id == account_id, ApiKey.id > after)
            .order_by(ApiKey.id)
            .limit(limit)
        )
    )


def revoke_key(s: Session, key_id: str) -> ApiKey:
    """Revokes a key; one that is revoked already stays as it is. Raises NotFound."""
    key = s.get(ApiKey, key_id)
    if key is None:
        raise NotFound("API_KEY")
    if key.revoke_time is None:
        key.revoke_time = now(s)
        s.flush()
    return key


def key_by_hash(s: Session, secret_hash: str) -> tuple[ApiKey, int] | None:
    """The key whose secret has this hash, with the database's time."""
    key = s.scalars(select(ApiKey).where(ApiKey.secret_hash == secret_hash)).one_or_none()
    return (key, now(s)) if key else None


def has_keys(s: Session) -> bool:
    """Whether there is a key that is neither revoked nor expired."""
    is_valid = select(ApiKey.id).where(
        ApiKey.revoke_time.is_(None),
        (ApiKey.expire_time.is_(None)) | (ApiKey.expire_time > now(s)),
    )
    return s.scalar(is_valid.limit(1)) is not None


def valid_keys(s: Session, key_ids: Collection[str]) -> set[str]:
    """Those of the keys that are neither revoked nor expired nor deleted."""
    time = now(s)
    return set(
        s.scalars(
            select(ApiKey.id).where(
                ApiKey.id.in_(key_ids),
                ApiKey.revoke_time.is_(None),
                (ApiKey.expire_time.is_(None)) | (ApiKey.expire_time > time),
            )
        )
    )


_BY_ID = select(*USER).where(User.id == bindparam("wanted"), User.account_id == bindparam("owner"))
_BY_EXTERNAL_ID = select(*USER).where(
    User.external_id == bindparam("wanted"), User.account_id == bindparam("owner")
)
_DEFAULT_USER = select(Account.default_user_id).where(Account.id == bindparam("owner"))
_RENAME = (
    update(User)
    .where(User.id == bindparam("wanted"))
    .values(display_name=bindparam("name"), avatar_url=bindparam("avatar"))
)


def find_author(s: Session, account_id: str, author: Author) -> UserRow | None:
    """The user that an Author means, if there is one yet. Raises InvalidField for an unknown id."""
    user_id: str | None = author.id
    if not (author.id or author.external_id):
        user_id = s.run(_DEFAULT_USER, {"owner": account_id}).scalar_one_or_none()
        if user_id is None:
            raise NotFound("ACCOUNT")
    statement, wanted = (_BY_ID, user_id) if user_id else (_BY_EXTERNAL_ID, author.external_id)
    row = s.run(statement, {"wanted": wanted, "owner": account_id}).one_or_none()
    user = UserRow._make(row) if row is not None else None
    if not user_id:
        return user
    if user is None or (author.external_id and user.external_id != author.external_id):
        raise InvalidField({"author.id": "no such user; set author.external_id to add one"})
    return user


def is_up_to_date(user: UserRow, author: Author) -> bool:
    """Whether a user is all that an Author says, of whom it was found by its id if it has one."""
    return (
        author.external_id in ("", user.external_id)
        and author.display_name in ("", user.display_name)
        and author.avatar_url in ("", user.avatar_url)
    )


def resolve_author(s: Session, account_id: str, author: Author, time: int) -> UserRow:
    """The user that an Author means, added or brought up to date. Raises InvalidField."""
    user = find_author(s, account_id, author)
    if user is None:
        insert_new(
            s,
            User,
            id=new_id(),
            account_id=account_id,
            external_id=author.external_id,
            display_name=author.display_name,
            avatar_url=author.avatar_url,
            create_time=time,
        )
        user = find_author(s, account_id, author)
        assert user is not None
    if not is_up_to_date(user, author):
        user = user._replace(
            display_name=author.display_name or user.display_name,
            avatar_url=author.avatar_url or user.avatar_url,
        )
        names = {"name": user.display_name, "avatar": user.avatar_url}
        s.run(_RENAME, {"wanted": user.id, **names})
    return user
