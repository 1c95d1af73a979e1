"""The one way to the database: `await db.read(fn)` and `await db.write(fn)` run a plain function of
a Session as one whole transaction.

On SQLite the function runs in the one writer thread, or in a reader thread; on Postgres on the
event loop, which goes on while it waits. The functions are the same.

Here, and nowhere else, queries are bound to an account: every statement on a table that is Owned
gets `account_id = …` added (`scope.py` for those that go without the ORM), and a transaction says
whose it is, or that it is the server's own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Concatenate, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

import structlog
from colloquy.operations.log_safety import name_error
from sqlalchemy import Connection, Executable, bindparam, event
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.orm import ORMExecuteState, with_loader_criteria
from sqlalchemy.orm import Session as OrmSession

from colloquy_server.database import statements
from colloquy_server.database.models import Owned
from colloquy_server.database.scope import EVERY_ACCOUNT, Values, bound
from colloquy_server.database.statements import Rows
from colloquy_server.errors import Unavailable

__all__ = [
    "EVERY_ACCOUNT",
    "Database",
    "DatabaseUnavailable",
    "Session",
    "commit",
    "translated",
]

P = ParamSpec("P")
T = TypeVar("T")

log = structlog.get_logger()


class DatabaseUnavailable(Unavailable):
    """The database cannot be reached at the moment. Try again."""

    retry_after = 1.0


class Session(OrmSession):
    """A session whose statements see one account only, within a transaction that `Database` begins
    and ends."""

    def __init__(
        self, connection: Connection, account_id: str, *, shares_transaction: bool = False
    ) -> None:
        """`shares_transaction` when others write in the same transaction: the ORM, which rolls back
        what it cannot write, then has a savepoint of its own, and the session is to be committed.
        """
        super().__init__(
            connection,
            expire_on_commit=False,
            autoflush=False,
            join_transaction_mode="create_savepoint" if shares_transaction else "rollback_only",
        )
        self.account_id = account_id
        self.is_undone = False
        """Whether the transaction turned out to have nothing to do, and leaves nothing behind."""
        self._connection = connection

    @property
    def is_sqlite(self) -> bool:
        """Which of the two databases this is."""
        return self._connection.dialect.name == "sqlite"

    def run(self, statement: Executable, values: Values = None) -> Rows:
        """Runs a statement without what the ORM adds, which costs more than most statements. One
        that is made once, at import, is also compiled once.

        Raises Unscoped for a statement that could reach other accounts.
        """
        if self.account_id != EVERY_ACCOUNT:
            statement, values = bound(statement, self.account_id, values)
        return statements.run(self._connection, statement, values)

    def close(self) -> None:
        """Ends the session. Most never made use of the ORM, and have nothing to end."""
        if self.in_transaction() or self.identity_map or self.new:
            super().close()

    def undo(self) -> None:
        """Leaves nothing behind of this transaction."""
        self.is_undone = True


@event.listens_for(Session, "do_orm_execute")
def _bind_to_account(state: ORMExecuteState) -> None:
    session = state.session
    assert isinstance(session, Session)
    if session.account_id == EVERY_ACCOUNT or state.is_relationship_load:
        return
    _account.set(session.account_id)
    statement = state.statement
    bound = _bound.get(statement)
    if bound is None:
        bound = _bound[statement] = statement.options(*_belongs_to_account)
    state.statement = bound


_account: ContextVar[str] = ContextVar("account")
_belongs_to_account = tuple(
    with_loader_criteria(
        table,
        table.account_id == bindparam("account", callable_=_account.get, unique=True),
        include_aliases=True,
    )
    for table in Owned.__subclasses__()
)
# A statement that is built once is also bound once; its cache key then is made only once.
_bound: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


class Database(ABC):
    """Runs transactions."""

    @abstractmethod
    async def read(
        self,
        account_id: str,
        fn: Callable[Concatenate[Session, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Runs `fn(session, …)` on one snapshot, and changes nothing."""

    @abstractmethod
    async def write(
        self,
        account_id: str,
        fn: Callable[Concatenate[Session, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Runs `fn(session, …)` and commits; an exception rolls everything back.

        When the caller is cancelled the transaction still runs to its end.
        """

    @abstractmethod
    async def write_first(
        self,
        account_id: str,
        fn: Callable[Concatenate[Session, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """The same, before all that waits in `write`: for what renews, saves and ends replies,
        which no number of requests may delay for as long as a lease."""

    @abstractmethod
    async def close(self) -> None:
        """Lets running transactions end, then closes all connections."""


def commit(connection: Connection, account_id: str, fn: Callable[[Session], T]) -> T:
    """Runs a transaction on a connection that is in none, and commits it, unless it is undone."""
    with connection.begin() as transaction, Session(connection, account_id) as session:
        result = fn(session)
        session.flush()
        if session.is_undone:
            transaction.rollback()
        return result


@contextmanager
def translated() -> Iterator[None]:
    """Makes DatabaseUnavailable of the driver's errors that say so."""
    try:
        yield
    except DBAPIError as error:
        is_away = isinstance(error, OperationalError | InterfaceError)
        if _is_too_much(error) or not (is_away or error.connection_invalidated):
            raise
        cause = error.orig or error
        log.warning("database does not answer", error=name_error(cause))
        raise DatabaseUnavailable from error


def _is_too_much(error: DBAPIError) -> bool:
    """Whether Postgres refuses what it was given for its size, which trying again cannot change."""
    return str(getattr(error.orig, "sqlstate", None) or "").startswith("54")
