"""The one way to the database: `await db.read(fn)` and `await db.write(fn)` run a plain function of
a Session as one whole transaction.

On SQLite the function runs in the one writer thread, or in a reader thread; on Postgres on the
event loop, which goes on while it waits. The functions are the same.

Here, and nowhere else, queries are bound to an account: every statement on a table that is Owned
gets `account_id = …` added (`scope.py` for those that go without the ORM), and a transaction says
whose it is, or that it is the server's own. A member's also gets what `audience.py` has for the
table.
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
from sqlalchemy.orm import LoaderCriteriaOption, ORMExecuteState, with_loader_criteria
from sqlalchemy.orm import Session as OrmSession

from colloquy_server.database import audience, statements
from colloquy_server.database.audience import Scope, Viewer, account_of
from colloquy_server.database.models import Owned
from colloquy_server.database.scope import EVERY_ACCOUNT, Values, bound
from colloquy_server.database.statements import Rows
from colloquy_server.errors import Unavailable

__all__ = [
    "EVERY_ACCOUNT",
    "Database",
    "DatabaseUnavailable",
    "Scope",
    "Session",
    "Viewer",
    "account_of",
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
    """A session whose statements see one account only, or a member's part of it, within a
    transaction that `Database` begins and ends."""

    def __init__(
        self, connection: Connection, scope: Scope, *, shares_transaction: bool = False
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
        self.account_id = account_of(scope)
        self.viewer_id = scope.user_id if isinstance(scope, Viewer) else ""
        """The member whose transaction it is; empty for who sees all of the account."""
        self.is_admitted = False
        self.is_undone = False
        """Whether the transaction turned out to have nothing to do, and leaves nothing behind."""
        self.has_events = False
        """Whether it stores events that are to be delivered."""
        self._is_unlimited = False
        self._connection = connection
        self._at_end: list[Callable[[Session], None]] = []
        self._at_very_end: list[Callable[[Session], None]] = []

    @property
    def is_sqlite(self) -> bool:
        """Which of the two databases this is."""
        return self._connection.dialect.name == "sqlite"

    def run(self, statement: Executable, values: Values = None) -> Rows:
        """Runs a statement without what the ORM adds, which costs more than most statements. One
        that is made once, at import, is also compiled once.

        Raises Unscoped for a statement that could reach other accounts.
        """
        return self.send(statement, values)()

    def send(self, statement: Executable, values: Values = None) -> Callable[[], Rows]:
        """The same, but it goes to Postgres with the next statement or the commit, which spares it
        a way there: what it returns, and what goes wrong, shows when the result is called, or then.
        """
        if self.account_id != EVERY_ACCOUNT:
            viewer_id = "" if self._is_unlimited else self.viewer_id
            statement, values = bound(
                statement, self.account_id, values, viewer_id, is_admitted=self.is_admitted
            )
        return statements.send(self._connection, statement, values)

    def admit(self) -> None:
        """Says that the rest of the transaction is about conversations only that its viewer was
        found to see, or is found to see before it ends: statements on them and what belongs to them
        are those of who sees all of the account, and cost no more. Files, which callers name, are
        seen as before."""
        self.is_admitted = True

    @contextmanager
    def unlimited(self) -> Iterator[None]:
        """Statements that see all of the account, for what no caller names and none is told."""
        self._is_unlimited = True
        try:
            yield
        finally:
            self._is_unlimited = False

    def close(self) -> None:
        """Ends the session. Most never made use of the ORM, and have nothing to end."""
        if self.in_transaction() or self.identity_map or self.new:
            super().close()

    def at_end(self, work: Callable[[Session], None], *, is_last: bool = False) -> None:
        """Has `work` done behind all else in the transaction: what it locks is locked last, and
        for no longer than a commit takes. What is last comes behind other such work."""
        (self._at_very_end if is_last else self._at_end).append(work)

    def complete(self) -> None:
        """Does what is left to do before the commit."""
        self.flush()
        if not self.is_undone:
            for work in self._at_end:
                work(self)
            for work in self._at_very_end:
                work(self)

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
    criteria = _belongs_to_account
    known = _bound
    if session.viewer_id and not session._is_unlimited:
        _viewer.set(session.viewer_id)
        criteria = _is_seen[session.is_admitted]
        known = _bound_to_viewers[session.is_admitted]
    bound = known.get(statement)
    if bound is None:
        bound = known[statement] = statement.options(*criteria)
    state.statement = bound


_account: ContextVar[str] = ContextVar("account")
_viewer: ContextVar[str] = ContextVar("viewer")
_belongs_to_account = tuple(
    with_loader_criteria(
        table,
        table.account_id == bindparam("account", callable_=_account.get, unique=True),
        include_aliases=True,
    )
    for table in Owned.__subclasses__()
)


def _seen(*, is_admitted: bool) -> tuple[LoaderCriteriaOption, ...]:
    """How each table is seen by a viewer."""
    who = audience.orm_parameters(_account.get, _viewer.get)
    found = list(_belongs_to_account)
    for model in Owned.__subclasses__():
        table = audience.table_of(model)
        condition = audience.condition_of(table, is_admitted=is_admitted)
        if condition is not None:
            found.append(with_loader_criteria(model, condition(table, who), include_aliases=True))
    return tuple(found)


_is_seen = _seen(is_admitted=False), _seen(is_admitted=True)
# A statement that is built once is also bound once; its cache key then is made only once.
_bound: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
_bound_to_viewers: tuple[WeakKeyDictionary[Any, Any], ...]
_bound_to_viewers = WeakKeyDictionary(), WeakKeyDictionary()


class Database(ABC):
    """Runs transactions."""

    on_events: Callable[[], None] = staticmethod(lambda: None)
    """Told, in the event loop, that events were committed that are to be delivered."""

    @abstractmethod
    async def read(
        self,
        scope: Scope,
        fn: Callable[Concatenate[Session, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Runs `fn(session, …)` on one snapshot, and changes nothing."""

    @abstractmethod
    async def write(
        self,
        scope: Scope,
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
        scope: Scope,
        fn: Callable[Concatenate[Session, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """The same, before all that waits in `write`: for what renews, saves and ends replies,
        which no number of requests may delay for as long as a lease."""

    @abstractmethod
    async def erase_deleted(self) -> bool:
        """Takes what was deleted out of the database's own files, as far as that can be done from
        here; False when that is to be tried again, as somebody still reads it."""

    @abstractmethod
    async def close(self) -> None:
        """Lets running transactions end, then closes all connections."""


def commit(
    connection: Connection,
    scope: Scope,
    fn: Callable[[Session], T],
    on_events: Callable[[], None] = lambda: None,
) -> T:
    """Runs a transaction on a connection that is in none, and commits it, unless it is undone.
    `on_events` is called after the commit, if it stored events."""
    with connection.begin() as transaction, Session(connection, scope) as session:
        result = fn(session)
        session.complete()
        if session.is_undone:
            transaction.rollback()
    if session.has_events and not session.is_undone:
        on_events()
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
