"""Accounts, their users and their keys."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from time import monotonic

from sqlalchemy import bindparam, delete, select, update

from colloquy_server.database.models import (
    MICROS,
    Account,
    ApiKey,
    BrowserSession,
    Budget,
    BudgetPeriod,
    CancelWish,
    Conversation,
    ConversationRemoval,
    Delivery,
    KeyRole,
    Membership,
    Message,
    PersonalState,
    Quota,
    Reservation,
    SignInLink,
    UsageDay,
    User,
    UserAlias,
    Visibility,
    Webhook,
    new_id,
)
from colloquy_server.database.repository import attachments, quotas, search
from colloquy_server.database.repository.changes import (
    NO_SYNC,
    hold_account,
    insert_new,
    is_generating,
    now,
)
from colloquy_server.database.repository.quotas import NO_LIMITS, Limits
from colloquy_server.database.repository.users import (
    Author,
    find_author,
    hold_user,
    resolve_author,
)
from colloquy_server.database.rows import UserRow
from colloquy_server.database.tokenizer import joined_words
from colloquy_server.database.transactions import Session
from colloquy_server.errors import NotFound, PermissionDenied


def create_account(
    s: Session,
    name: str,
    external_id: str | None,
    visibility: Visibility = Visibility.ACCOUNT,
    limits: Limits = NO_LIMITS,
    *,
    is_provisioned: bool = False,
    retention_days: int = 0,
) -> Account:
    """Makes an account with its default user, or returns the one that has this external_id.

    Raises PermissionDenied for one that a key of the other kind made: who takes it for its own
    would share it with holders of those keys.
    """
    time = now(s)
    account_id, user_id = new_id(), new_id()
    is_new = insert_new(
        s,
        Account,
        id=account_id,
        name=name,
        external_id=external_id,
        default_user_id=user_id,
        default_visibility=visibility,
        create_time=time,
        is_provisioned=is_provisioned,
        retention_days=retention_days,
    )
    if not is_new:
        s.undo()
        account = s.scalars(select(Account).where(Account.external_id == external_id)).one()
        if account.is_provisioned != is_provisioned:
            kind = "a provisioning key" if account.is_provisioned else "the platform's key"
            raise PermissionDenied(f"The account of this external_id was made with {kind}.")
        return account
    quotas.make(s, account_id, account_id, limits)
    s.add(
        User(
            id=user_id,
            account_id=account_id,
            display_name=name,
            words=joined_words(name),
            create_time=time,
            unread_since=time,
        )
    )
    s.flush()
    return get_account(s, account_id)


def get_account(s: Session, account_id: str) -> Account:
    """An account. Raises NotFound."""
    account = s.get(Account, account_id)
    if account is None:
        raise NotFound("ACCOUNT")
    return account


def change_account(
    s: Session,
    account_id: str,
    visibility: Visibility | None,
    limits: Limits | None,
    retention_days: int | None = None,
) -> Account:
    """Changes who sees an account's new conversations, its limits, and after how many days without
    a message its conversations are deleted; None leaves each. Raises NotFound."""
    if limits is not None:
        quotas.change(s, account_id, limits)
    account = get_account(s, account_id)
    if visibility is not None:
        account.default_visibility = visibility
    if retention_days is not None:
        account.retention_days = retention_days
    s.flush()
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
    of_people = (BrowserSession, SignInLink, UserAlias, ApiKey, User)
    of_conversations = (CancelWish, Membership, PersonalState, ConversationRemoval, Conversation)
    of_usage = (Reservation, BudgetPeriod, Budget, UsageDay)
    of_webhooks = (Webhook, Delivery)
    for table in (*of_webhooks, *of_conversations, *of_people, *of_usage):
        s.execute(delete(table).where(table.account_id == account_id), execution_options=NO_SYNC)
    attachments.remove_account(s, account_id)
    s.execute(delete(Quota).where(Quota.account_id == account_id), execution_options=NO_SYNC)
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
    must_be_provisioned: bool = False,
    limits: Limits = NO_LIMITS,
) -> ApiKey:
    """Makes a key; a service's key has the account's default user.

    Raises NotFound, and PermissionDenied for an account that is not provisioned but must be.
    """
    if must_be_provisioned:
        account = s.get(Account, account_id)
        if account is None or not account.is_provisioned:  # the same for both: it says nothing
            raise PermissionDenied("No provisioning key made this account.")
    hold_account(s, account_id)
    time = now(s)
    holder = resolve_author(s, account_id, user, time)
    while not hold_user(s, holder.id):
        # Deleted this moment: a key of theirs would outlive them.
        holder = resolve_author(s, account_id, user, time)
    key = ApiKey(
        id=new_id(),
        account_id=account_id,
        name=name,
        role=role,
        user_id=holder.id,
        secret_hash=secret_hash,
        create_time=time,
        expire_time=expire_time,
        revoke_time=None,
    )
    s.add(key)
    if limits != NO_LIMITS:  # one without is counted for its account alone
        quotas.make(s, account_id, key.id, limits)
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
    if key.revoke_time is not None:
        s.undo()
        return key
    key.revoke_time = now(s)
    s.flush()
    return key


def keys_by_hash(s: Session, hashes: Collection[str]) -> tuple[dict[str, ApiKey], int]:
    """The keys whose secrets have these hashes, by those, with the database's time."""
    found = s.scalars(select(ApiKey).where(ApiKey.secret_hash.in_(hashes)))
    return {key.secret_hash: key for key in found}, now(s)


def good_keys(s: Session, hashes: Collection[str]) -> tuple[dict[str, ApiKey], int]:
    """The same, of keys that are neither revoked nor expired."""
    found, time = keys_by_hash(s, hashes)
    return {digest: key for digest, key in found.items() if _is_good(key, time)}, time


def _is_good(key: ApiKey, time: int) -> bool:
    return key.revoke_time is None and (key.expire_time is None or key.expire_time > time)


_STORE_USE = (
    update(ApiKey)
    .where(
        ApiKey.id == bindparam("wanted"),
        ApiKey.last_used_time.is_(None) | (ApiKey.last_used_time < bindparam("used")),
    )
    .values(last_used_time=bindparam("used"))
)


def store_uses(s: Session, uses: Mapping[str, float]) -> None:
    """Stores when keys were last used: by their ids, in monotonic seconds of this process."""
    # The database's clock is read first: what is stored is never later than the use.
    time = now(s)
    ago = monotonic()
    s.run(
        _STORE_USE,
        # In one order everywhere: processes that do so at once do not lock each other out.
        [
            {"wanted": key_id, "used": time - int((ago - uses[key_id]) * MICROS)}
            for key_id in sorted(uses)
        ],
    )


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


_NAMED = select(Account.id).where(Account.external_id == bindparam("named"))


def find_identity(
    s: Session, account_external_id: str, author: Author
) -> tuple[str, UserRow | None] | None:
    """The account of this external_id, if there is one, and its user, if there is one yet."""
    account_id = s.run(_NAMED, {"named": account_external_id}).scalar_one_or_none()
    return None if account_id is None else (account_id, find_author(s, account_id, author))


def keep_user(s: Session, account_id: str, author: Author) -> UserRow:
    """A user, added or brought up to date. Raises NotFound when the account is gone."""
    hold_account(s, account_id)
    return resolve_author(s, account_id, author, now(s))
