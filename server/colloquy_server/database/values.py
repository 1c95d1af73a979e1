"""What stands in the tables: ids, times, and the numbers of the API's enums."""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Any

from sqlalchemy import BigInteger, String
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from uuid_utils import uuid7

MICROS = 1_000_000

DAY = 86_400 * MICROS

SQLITE_NOW = "CAST((julianday('now') - 2440587.5) * 86400000000.0 AS INTEGER)"
"""2440587.5 is the Julian day of 1970-01-01T00:00Z; precise to a millisecond."""


class db_now(FunctionElement[int]):
    """The database's clock in microseconds since 1970, not the start of the transaction."""

    type = BigInteger()
    inherit_cache = True


@compiles(db_now)
def _some_now(_element: db_now, _compiler: Any, **_kw: Any) -> str:
    return "db_now()"  # for who looks at a statement, before it is any database's


@compiles(db_now, "sqlite")
def _sqlite_now(_element: db_now, _compiler: Any, **_kw: Any) -> str:
    return SQLITE_NOW


@compiles(db_now, "postgresql")
def _postgresql_now(_element: db_now, _compiler: Any, **_kw: Any) -> str:
    return "CAST(extract(epoch from clock_timestamp()) * 1000000 AS BIGINT)"


class greatest(FunctionElement[int]):
    """The greater one of numbers that are not null."""

    type = BigInteger()
    inherit_cache = True


@compiles(greatest)
def _greatest(element: greatest, compiler: Any, **kw: Any) -> str:
    return f"greatest({compiler.process(element.clauses, **kw)})"


@compiles(greatest, "sqlite")
def _sqlite_greatest(element: greatest, compiler: Any, **kw: Any) -> str:
    return f"max({compiler.process(element.clauses, **kw)})"


class random_id(FunctionElement[str]):
    """An id that the database makes, another one for each row of a statement: a random UUID."""

    type = String()
    inherit_cache = True


_SQLITE_ID = (
    "lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' || substr(hex(randomblob(2)), 2)"
    " || '-8' || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6)))"
)
"""The 4 says that it is random, the 8 is the variant of RFC 9562."""


@compiles(random_id)
def _some_id(_element: random_id, _compiler: Any, **_kw: Any) -> str:
    return "random_id()"


@compiles(random_id, "sqlite")
def _sqlite_id(_element: random_id, _compiler: Any, **_kw: Any) -> str:
    return _SQLITE_ID


@compiles(random_id, "postgresql")
def _postgresql_id(_element: random_id, _compiler: Any, **_kw: Any) -> str:
    return "CAST(gen_random_uuid() AS TEXT)"


class octet_length(FunctionElement[int]):
    """How many bytes of UTF-8 a text has."""

    type = BigInteger()
    inherit_cache = True


@compiles(octet_length)
def _octet_length(element: octet_length, compiler: Any, **kw: Any) -> str:
    return f"octet_length({compiler.process(element.clauses, **kw)})"


@compiles(octet_length, "sqlite")
def _sqlite_octet_length(element: octet_length, compiler: Any, **kw: Any) -> str:
    return f"length(CAST({compiler.process(element.clauses, **kw)} AS BLOB))"


class Role(IntEnum):
    """Message.Role of the API, with its numbers."""

    USER = 1
    ASSISTANT = 2
    SYSTEM = 3


class State(IntEnum):
    """Message.State of the API, with its numbers."""

    QUEUED = 1
    GENERATING = 2
    COMPLETED = 3
    FAILED = 4
    CANCELLED = 5


class KeyRole(IntEnum):
    """ApiKey.Role of the API, with its numbers."""

    MEMBER = 1
    SERVICE = 2
    ADMIN = 3


class SignInMethod(IntEnum):
    """Session.Method of the API, with its numbers."""

    LINK = 1
    API_KEY = 2
    IDENTITY_PROVIDER = 3


class AliasKind(IntEnum):
    """What kind of name an alias of a user is."""

    EXTERNAL_ID = 1
    EMAIL = 2


class Feature(IntFlag):
    """What few accounts have, and what costs statements in those that do."""

    BUDGETS = 1
    WEBHOOKS = 2


class EventType(IntEnum):
    """Webhook.EventType of the API, with its numbers."""

    REPLY_COMPLETED = 1
    REPLY_FAILED = 2
    REPLY_CANCELLED = 3
    CONVERSATION_CREATED = 4
    CONVERSATION_TITLED = 5
    CONVERSATION_DELETED = 6
    BUDGET_WARNING = 7
    BUDGET_EXCEEDED = 8

    @property
    def event(self) -> str:
        """What receivers know it as, like "reply.completed"."""
        return self.name.lower().replace("_", ".")


class Period(IntEnum):
    """Budget.Period of the API, with its numbers."""

    DAY = 1
    MONTH = 2


class Unit(IntEnum):
    """Budget.Unit of the API, with its numbers."""

    USD = 1
    TOKENS = 2
    REPLIES = 3


class Visibility(IntEnum):
    """Conversation.Visibility of the API, with its numbers."""

    ACCOUNT = 1
    PARTICIPANTS = 2


Id = String(36)


def new_id() -> str:
    """A UUIDv7: ids made later sort later."""
    return str(uuid7())
