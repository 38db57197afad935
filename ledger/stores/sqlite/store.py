"""The embedded event store and outbox. It is one SQLite file in WAL mode, opened with Python's ``sqlite3``.

Appends commit in groups (``group_commit.py``); reads never wait for them. Never open the live file with a second copy
of SQLite in the same process, and never copy it with ``cp``: use ``backup``.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from ledger import forking
from ledger.clock import Clock, NewId, new_id, new_salt, utc_now
from ledger.errors import ConfigurationError, LedgerError, OutcomeUnknown, StoreRejected
from ledger.model.events import ANY_VERSION, AppendResult, NewEvent, RecordedEvent, prepare
from ledger.model.fold import State
from ledger.model.page import Page
from ledger.model.queries import SessionQuery
from ledger.model.session import Head, Message
from ledger.model.upcast import Upcaster
from ledger.model.values import check_session_id, check_whole
from ledger.stores.base import MAX_BYTES, Capabilities
from ledger.stores.sqlite import read, search_index, write
from ledger.stores.sqlite.archive import SqliteArchive
from ledger.stores.sqlite.errors import translate
from ledger.stores.sqlite.group_commit import CommitGroup
from ledger.stores.sqlite.outbox import SqliteOutbox
from ledger.stores.sqlite.rows import head_of
from ledger.stores.sqlite.schema import is_ready, migrate
from ledger.stores.sqlite.search import SqliteSearch
from ledger.stores.sqlite.state_cache import StateCache
from ledger.stores.sqlite.writer_lock import FairFileLock

T = TypeVar("T")
_CAPABILITIES = Capabilities(
    compare_and_append=True,
    gapless_versions=True,
    hash_chain=True,
    backup=True,
    commit_order=True,
    outbox=True,
    archive=True,
    purge=True,
)
#: Size of the WAL, in pages, at which SQLite checkpoints it. Above the default, so checkpoints are fewer and longer.
CHECKPOINT_PAGES = 4000
#: Connections of the parent process, kept in a forked child so that it never closes them.
_ABANDONED: list[object] = []


class SqliteStore(SqliteArchive, SqliteSearch):
    """An event store in one SQLite file, for any number of threads and processes.

    Args:
        path: The file; created with its directory if it is missing and ``create`` is True.
        create: True to create a missing file, False to raise ConfigurationError.
        synchronous: ``FULL`` (an append survives a power cut) or ``NORMAL`` (it survives a crash of the process; a
            power cut may lose the last appends, never part of one).
        max_bytes: Maximum size of the file. At this size appends are refused; relays still work. None for no limit.
        wait: Seconds to wait while other processes write.
        clock, ids: Sources of times and ids.
        upcaster: Brings events of older schema versions to the present one.

    Raises:
        ConfigurationError: The file is missing, is not a ledger, or was written by a newer release.
        StoreRejected, StoreUnavailable: The file cannot be opened or read.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        create: bool = True,
        synchronous: str = "FULL",
        max_bytes: int | None = None,
        wait: float = 10.0,
        clock: Clock = utc_now,
        ids: NewId = new_id,
        upcaster: Upcaster | None = None,
    ) -> None:
        if synchronous not in ("FULL", "NORMAL"):
            raise ConfigurationError(f"synchronous must be FULL or NORMAL, not {synchronous!r}.")
        if "\0" in os.fspath(path):
            raise ConfigurationError("The ledger's path contains a NUL character; check LEDGER_URL.")
        self.path = Path(path).absolute()
        if not create and not self.path.exists():
            raise ConfigurationError(f"There is no ledger at {path}; create it with `ledger init` or check LEDGER_URL.")
        self._path_text = str(self.path)
        self._synchronous = synchronous
        self._max_bytes = max_bytes
        self._wait = wait
        self._clock = clock
        self._ids = ids
        self._upcast = upcaster or Upcaster()
        self._closed = threading.Event()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreRejected(f"Cannot create the directory of {self.path}: {error.strerror}.") from error
        self._open()
        forking.register(self)

    @property
    def capabilities(self) -> Capabilities:
        """The capabilities of this store; ``search`` is False if this Python's SQLite lacks FTS5."""
        return _CAPABILITIES if search_index.has_fts5() else replace(_CAPABILITIES, search=False)

    def _open(self) -> None:
        self._readers: deque[sqlite3.Connection] = deque()
        self._opened_readers = 0
        self._opening = threading.RLock()
        self._heads: write.KnownHeads = {}
        self._cache = StateCache()
        self._file_lock = FairFileLock(self.path.with_name(self.path.name + "-turn"))
        with self._translated():
            self._writer = self._connect()
            try:
                self._file = self._identity()
                self._set_up_file()
                self.store_id = read.meta(self._writer, "store_id")
                self._commits = CommitGroup(self._writer, self._file_lock, self._wait, self._error, self._check_file)
                if int(read.meta(self._writer, "state_schema")) != self._upcast.current:
                    self._run(lambda connection: write.refold(connection, self._upcast))
            except BaseException:
                self._writer.close()
                self._file_lock.close()
                raise

    def _set_up_file(self) -> None:
        """Set up the file. Retry if other processes do so too, since SQLite's busy handler does not wait for that."""
        deadline = time.monotonic() + self._wait
        while True:
            try:
                is_ready(self._writer, str(self.path))  # before the first write: the file may be another program's
                self._writer.execute("PRAGMA journal_mode = WAL")
                self._set_up_writer()
                state_schema = self._upcast.current
                now = self._clock()
                new_store_id = self._ids(now)
                migrate(self._writer, str(self.path), new_store_id=new_store_id, now=now, state_schema=state_schema)
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
            time.sleep(0.001)

    def _set_up_writer(self) -> None:
        self._writer.execute(f"PRAGMA synchronous = {self._synchronous}")
        self._writer.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")

    def append(self, session_id: str, event: NewEvent, *, expected_version: int = ANY_VERSION) -> AppendResult:
        """Record one event, whole or not at all; see ``EventStore.append``."""
        check_session_id(session_id)
        prepared = prepare(event)
        salts = [None if change.removed else new_salt() for change in prepared.changes]

        def work(connection: sqlite3.Connection) -> AppendResult:
            write.check_room(connection, self._max_bytes, self.path)
            return write.append(
                connection,
                self._heads,
                session_id,
                prepared,
                salts,
                expected_version=expected_version,
                now=self._clock(),
                schema_version=self._upcast.current,
                store_id=self.store_id,
            )

        try:
            return self._run(work)
        except OutcomeUnknown as error:
            error.session_id, error.event_id = session_id, event.event_id
            raise

    def ingest(self, events: Iterable[RecordedEvent]) -> int:
        """Record whole events of another store; see ``EventStore.ingest``."""
        batch = list(events)
        return self._run(lambda connection: self._ingest(connection, batch))

    def _ingest(self, connection: sqlite3.Connection, events: Sequence[RecordedEvent]) -> int:
        write.check_room(connection, self._max_bytes, self.path)
        return write.ingest(connection, events, now=self._clock(), upcast=self._upcast)

    def state(
        self, session_id: str, *, version: int | None = None, at: datetime | None = None, with_messages: bool = False
    ) -> tuple[Head, State] | None:
        """Return the head and state of a session; see ``EventStore.state``."""
        check_session_id(session_id)
        if version is None and at is None and not with_messages:
            with self._reader() as connection:
                return self._cache.latest(connection, session_id)
        with self._reader() as connection:
            if version is not None or at is not None:
                with read.snapshot(connection):
                    return read.state_at(connection, session_id, version, at, with_messages, self._upcast)
            latest = read.latest(connection, session_id, with_messages=True)
            return latest and (head_of(session_id, latest[0]), latest[1])

    def messages(self, session_id: str, *, after: str | None, limit: int, newest: bool = False) -> Page[Message]:
        """Return a page of messages; see ``EventStore.messages``."""
        check_session_id(session_id)
        with self._reader() as connection:
            return read.messages(connection, session_id, after=after, limit=limit, newest=newest)

    def events(self, session_id: str, *, after: int = 0, limit: int = 1000, upcast: bool = True) -> Page[RecordedEvent]:
        """Return a page of events; see ``EventStore.events``."""
        check_session_id(session_id)
        with self._reader() as connection:
            upcaster = self._upcast if upcast else None
            return read.events(connection, session_id, after=after, limit=limit, upcast=upcaster)

    def version_of(self, session_id: str, event_id: str) -> int | None:
        """Return the version of a recorded event; see ``EventStore.version_of``."""
        with self._reader() as connection:
            return read.version_of(connection, session_id, event_id)

    def sessions(self, query: SessionQuery, *, after: str | None = None, limit: int = 50) -> Page[tuple[Head, State]]:
        """Return a page of sessions, newest first; see ``EventStore.sessions``."""
        with self._reader() as connection, read.snapshot(connection):
            return read.sessions(connection, query, after=after, limit=limit)

    def rows_after(self, seq: int, limit: int, *, max_bytes: int = MAX_BYTES) -> Sequence[tuple[Any, ...]]:
        """Return raw rows in commit order; see ``EventStore.rows_after``."""
        check_whole(limit, "limit", at_least=1)
        with self._reader() as connection:
            return read.rows_after(connection, seq, limit, max_bytes)

    def last_seq(self) -> int:
        """Return the ``seq`` of the last row; see ``EventStore.last_seq``."""
        with self._reader() as connection:
            return read.last_seq(connection)

    def outbox(self, warehouse: str) -> SqliteOutbox:
        """Return the outbox for the relay to a warehouse, given the warehouse's URL."""
        return SqliteOutbox(
            warehouse,
            store_id=self.store_id,
            run=self._run,
            reader=self._reader,
            ingest=self._ingest,
            clock=self._clock,
            path=self.path,
        )

    def backup(self, path: Path) -> None:
        """Write a consistent copy of the live store to ``path`` through SQLite's backup API.

        Raises:
            StoreRejected: ``path`` exists already, or it cannot be written.
        """
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except OSError as error:
            raise StoreRejected(f"Cannot write a backup to {path}: {error.strerror}.") from error
        try:
            with self._reader() as source:
                target = sqlite3.connect(path, isolation_level=None)
                try:
                    source.backup(target, pages=-1)
                    target.execute("PRAGMA journal_mode = DELETE")  # a single file, without a WAL
                finally:
                    target.close()
        except BaseException:
            Path(path).unlink(missing_ok=True)
            raise

    def close(self) -> None:
        """Wait for appends in progress, checkpoint the WAL and close the file; a second call does nothing."""
        if self._closed.is_set():
            return
        self._commits.stop()
        self._closed.set()
        forking.unregister(self)
        self._close_readers()
        # The last connection to close checkpoints the WAL; of two that close at the same time neither does.
        with self._opening:
            self._writer.close()
        self._file_lock.close()

    def _close_readers(self) -> None:
        with self._opening, suppress(IndexError):  # no reader is left
            self._close_each_reader()

    def _close_each_reader(self) -> None:
        while True:
            self._readers.pop().close()

    def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._closed.is_set():
            raise _closed(self.path)
        return self._commits.run(work)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, isolation_level=None, timeout=self._wait, check_same_thread=False, cached_statements=64
        )
        try:
            connection.execute("PRAGMA foreign_keys = OFF").close()
        except BaseException:
            connection.close()
            raise
        return connection

    def _open_reader(self) -> sqlite3.Connection:
        with self._opening:
            connection = self._connect()
            self._opened_readers += 1
        connection.execute("PRAGMA query_only = ON")
        return connection

    @contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        """Context manager that lends a reading connection for exclusive use, and opens one if none is free."""
        if self._closed.is_set():
            raise _closed(self.path)
        connection = None
        try:
            try:
                connection = self._readers.pop()
            except IndexError:
                connection = self._open_reader()
            yield connection
        except sqlite3.Error as error:
            raise self._error(error) from error
        finally:
            if connection is not None:
                self._readers.append(connection)
                if self._closed.is_set():  # checked last: close() may just have emptied the deque
                    self._close_readers()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._error(error) from error

    def _error(self, error: sqlite3.Error) -> LedgerError:
        return _closed(self.path) if self._closed.is_set() else translate(error, self.path)

    def _identity(self) -> tuple[int, int]:
        status = os.stat(self._path_text)  # noqa: PTH116 - half the cost, and every commit pays it
        return status.st_dev, status.st_ino

    def _check_file(self) -> None:
        """Raise StoreRejected if the open file is no longer the one at its path, since appends would be lost."""
        try:
            same = self._identity() == self._file
        except OSError:
            same = False
        if not same:
            raise StoreRejected(
                f"The ledger {self.path} was deleted, moved or replaced while it was open; nothing was written. Put "
                "the file back, or close this ledger and open it again."
            )

    def before_fork(self, deadline: float) -> bool:
        """Wait, for a limited time, until no thread uses a connection; then close all connections. See ``forking``."""
        paused = self._commits.pause()
        self._opening.acquire()
        while self._opened_readers and time.monotonic() < deadline:
            try:
                self._readers.pop().close()
                self._opened_readers -= 1
            except IndexError:
                time.sleep(0.0001)  # another thread reads
        self._writer.close()
        return paused and not self._opened_readers

    def after_fork_in_parent(self) -> None:
        """Reopen the writing connection, and let other threads write and open connections again."""
        try:
            with self._translated():
                self._writer = self._commits.connection = self._connect()
                self._set_up_writer()
        finally:
            self._opening.release()
            self._commits.resume()

    def after_fork_in_child(self, clean: bool) -> None:
        """Open new connections; those of the parent are kept open and never used."""
        _ABANDONED.extend((self._readers, self._file_lock))
        self._open()


def _closed(path: Path) -> StoreRejected:
    return StoreRejected(f"The ledger {path} is closed; open it again with SessionLedger.open().")
