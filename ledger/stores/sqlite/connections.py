"""The connections of one embedded store: their use by reads, and their state after an exception and after a fork.

A read borrows a connection (``Connections.read``). A signal handler may raise an exception between any two lines of the
read. Three rules make that harmless:

* A connection becomes idle again only if the read returned and left no transaction open. After any exception the
  connection is closed, with the cursors that still read from it. An unfinished statement would hold its snapshot open.
* Connections are not counted. ``_open`` has weak references to the open connections. If an exception makes a read lose
  its connection, the connection's finalizer closes it.
* A reader holds no lock that another thread or another process could wait for.

A fork blocks new reads, and interrupts the reads in progress until none is left. An interrupted read runs again after
the fork. A child process that inherited an open connection cannot open the file again under any name, because SQLite
would take the parent's locks for its own.
"""

from __future__ import annotations

import gc
import sqlite3
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import get_ident
from typing import Protocol, TypeVar, cast

from ledger import forking
from ledger.errors import LedgerError, StoreRejected, StoreUnavailable
from ledger.files import is_from_system
from ledger.stores.sqlite.database_file import READ_WRITE, connect

T = TypeVar("T")
#: How often a read runs if forks of the process interrupt it.
ATTEMPTS = 5
#: Seconds between two looks at what a fork, or a thread that waits for one, waits for.
_PAUSE = 0.0005
#: Name of the SQL function that every connection has; see ``_is_reading``.
_FUNCTION = "ledger_is_reading"
#: The files, by device and inode, of which this process inherited open connections.
_inherited: set[tuple[int, int]] = set()


class Connection(sqlite3.Connection):
    """A connection of a store.

    Attributes:
        thread: The thread that has borrowed it for a read; 0 if none has.
        is_interrupted: True if a fork has interrupted it. It is closed after its read.
        is_closed: True if it was closed, or is about to be.
    """

    thread = 0
    is_interrupted = False
    is_closed = False

    def __del__(self) -> None:
        with suppress(sqlite3.Error):  # it was never opened
            self.close()


class Read(Protocol):
    """Type of ``Connections.read``."""

    def __call__(self, work: Callable[[sqlite3.Connection], T], *, snapshot: bool = False) -> T:
        """Run ``work`` with a connection; see ``Connections.read``."""


class Connections:
    """The connections of one store to its file.

    Args:
        path: The file.
        wait: Seconds to wait while other processes write.
        translate: Function that converts an error of ``sqlite3`` to a LedgerError.
    """

    def __init__(
        self, path: Path, wait: float, translate: Callable[[sqlite3.Error | UnicodeDecodeError], LedgerError]
    ) -> None:
        self._path = path
        self._wait = wait
        self._translate = translate
        self._idle: deque[Connection] = deque()
        self._take = iter(self._idle.pop, None)  # its next element is the last idle connection, or an IndexError
        self._open: dict[int, weakref.ref[Connection]] = {}
        self._opening: deque[int] = deque()  # the threads that open a connection
        self._closing = threading.RLock()
        self._blocked = 0  # the thread that forks, or -1 if this object is closed; readers look at it first
        self.refusal: Callable[[], LedgerError] | None = None  # why every call is refused from now on
        self.check_file: Callable[[], None] = _unchecked  # called before each read; raises a LedgerError
        self._mode: Callable[[], str] | None = None  # how each read opens the file, if it does not reuse a connection

    def read(self, work: Callable[[sqlite3.Connection], T], *, snapshot: bool = False) -> T:
        """Run ``work`` with a connection that nobody else uses at the same time, and return its result.

        If a fork of this process interrupts the work, it runs again afterwards.

        Args:
            work: Function that reads. It must not use the connection or its cursors after it returns.
            snapshot: True to have every statement of the work read the same snapshot of the database.

        Raises:
            LedgerError: ``work`` or ``check_file`` raised it, or SQLite raised an error, which is translated.
            StoreUnavailable: Forks interrupted the work too often, or this thread is forking.
        """
        connection: Connection | None
        interruptions = 0
        while interruptions < ATTEMPTS:
            connection = None
            try:
                if self._blocked:
                    self._wait_for_fork()
                self.check_file()
                try:
                    # Not a call: after a call an exception could strike before the connection has a name.
                    for connection in self._take:  # noqa: B007
                        break
                except IndexError:
                    self.while_opening(self._open_idle)
                    continue
                if connection is None:
                    continue
                if connection.is_closed:  # not surely: an exception has struck while it was closed
                    self.close(connection)
                    continue
                connection.thread = get_ident()
                if snapshot:
                    connection.execute("BEGIN")
                    result = work(connection)
                    connection.execute("COMMIT")
                else:
                    result = work(connection)
            except BaseException as error:
                if connection is not None:
                    self.close(connection)
                if not isinstance(error, (sqlite3.Error, UnicodeDecodeError)):
                    raise
                if connection is None or not connection.is_interrupted:
                    raise self._translate(error) from error
                interruptions += 1
                continue
            # Up to here no call is left that an exception could strike before the connection has its place.
            try:
                connection.thread = 0
                if connection.in_transaction or connection.is_interrupted or self._mode is not None:
                    self.close(connection)
                else:
                    self._idle.append(connection)
                if self._blocked:
                    self._close_idle()
                return result
            finally:
                connection = None  # a traceback may keep this frame: it must not keep another reader's connection alive
        raise StoreUnavailable(
            f"Forks of this process interrupted a read of the ledger {self._path} {ATTEMPTS} times; try again."
        )

    def read_anew(self, mode: Callable[[], str]) -> None:
        """Open a connection for each read from now on, in the mode that ``mode`` returns, and close it afterwards."""
        self._mode = mode

    def while_opening(self, act: Callable[[], T]) -> T:
        """Call ``act``, which opens connections, while no fork is in progress. Forks wait until ``act`` returns."""
        thread = get_ident()
        while True:
            try:
                self._opening.append(thread)  # first, so that a fork that begins now finds this thread
                if not self._blocked:
                    return act()
            finally:
                if thread in self._opening:
                    self._opening.remove(thread)
            self._wait_for_fork()

    def wait_for_forks(self) -> None:
        """Wait until the forks have ended that began before this store was registered with ``ledger.forking``.

        Raises:
            StoreUnavailable: A fork does not end, or this thread is forking.
        """
        if not forking.wait_for_forks(time.monotonic() + self._wait + forking.BUDGET):
            raise StoreUnavailable(
                f"The ledger {self._path} cannot be opened while this process is forked; open it after the fork."
            )

    def _open_idle(self) -> None:
        """Open a connection for reading, and add it to the idle connections."""
        self.open(_set_query_only, self._idle)

    def open(self, set_up: Callable[[Connection], object], place: deque[Connection] | None = None) -> None:
        """Open a connection, call ``set_up`` with it, and add it to ``place``. If ``set_up`` raises, close it.

        Call it within ``while_opening``, so that a fork waits for it.

        Raises:
            StoreRejected: This process inherited an open connection to the file.
            sqlite3.Error: SQLite cannot open the file.
        """
        if _inherited and self._identity() in _inherited:
            raise inherited(self._path)
        connection = None
        try:
            mode = READ_WRITE if self._mode is None else self._mode()
            connection = cast(Connection, connect(self._path, wait=self._wait, mode=mode, factory=Connection))
            self._register(connection)
            connection.create_function(_FUNCTION, 0, len)
            connection.execute("PRAGMA foreign_keys = OFF").close()
            set_up(connection)
        except BaseException:
            if connection is not None:
                self.close(connection)
            raise
        if place is not None:
            place.append(connection)

    def _register(self, connection: Connection) -> None:
        key = id(connection)
        # The callback is written in C: an exception that struck in one would leave the connection open to every fork.
        self._open[key] = weakref.ref(connection, partial(self._open.pop, key))

    def close(self, connection: Connection) -> None:
        """Close a connection, whatever state it is in, and the cursors that still read from it."""
        connection.is_closed = True
        with self._closing:  # the last to close folds in the WAL; of two that close at the same time neither does
            if _is_reading(connection):
                _close_cursors(connection)
            with suppress(sqlite3.ProgrammingError):  # it was never opened
                connection.close()
        self._open.pop(id(connection), None)

    def refuse(self, refusal: Callable[[], LedgerError]) -> None:
        """Refuse every later read, and close the idle connections. Others are closed when their reads end."""
        self.refusal = refusal
        self._blocked = -1
        self._close_idle()

    def _close_idle(self) -> None:
        with suppress(IndexError):  # none is left
            self._close_each_idle()

    def _close_each_idle(self) -> None:
        for connection in self._take:
            try:
                self.close(connection)
            except BaseException:
                self._idle.append(connection)  # not lost, so that it is closed at last
                raise

    def _wait_for_fork(self) -> None:
        """Wait until no fork is in progress.

        Raises:
            LedgerError: This object is closed.
            StoreUnavailable: This thread is forking, or the fork does not end.
        """
        deadline = time.monotonic() + self._wait + forking.BUDGET
        while self._blocked:
            if self.refusal is not None:
                raise self.refusal()
            if self._blocked == get_ident():
                raise StoreUnavailable(
                    f"This thread is forking, and a hook or a signal handler called the ledger {self._path}; nothing "
                    "was read or written. Call it after the fork."
                )
            if time.monotonic() > deadline:
                raise StoreUnavailable(f"A fork of this process does not end, so {self._path} waits; try again.")
            time.sleep(_PAUSE)

    def block(self) -> None:
        """Block new reads until ``unblock``, because this thread is about to fork the process."""
        if self.refusal is None:
            self._blocked = get_ident()

    def unblock(self) -> None:
        """Allow new reads again after ``block``."""
        if self.refusal is None:
            self._blocked = 0

    def drain(self, deadline: float) -> bool:
        """Close every connection, and return True. Reads in progress are interrupted until they have ended.

        Return False if a connection is still open at the deadline, or if a signal handler forks while its own thread
        opens a connection.
        """
        thread = get_ident()
        while thread not in self._opening:
            self._close_idle()
            for connection in self._all_open():
                self._end(connection, thread)
            if not self._open and not self._opening:
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(_PAUSE)
        return False

    def _all_open(self) -> list[Connection]:
        return [connection for each in self._open.copy().values() if (connection := each()) is not None]

    def _end(self, connection: Connection, thread: int) -> None:
        """Interrupt a connection's read. If it is a read of this thread, suspended by a signal handler, close the
        connection instead.
        """
        connection.is_interrupted = True
        if connection.thread == thread:
            self.close(connection)
        else:
            with suppress(sqlite3.ProgrammingError):  # its thread closes it now
                connection.interrupt()

    def reset(self) -> None:
        """Make this object usable in a child process that inherited no connection."""
        self._idle.clear()
        self._opening.clear()
        self._closing = threading.RLock()
        self.unblock()

    def abandon(self, suspended: Connection | None) -> None:
        """Refuse every call from now on. A child process that inherited open connections calls this.

        The inherited connections are kept open forever; see ``forking.keep``.

        Args:
            suspended: The writing connection, if this thread is in an append, which a signal handler has suspended.
        """
        _inherited.add(self._identity())
        connections = self._all_open()
        for connection in connections:
            if connection is suspended or connection.thread == get_ident():
                connection.set_authorizer(_deny)  # what was suspended may go on, but not with this connection
        forking.keep(*connections, self._idle)
        self._closing = threading.RLock()
        self.refusal, self._blocked = partial(inherited, self._path), -1

    def _identity(self) -> tuple[int, int]:
        try:
            status = self._path.stat()
        except OSError as error:
            if not is_from_system(error):
                raise
            return (0, 0)  # the file is gone, so nothing can be inherited or lost
        return status.st_dev, status.st_ino


def inherited(path: Path) -> StoreRejected:
    """Return the error for a child that inherited an open connection to a file."""
    return StoreRejected(
        f"This process was forked while its parent used the ledger {path}, and inherited an open connection to it. "
        "What this process recorded could be lost, so it cannot use that ledger; the parent can. Fork while no call is "
        "in progress, or start the process with subprocess, or with multiprocessing's method 'spawn'."
    )


def unopened() -> Connection:
    """Return a connection object that was never opened and is marked as closed."""
    connection = Connection.__new__(Connection)
    connection.is_closed = True
    return connection


def _unchecked() -> None:
    """Do nothing: the file is not open yet."""


def _set_query_only(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA query_only = ON").close()


def _deny(*_: object) -> int:
    return sqlite3.SQLITE_DENY


def _close_cursors(connection: sqlite3.Connection) -> None:
    """Close the cursors of a connection. SQLite would keep the file open until the last of them is gone."""
    for each in gc.get_referrers(connection):
        if isinstance(each, sqlite3.Cursor):
            each.close()


def _is_reading(connection: sqlite3.Connection) -> bool:
    """Return True if a connection has an unfinished statement.

    The check tries to redefine an SQL function, which SQLite refuses while a statement is unfinished.
    """
    try:
        connection.create_function(_FUNCTION, 0, None)
    except sqlite3.OperationalError:
        return True
    except sqlite3.ProgrammingError:  # it is closed
        return False
    return False
