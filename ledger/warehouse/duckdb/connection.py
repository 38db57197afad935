"""A DuckDB connection that exceptions from signal handlers cannot strike in the middle of a statement.

While DuckDB runs a statement in the main thread, it calls Python's signal handlers. If one raises an exception, as
Ctrl-C does, DuckDB 1.5 keeps the interrupted statement, and thereby the file, open after ``close``: the next
``duckdb.connect`` then waits without end. If DuckDB was reading an Arrow table, it also replaces the exception by an
error of its own. Each statement therefore runs in a thread of its own, where Python calls no signal handlers.

A thread that is inside DuckDB while the interpreter shuts down aborts the process: until Python 3.14 such a thread is
unwound, which C++ does not allow there. At exit the calls under way are therefore interrupted and awaited. Their
callers, which can only be daemon threads, wait from then on, as all threads do that meet the end of the interpreter.

Source: https://github.com/duckdb/duckdb/issues/25965
"""

from __future__ import annotations

import _thread
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Self, TypeVar

from ledger import holding
from ledger.errors import StoreUnavailable

if TYPE_CHECKING:
    import duckdb
    import pyarrow

T = TypeVar("T")
#: Seconds between two interrupts of a statement whose caller was struck by an exception.
_PAUSE = 0.001
#: Maximum seconds that the exit of the process waits for calls under way.
_AT_EXIT = 5.0


class Result(NamedTuple):
    """Rows of a statement, and the description of their columns (see PEP 249)."""

    rows: list[tuple[Any, ...]]
    description: Sequence[Any]


class _Use:
    """A call of DuckDB that a thread of this process makes."""

    def __init__(self) -> None:
        self.process = os.getpid()

    def interrupt(self) -> None:
        """Have the call end soon, if it can be interrupted."""


class _Statement(_Use, Generic[T]):
    """A call that another thread makes. ``finish`` ends it early; both agree through two flags, without a lock.

    Args:
        call: The function to call.
        interrupt: Has the call end soon.
    """

    def __init__(self, call: Callable[[], T], interrupt: Callable[[], object]) -> None:
        super().__init__()
        self._call = call
        self._interrupt = interrupt
        self._cancelled = False
        self._running = False
        self._ended = _thread.allocate_lock()  # released once the call has ended
        self._ended.acquire()
        self._results: list[T] = []
        self._error: BaseException | None = None

    def result(self) -> T:
        """Start the thread, wait until it has made the call, and return the call's result or raise its exception."""
        self._caller = _thread.get_ident()
        # Not threading.Thread: its methods are Python's, and an exception that strikes within breaks them.
        _thread.start_new_thread(self._run, ())
        self._ended.acquire()
        error, self._error = self._error, None
        try:
            if error is not None:
                raise error
        finally:
            del error  # else the exception and this frame would keep each other
        return self._results[0]

    def interrupt(self) -> None:
        self._interrupt()

    def finish(self) -> None:
        """Keep the thread from making the call; if it has begun, interrupt it until it has ended."""
        self._cancelled = True
        while self._running:
            self.interrupt()
            time.sleep(_PAUSE)

    def _run(self) -> None:
        # Before it looks whether it is cancelled, as ``finish`` and ``_end_uses`` do the two in the other order.
        self._running = True
        _under_way.add(self)
        try:
            if _exiting is not None:
                raise _too_late()
            if not self._cancelled:
                self._results.append(self._call())
        except BaseException as error:  # noqa: BLE001 - the caller raises it
            self._error = error
        finally:
            _under_way.discard(self)
            self._running = False
            if _exiting in (None, self._caller):
                self._ended.release()


#: The calls that threads of this process make. A forked child also has those of its parent, which it does not make.
_under_way: set[_Use] = set()
#: The thread that ends the process; None until then.
_exiting: int | None = None


@holding.at_last
def _end_uses() -> None:
    """Allow no more calls, and interrupt those under way until they have ended, for a limited time."""
    global _exiting
    _exiting, deadline = _thread.get_ident(), time.monotonic() + _AT_EXIT
    while time.monotonic() < deadline:
        found = [use for use in _under_way.copy() if use.process == os.getpid()]
        if not found:
            return
        for use in found:
            use.interrupt()
        time.sleep(_PAUSE)


def _too_late() -> StoreUnavailable:
    return StoreUnavailable("The process is about to end, and makes no more calls of DuckDB.")


def _in_this_thread(call: Callable[[], T]) -> T:
    """Make a call that cannot be interrupted, such as one that opens a file."""
    use = _Use()
    with holding.ending(lambda: _under_way.discard(use)):
        _under_way.add(use)
        if _exiting == _thread.get_ident():
            raise _too_late()
        if _exiting is not None:
            use.process = 0  # nobody waits for it
            lock = _thread.allocate_lock()
            lock.acquire()
            lock.acquire()  # for good: this is a daemon thread
        return call()


class Connection:
    """A connection for one thread at a time; only ``interrupt`` may be called in any thread.

    Args:
        connection: DuckDB's connection. Nobody else may use it.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._statement: _Statement[Any] | None = None

    @classmethod
    def open(cls, path: Path, *, read_only: bool = False, config: Mapping[str, Any] | None = None) -> Self:
        """Open a file; the parameters are those of ``duckdb.connect``, whose exceptions are raised."""
        import duckdb

        found = dict(config or {})
        return cls(_in_this_thread(lambda: duckdb.connect(str(path), read_only=read_only, config=found)))

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

        self._run(lambda: self._connection.register(name, table))

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
        _in_this_thread(self._connection.close)

    def _run(self, call: Callable[[], T]) -> T:
        self._finish()
        self._statement = made = _Statement(call, self.interrupt)
        result = made.result()
        self._statement = None
        return result

    def _finish(self) -> None:
        if self._statement is not None:
            self._statement.finish()
            self._statement = None
