"""The embedded event store and outbox. It is one SQLite file in WAL mode, opened with Python's ``sqlite3``.

Appends commit in groups (``group_commit.py``); reads never wait for them. Never open the live file with a second copy
of SQLite in the same process, and never copy it with ``cp``: use ``backup``.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from ledger import forking
from ledger.clock import Clock, NewId, new_id, new_salt, utc_now
from ledger.errors import ConfigurationError, LedgerError, OutcomeUnknown, StoreRejected, StoreUnavailable
from ledger.files import absolute_path, check_apart, is_from_system, whole_path
from ledger.model.events import ANY_VERSION, AppendResult, NewEvent, RecordedEvent, prepare
from ledger.model.fold import State
from ledger.model.page import Page
from ledger.model.queries import SessionQuery
from ledger.model.session import Head, Message
from ledger.model.upcast import Upcaster
from ledger.model.values import check_session_id, check_whole
from ledger.stores.base import MAX_BYTES, Capabilities
from ledger.stores.sqlite import (
    database_file,
    first_rows,
    read,
    respelled,
    search_index,
    tombstones,
    unreconciled,
    write,
)
from ledger.stores.sqlite.archive import SqliteArchive
from ledger.stores.sqlite.connections import Connection, Connections, inherited, unopened
from ledger.stores.sqlite.database_file import OpenFile
from ledger.stores.sqlite.errors import cannot, is_full, naming_copy, translate
from ledger.stores.sqlite.group_commit import CommitGroup
from ledger.stores.sqlite.outbox import SqliteOutbox
from ledger.stores.sqlite.prices import SqlitePrices
from ledger.stores.sqlite.rows import head_of
from ledger.stores.sqlite.schema import check_ledger, migrate
from ledger.stores.sqlite.seals import SqliteSeals
from ledger.stores.sqlite.search import SqliteSearch
from ledger.stores.sqlite.state_cache import StateCache
from ledger.stores.sqlite.trial import SqliteTrial
from ledger.stores.sqlite.verify import SqliteVerification
from ledger.stores.sqlite.writer_lock import FairFileLock
from ledger.warehouse.urls import duckdb_file, duckdb_files

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
    verify=True,
    seals=True,
)
#: Size of the WAL, in pages, at which SQLite checkpoints it. Above the default, so checkpoints are fewer and longer.
CHECKPOINT_PAGES = 4000


class SqliteStore(SqliteArchive, SqliteSearch, SqliteVerification, SqliteSeals, SqlitePrices, SqliteTrial):
    """An event store in one SQLite file, for any number of threads and processes.

    Args:
        path: The file; created if it is missing and ``create`` is True. Its directory must exist.
        create: True to create a missing file, False to raise ConfigurationError.
        synchronous: ``FULL`` (an append survives a power cut) or ``NORMAL`` (it survives a crash of the process; a
            power cut may lose the last appends, never part of one).
        max_bytes: Maximum size of the file. At this size appends are refused; relays still work. None for no limit.
        wait: Seconds to wait while other processes write.
        clock, ids: Sources of times and ids.
        upcaster: Brings events of older schema versions to the present one.

    Raises:
        ConfigurationError: The file or its directory is missing, is not a ledger, or was written by a newer release.
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
        self.path = absolute_path(path)
        if not create and not self.path.exists():
            database_file.check_not_lost(self.path)
            raise ConfigurationError(f"There is no ledger at {path}; create it with `ledger init` or check LEDGER_URL.")
        self._synchronous = synchronous
        self._max_bytes = max_bytes
        self._wait = wait
        self._clock = clock
        self._ids = ids
        self._upcast = upcaster or Upcaster()
        self._ended = self._disk_was_full = self._is_marked = False
        self._file_lock = FairFileLock(self.path.with_name(self.path.name + "-turn"), self.path)
        self._connections = Connections(self.path, wait, self._error)
        self._read = self._connections.read
        self._start(unopened())
        forking.register(self)  # before a connection is opened: from now on, each fork waits for that
        try:
            self._connections.wait_for_forks()
            self._connections.while_opening(self._create_and_open)
        except BaseException as error:
            forking.unregister(self)
            self._file_lock.close()
            if isinstance(error, (sqlite3.Error, UnicodeDecodeError)):
                raise self._error(error) from error
            raise

    @property
    def capabilities(self) -> Capabilities:
        """The capabilities of this store; ``search`` is False if this Python's SQLite lacks FTS5."""
        return _CAPABILITIES if search_index.has_fts5() else replace(_CAPABILITIES, search=False)

    def _start(self, writer: Connection) -> None:
        """Create empty caches and an empty queue of appends, for the writing connection ``writer``."""
        self._heads: write.KnownHeads = {}
        self._cache = StateCache()
        self._writer = writer  # the writing connection; a fork closes it, and the next append opens another
        self._commits = CommitGroup(writer, self._file_lock, self._wait, self._error, self._ready)

    def _create_and_open(self) -> None:
        if not self.path.exists():
            database_file.create(self.path, self._migrate)
        self._connections.open(self._open)

    def _open(self, writer: Connection) -> None:
        self._file = OpenFile(self.path)
        self._connections.check_file = self._file.check_read
        self._set_up_file(writer)
        self.store_id = read.meta(writer, "store_id")
        if respelled.are_recorded(writer):
            self._run(respelled.rename)
        self._is_marked = unreconciled.is_marked(writer)
        if read.state_schema(writer) != self._upcast.current:
            self._run(lambda connection: write.refold(connection, self._upcast))

    def _set_up_file(self, writer: Connection) -> None:
        """Set up the file. Retry if another process is setting it up, for which SQLite's busy handler does not wait."""
        deadline = time.monotonic() + self._wait
        while True:
            try:
                is_ready = check_ledger(writer, str(self.path))  # before the first write
                self._has_rows = first_rows.are_recorded(writer, self.path)
                writer.execute("PRAGMA journal_mode = WAL")
                self._set_up(writer)
                if not is_ready:
                    self._migrate(writer)
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
            time.sleep(0.001)

    def _migrate(self, connection: sqlite3.Connection) -> None:
        now = self._clock()
        new_store_id = self._ids(now)
        migrate(connection, str(self.path), new_store_id=new_store_id, now=now, state_schema=self._upcast.current)

    def _set_up(self, writer: Connection) -> None:
        writer.execute(f"PRAGMA synchronous = {self._synchronous}")
        writer.execute("PRAGMA secure_delete = ON")  # of purged sessions, no text stays in free pages
        writer.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        self._file.note_wal(writer)
        self._commits.connection = self._writer = writer

    def append(self, session_id: str, event: NewEvent, *, expected_version: int = ANY_VERSION) -> AppendResult:
        """Record one event, whole or not at all; see ``EventStore.append``."""
        check_session_id(session_id)
        if self._is_marked:
            self._warn_unreconciled()
        prepared = prepare(event)
        salts = [None if change.removed else new_salt() for change in prepared.changes]

        def work(connection: sqlite3.Connection) -> AppendResult:
            write.check_room(connection, self._max_bytes, self.path, prepared.event_type)
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
            return self._record(work)
        except OutcomeUnknown as error:
            raise OutcomeUnknown(
                f"{error} Event {event.event_id} of session {session_id} may or may not be recorded: append it again "
                "with the same event_id.",
                session_id=session_id,
                event_id=event.event_id,
            ) from error

    def ingest(self, events: Iterable[RecordedEvent]) -> int:
        """Record whole events of another store; see ``EventStore.ingest``."""
        batch = list(events)
        if self._is_marked:
            self._warn_unreconciled()
        return self._record(lambda connection: self._ingest(connection, batch))

    def _ingest(self, connection: sqlite3.Connection, events: Sequence[RecordedEvent]) -> int:
        write.check_room(connection, self._max_bytes, self.path)
        return write.ingest(connection, events, now=self._clock(), upcast=self._upcast)

    def state(
        self, session_id: str, *, version: int | None = None, at: datetime | None = None, with_messages: bool = False
    ) -> tuple[Head, State] | None:
        """Return the head and state of a session; see ``EventStore.state``."""
        check_session_id(session_id)
        if version is None and at is None and not with_messages:
            return self._read(lambda connection: self._cache.latest(connection, session_id))
        if version is not None or at is not None:
            return self._read(
                lambda connection: read.state_at(connection, session_id, version, at, with_messages, self._upcast),
                snapshot=True,
            )
        latest = self._read(lambda connection: read.latest(connection, session_id, with_messages=True))
        return latest and (head_of(session_id, latest[0]), latest[1])

    def messages(self, session_id: str, *, after: str | None, limit: int, newest: bool = False) -> Page[Message]:
        """Return a page of messages; see ``EventStore.messages``."""
        check_session_id(session_id)
        return self._read(
            lambda connection: read.messages(connection, session_id, after=after, limit=limit, newest=newest)
        )

    def events(self, session_id: str, *, after: int = 0, limit: int = 1000, upcast: bool = True) -> Page[RecordedEvent]:
        """Return a page of events; see ``EventStore.events``."""
        check_session_id(session_id)
        upcaster = self._upcast if upcast else None
        return self._read(
            lambda connection: read.events(connection, session_id, after=after, limit=limit, upcast=upcaster)
        )

    def version_of(self, session_id: str, event_id: str) -> int | None:
        """Return the version of a recorded event; see ``EventStore.version_of``."""
        return self._read(lambda connection: read.version_of(connection, session_id, event_id))

    def sessions(self, query: SessionQuery, *, after: str | None = None, limit: int = 50) -> Page[tuple[Head, State]]:
        """Return a page of sessions, newest first; see ``EventStore.sessions``."""
        return self._read(lambda connection: read.sessions(connection, query, after=after, limit=limit), snapshot=True)

    def rows_after(self, seq: int, limit: int, *, max_bytes: int = MAX_BYTES) -> Sequence[tuple[Any, ...]]:
        """Return raw rows in commit order; see ``EventStore.rows_after``."""
        check_whole(limit, "limit", at_least=1)
        return self._read(lambda connection: read.rows_after(connection, seq, limit, max_bytes))

    def last_seq(self) -> int:
        """Return the ``seq`` of the last row; see ``EventStore.last_seq``."""
        return self._read(lambda connection: read.last_seq(connection))

    def outbox(self, warehouse: str) -> SqliteOutbox:
        """Return the outbox for the relay to a warehouse, given the warehouse's URL."""
        return SqliteOutbox(
            warehouse,
            store_id=self.store_id,
            run=self._run,
            record=self._record,
            read=self._read,
            ingest=self._ingest,
            clock=self._clock,
            path=self.path,
        )

    def own_files(self) -> list[Path]:
        """Return the store's files, and the DuckDB files beside it and shipped to; see ``OutboxStore.own_files``."""
        files = [duckdb_file(url) for url in self._read(tombstones.warehouses)]
        warehouses = [self.path.with_suffix(".duckdb"), *(file for file in files if file is not None)]
        return [*database_file.own_files(self.path), *(each for file in warehouses for each in duckdb_files(file))]

    def backup(self, path: Path) -> None:
        """Write a consistent copy of the live store to ``path`` through SQLite's backup API.

        The copy appears at ``path`` only when it is complete and synced. Only its owner may read it.

        Raises:
            StoreRejected: ``path`` exists already, its directory is missing, or it cannot be written.
            InvalidInput: ``path`` is a file of this ledger or of its warehouse.
        """
        path = Path(path)
        check_apart(path, self.own_files())
        try:
            with whole_path(path, private=True, replace=False) as part, naming_copy(path, part):
                self._read(lambda source: database_file.copy(source, part))
        except FileExistsError as error:
            raise StoreRejected(
                f"{path} exists, and a backup never replaces a file; nothing was written. Choose another name, or move "
                "the file away."
            ) from error
        except OSError as error:
            if not is_from_system(error):
                raise
            raise cannot(f"write a backup to {path}", error) from error

    def close(self) -> None:
        """Wait for appends in progress, checkpoint the WAL and close the file; a second call does nothing."""
        if self._ended:
            return
        self._commits.stop(self._close_connections)
        self._file_lock.close()
        forking.unregister(self)
        self._ended = True

    def _close_connections(self) -> None:
        self._connections.refuse(lambda: _closed(self.path))
        self._connections.close(self._writer)

    def _record(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._has_rows:
            return self._run(work)
        result, self._has_rows = first_rows.record(work, self._run, self._read)
        return result

    def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._connections.refusal is not None:
            raise self._connections.refusal()
        if self._disk_was_full:  # space that was freed since is worth most as room to fold the WAL into the file
            self._disk_was_full = not self._fold_log()
        try:
            return self._commits.run(work)
        except StoreUnavailable as error:
            self._disk_was_full = is_full(error)
            if not self._fold_log() or not self._disk_was_full:
                raise
            self._disk_was_full = False
        return self._commits.run(work)

    def _fold_log(self) -> bool:
        """Checkpoint and empty the WAL, without waiting. Return True if that freed space on the disk.

        SQLite itself checkpoints the WAL once commits have made it large enough. On a full disk, or at ``max_bytes``,
        no commit can do that.
        """
        try:
            if not database_file.log_of(self.path).stat().st_size:
                return False
            busy = self._read(self._checkpoint)
        except (OSError, LedgerError) as error:  # the caller raises the error that was first
            if isinstance(error, OSError) and not is_from_system(error):
                raise
            return False
        return not busy

    def _checkpoint(self, connection: sqlite3.Connection) -> bool:
        connection.execute("PRAGMA busy_timeout = 0").fetchone()  # a pending statement would block it
        busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        connection.execute(f"PRAGMA busy_timeout = {int(self._wait * 1000)}").fetchone()
        return bool(busy)

    def _error(self, error: sqlite3.Error | UnicodeDecodeError) -> LedgerError:
        refusal = self._connections.refusal
        return translate(error, self.path) if refusal is None else refusal()

    def _ready(self) -> None:
        """Prepare a commit: open a writing connection if a fork closed it, then check that the file may be written."""
        if self._writer.is_closed:
            self._connections.close(self._writer)  # again, as an exception may have struck while it was closed
            self._connections.open(self._set_up)
        self._file.check_write()

    def before_fork(self, deadline: float) -> bool:
        """Block new calls, end those in progress, and close every connection. Calls that take too long are interrupted.

        Return False if a call does not end in time, or if a signal handler forks during an append of this thread.
        """
        if self._commits.is_suspended():
            return False
        self._connections.block()
        left = deadline - time.monotonic()
        if not self._commits.pause(max(0.0, left * 0.75)):
            return False
        self._connections.close(self._writer)
        return self._connections.drain(deadline)

    def after_fork_in_parent(self) -> None:
        """Let threads read and write again, over new connections."""
        self._connections.unblock()
        self._commits.resume()

    def after_fork_in_child(self, clean: bool) -> None:
        """Start without connections. If the child inherited open connections, refuse every call instead."""
        if clean:
            self._connections.reset()
            self._start(unopened())
        elif self._connections.refusal is None:
            leads = self._commits.abandon(lambda: inherited(self.path))
            self._ended = True
            self._connections.abandon(self._writer if leads else None)
        self._file_lock.close()


def _closed(path: Path) -> StoreRejected:
    return StoreRejected(f"The ledger {path} is closed; open it again with SessionLedger.open().")
