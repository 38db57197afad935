"""A DuckDB connection that exceptions from signal handlers cannot strike in the middle of a statement.

While DuckDB runs a statement in the main thread, it calls Python's signal handlers. If one raises an exception, as
Ctrl-C does, DuckDB 1.5 keeps the interrupted statement, and thereby the file, open after ``close``: the next
``duckdb.connect`` then waits without end. If DuckDB was reading an Arrow table, it also replaces the exception by an
error of its own. Each statement therefore runs in a thread of its own, where Python calls no signal handlers.

Source: https://github.com/duckdb/duckdb/issues/25965
"""

from __future__ import annotations

import _thread
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import duckdb
    import pyarrow

#: Seconds between two interrupts of a statement whose caller was struck by an exception.
_PAUSE = 0.001


class Result(NamedTuple):
    """Rows of a statement, and the description of their columns (see PEP 249)."""

    rows: list[tuple[Any, ...]]
    description: Sequence[Any]


class _Statement:
    """A call that another thread makes. ``finish`` ends it early; both agree through two flags, without a lock."""

    def __init__(self, call: Callable[[], Result]) -> None:
        self._call = call
        self._cancelled = False
        self._running = False
        self._ended = _thread.allocate_lock()  # released once the call has ended
        self._ended.acquire()
        self._result: Result | None = None
        self._error: BaseException | None = None

    def result(self) -> Result:
        """Start the thread, wait until it has made the call, and return the call's result or raise its exception."""
        # Not threading.Thread: its methods are Python's, and an exception that strikes within breaks them.
        _thread.start_new_thread(self._run, ())
        self._ended.acquire()
        error, self._error = self._error, None
        try:
            if error is not None:
                raise error
        finally:
            del error  # else the exception and this frame would keep each other
        assert self._result is not None  # noqa: S101 - there was no error
        return self._result

    def finish(self, interrupt: Callable[[], object]) -> None:
        """Keep the thread from making the call; if it has begun, call ``interrupt`` until it has ended."""
        self._cancelled = True
        while self._running:
            interrupt()
            time.sleep(_PAUSE)

    def _run(self) -> None:
        self._running = True  # before it looks whether it is cancelled, as ``finish`` does the two in the other order
        try:
            if not self._cancelled:
                self._result = self._call()
        except BaseException as error:  # noqa: BLE001 - the caller raises it
            self._error = error
        finally:
            self._running = False
            self._ended.release()


class Connection:
    """A connection for one thread at a time; only ``interrupt`` may be called in any thread.

    Args:
        connection: DuckDB's connection. Nobody else may use it.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._statement: _Statement | None = None

    def execute(self, sql: str, values: object = None) -> Result:
        """Run a statement and return all of its rows.

        Since DuckDB 2.0 a connection cannot run a statement while the result of another is only partly read.

        Args:
            sql: The statement, in DuckDB's SQL.
            values: Values of its parameters: a list, or a dict by name.
        """

        def run() -> Result:
            done = self._connection.execute(sql, values) if values else self._connection.execute(sql)
            description = done.description or []
            return Result(done.fetchall() if description else [], description)

        return self._run(run)

    def register(self, name: str, table: pyarrow.Table) -> None:
        """Let statements of this connection use an Arrow table as a view."""

        def run() -> Result:
            self._connection.register(name, table)
            return Result([], [])

        self._run(run)

    def cursor(self) -> Connection:
        """Return another connection to the same open file."""
        return Connection(self._connection.cursor())

    def interrupt(self) -> None:
        """Have the statement that runs now raise duckdb.InterruptException; do nothing if none runs."""
        import duckdb

        with suppress(duckdb.ConnectionException):  # it was just closed
            self._connection.interrupt()

    def close(self) -> None:
        """End the statement that still runs, if an exception struck its caller, and close. May be called again."""
        self._finish()
        self._connection.close()

    def _run(self, call: Callable[[], Result]) -> Result:
        self._finish()
        self._statement = statement = _Statement(call)
        result = statement.result()
        self._statement = None
        return result

    def _finish(self) -> None:
        if self._statement is not None:
            self._statement.finish(self.interrupt)
            self._statement = None
