"""Who sees what within an account: a member's statements have conditions beside the account's.

A member sees a conversation that is the whole account's, that they made, or in which they take
part, and what belongs to it; and files that they uploaded, or that are in a message that they see.
Services, admins and the server itself see all of an account, and their statements have no such
conditions. Each table that is Owned says here how it is seen.

Conditions are on the tables that a statement reads or changes. What it reads beside them, in a
nested SELECT or on the right side of an outer join, is about rows that are seen, and has none.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    FromClause,
    Integer,
    Table,
    and_,
    bindparam,
    false,
    literal_column,
    or_,
    select,
)

from colloquy_server.database.models import (
    ApiKey,
    Attachment,
    AuditEvent,
    Blob,
    BrowserSession,
    Budget,
    BudgetPeriod,
    CancelWish,
    Conversation,
    ConversationRemoval,
    Delivery,
    Extraction,
    Membership,
    Message,
    MessageAttachment,
    Owned,
    PersonalState,
    Quota,
    Receipt,
    Reservation,
    SearchEntry,
    SignInLink,
    UsageDay,
    User,
    UserAlias,
    Visibility,
    Webhook,
)


@dataclass(frozen=True, slots=True)
class Viewer:
    """The scope of a member's transactions: what this user may see of the account."""

    account_id: str
    user_id: str


Scope: TypeAlias = str | Viewer
"""Whose transaction it is: all of an account, by its id, or a member's part of it."""


def account_of(scope: Scope) -> str:
    """The account in which a transaction is."""
    return scope.account_id if isinstance(scope, Viewer) else scope


@dataclass(frozen=True, slots=True)
class Parameters:
    """Where a statement finds for whom it runs."""

    account: BindParameter[str]
    viewer: BindParameter[str]


NAMED: Final = Parameters(bindparam("account"), bindparam("viewer"))
"""They come with the statement's other values, by these names."""

Condition: TypeAlias = Callable[[FromClause, Parameters], ColumnElement[bool]]


def table_of(model: type[Owned]) -> Table:
    """What the model is a row of."""
    table: Table = model.__table__  # type: ignore[attr-defined]
    return table


_ONE: Final[ColumnElement[int]] = literal_column("1", Integer)
# Under names of their own, so that a statement may have the same tables.
_conversation = table_of(Conversation).alias("seen_conversation")
_membership = table_of(Membership).alias("seen_membership")
_message = table_of(Message).alias("seen_message")
_file = table_of(MessageAttachment).alias("seen_file")


def sees(conversation: FromClause, who: Parameters) -> ColumnElement[bool]:
    """That the viewer sees a conversation."""
    takes_part = (
        select(_ONE)
        .select_from(_membership)
        .where(
            _membership.c.conversation_id == conversation.c.id,
            _membership.c.user_id == who.viewer,
            _membership.c.account_id == who.account,
            _membership.c.is_removed.is_(False),
        )
    )
    return or_(
        conversation.c.visibility == literal_column("1"),
        conversation.c.creator_id == who.viewer,
        takes_part.exists(),
    )


def is_seen(
    visibility: int, creator_id: str | None, participants: Collection[str], viewer_id: str
) -> bool:
    """The same of a conversation that was read, for whom it is to be told to."""
    return visibility == Visibility.ACCOUNT or viewer_id in (creator_id, *participants)


def _in_conversation(table: FromClause, who: Parameters) -> ColumnElement[bool]:
    seen = select(_ONE).select_from(_conversation)
    return seen.where(
        _conversation.c.id == table.c.conversation_id,
        _conversation.c.account_id == who.account,
        sees(_conversation, who),
    ).exists()


def _in_message(table: FromClause, who: Parameters) -> ColumnElement[bool]:
    seen = select(_ONE).select_from(
        _message.join(_conversation, _conversation.c.id == _message.c.conversation_id)
    )
    return seen.where(
        _message.c.id == table.c.message_id,
        _message.c.account_id == who.account,
        _conversation.c.account_id == who.account,
        sees(_conversation, who),
    ).exists()


def _is_own_or_in_message(file: FromClause, who: Parameters) -> ColumnElement[bool]:
    seen = select(_ONE).select_from(
        _file.join(_message, _message.c.id == _file.c.message_id).join(
            _conversation, _conversation.c.id == _message.c.conversation_id
        )
    )
    is_shown = seen.where(
        _file.c.attachment_id == file.c.id,
        _file.c.account_id == who.account,
        _message.c.account_id == who.account,
        _conversation.c.account_id == who.account,
        sees(_conversation, who),
    ).exists()
    return or_(file.c.uploader_id == who.viewer, is_shown)


CONVERSATIONS: Final[Mapping[Table, Condition]] = {
    table_of(Conversation): sees,
    table_of(Membership): _in_conversation,
    table_of(Message): _in_conversation,
    table_of(SearchEntry): _in_conversation,
    table_of(CancelWish): _in_conversation,
    table_of(Receipt): _in_message,
    table_of(MessageAttachment): _in_message,
}
"""How conversations are seen, and what belongs to them."""

FILES: Final[Mapping[Table, Condition]] = {table_of(Attachment): _is_own_or_in_message}
"""How files are seen."""

_OF_ACCOUNT = (User, UserAlias, ApiKey, Quota, AuditEvent, Blob, Extraction, Webhook, Delivery)
_OF_BROWSERS = (BrowserSession, SignInLink)
_OF_BUDGETS = (Budget, BudgetPeriod, Reservation)


def _is_own(state: FromClause, who: Parameters) -> ColumnElement[bool]:
    return and_(state.c.user_id == who.viewer, _in_conversation(state, who))


def _is_told(removal: FromClause, who: Parameters) -> ColumnElement[bool]:
    return or_(removal.c.was_open.is_(True), removal.c.user_id == who.viewer)


def _is_used_by(usage: FromClause, who: Parameters) -> ColumnElement[bool]:
    return usage.c.user_id == who.viewer


PERSONAL: Final[Mapping[Table, Condition]] = {
    table_of(UsageDay): _is_used_by,
    table_of(PersonalState): _is_own,
    table_of(ConversationRemoval): _is_told,
}
"""What is of one user, whatever else the user sees."""

SHARED: Final = frozenset(table_of(model) for model in (*_OF_ACCOUNT, *_OF_BROWSERS, *_OF_BUDGETS))
"""What all of an account share: its people, bytes and texts of files, which are reached through
files only, and what it holds; also its keys, its audit trail and its webhooks, which no member's
call reads, its sessions, of which a member's call names the user, and its budgets, which hold for
all."""


def condition_of(table: Table, *, is_admitted: bool) -> Condition | None:
    """How a table is seen; None when all of the account is.

    `is_admitted` in a transaction that has found its conversations to be seen.
    """
    if table in SHARED or (is_admitted and table in CONVERSATIONS):
        return None
    return CONVERSATIONS.get(table) or FILES.get(table) or PERSONAL.get(table) or _by_nobody


def _by_nobody(_table: FromClause, _who: Parameters) -> ColumnElement[bool]:
    """How a table is seen of which nothing is said here."""
    return false()


def orm_parameters(account: Callable[[], Any], viewer: Callable[[], Any]) -> Parameters:
    """Parameters that are asked for when a statement runs."""
    return Parameters(
        bindparam("account", callable_=account, unique=True),
        bindparam("viewer", callable_=viewer, unique=True),
    )
