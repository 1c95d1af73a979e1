"""Sends statements to Postgres several at a time, each of which would cost a way there and back.

A statement is prepared once a connection. It goes out with those after it: when somebody wants to
know what it returned, or with the commit. BEGIN goes out with the first one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import psycopg
from psycopg import errors, generators
from psycopg.abc import PQGen
from psycopg.adapt import PyFormat, Transformer
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg.pq.abc import PGresult
from sqlalchemy import Engine, event

_IDLE: Final = int(TransactionStatus.IDLE)
_TUPLES: Final = int(ExecStatus.TUPLES_OK)
_FINE: Final = frozenset((_TUPLES, int(ExecStatus.COMMAND_OK)))
_COMMIT: Final = b"COMMIT"


class Prepared:
    """A statement with `$1`, `$2`, … that a connection prepares when it first runs it."""

    __slots__ = ("formats", "name", "sql")

    _count = 0

    def __init__(self, sql: str, parameters: int) -> None:
        Prepared._count += 1
        self.name = b"colloquy_%d" % Prepared._count
        self.sql = sql.encode()
        # As text, whose type the statement says: that of a binary number would depend on its size.
        self.formats = [PyFormat.TEXT] * parameters


class Sent:
    """A statement that was sent, or will be with those after it."""

    __slots__ = ("_connection", "prepared", "result", "values")

    def __init__(
        self, connection: PipelinedConnection, prepared: Prepared, values: Sequence[Any]
    ) -> None:
        self._connection = connection
        self.prepared = prepared
        self.values = values
        self.result: PGresult | None = None

    def set_result(self, result: PGresult) -> None:
        """Keeps what Postgres returned."""
        self.result = result

    def fetch(self) -> tuple[list[Any], int]:
        """Its rows, and how many it returned or changed. Waits for them, and raises psycopg's
        errors: its own, or of one that was sent before it."""
        if self.result is None:
            self._connection.flush()
        assert self.result is not None
        return self._connection.load(self.result)


def connect_pipelined(engine: Engine, connection: type[PipelinedConnection]) -> None:
    """Has an engine for Postgres make such connections. psycopg itself prepares nothing on them: it
    would forget all that is prepared after a rollback, and ours with its own."""

    @event.listens_for(engine, "do_connect")
    def _connect(_dialect: object, _record: object, args: Any, options: Any) -> PipelinedConnection:
        return connection.connect(*args, **options, prepare_threshold=None)


class PipelinedConnection(psycopg.Connection[Any]):
    """A connection on which statements wait for those after them. Whoever uses it as any other
    notices nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._waiting: list[Sent] = []
        self._known: set[bytes] = set()
        self._adapter = Transformer(self)

    def send(self, prepared: Prepared, values: Sequence[Any]) -> Sent:
        """Sends a statement with what comes after it. Raises psycopg's errors for values that
        Postgres cannot take."""
        dumped = self._adapter.dump_sequence(values, prepared.formats)
        sent = Sent(self, prepared, dumped)
        self._waiting.append(sent)
        return sent

    def load(self, result: PGresult) -> tuple[list[Any], int]:
        """The rows of a result, and how many it returned or changed."""
        if result.status != _TUPLES:
            return [], result.command_tuples or 0
        self._adapter.set_pgresult(result)
        return self._adapter.load_rows(0, result.ntuples, tuple), result.ntuples

    def flush(self) -> None:
        """Sends what waits, and waits for what Postgres says. Raises the first error."""
        if self._waiting:
            self._exchange(None)

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        """What it executes comes after what was sent."""
        self.flush()
        return super().cursor(*args, **kwargs)

    def commit(self) -> None:
        """Commits, together with what waits; if that fails nothing is left of the transaction."""
        if not self._waiting and self.pgconn.transaction_status == _IDLE:
            return
        try:
            self._exchange(_COMMIT)
        except psycopg.Error:
            if not self.closed:
                super().rollback()
            raise

    def rollback(self) -> None:
        """Rolls back. What still waits is never sent."""
        self._waiting.clear()
        super().rollback()

    def _exchange(self, command: bytes | None) -> None:
        sent, self._waiting = self._waiting, []
        try:
            error = self.wait(self._exchange_gen(sent, command))
        except BaseException:
            self.close()  # nobody knows what is still under way on it
            raise
        if error is not None:
            raise errors.error_from_result(error, encoding=self.info.encoding)

    def _exchange_gen(self, sent: list[Sent], command: bytes | None) -> PQGen[PGresult | None]:
        """Sends all, and sets their results; the first that is an error, after which Postgres runs
        none of the others."""
        pgconn = self.pgconn
        self._check_connection_ok()
        is_idle = pgconn.transaction_status == _IDLE
        # What is done with the result of each command, in their order.
        then: list[Callable[[PGresult], None]] = []
        pgconn.enter_pipeline_mode()
        if is_idle:
            pgconn.send_query_params(self._get_tx_start_command(), None)
            then.append(_nothing)
        preparing = set()
        for each in sent:
            name = each.prepared.name
            if name not in self._known and name not in preparing:
                preparing.add(name)
                pgconn.send_prepare(name, each.prepared.sql)
                then.append(lambda _result, name=name: self._known.add(name))  # type: ignore[misc]
            pgconn.send_query_prepared(name, each.values)
            then.append(each.set_result)
        if command is not None:
            pgconn.send_query_params(command, None)
            then.append(_nothing)
        pgconn.pipeline_sync()
        yield from generators.send(pgconn)
        error: PGresult | None = None
        try:
            for done in then:
                (result,) = yield from generators.fetch_many(pgconn)
                if error is not None:
                    continue
                if result.status in _FINE:
                    done(result)
                else:
                    error = result
            yield from generators.fetch_many(pgconn)  # the sync
        except psycopg.OperationalError:
            if error is None:  # it did not say why it goes
                raise
            self.close()
            return error
        pgconn.exit_pipeline_mode()
        return error


def _nothing(_result: PGresult) -> None:
    """Of a command that says no more than that it was done."""
