"""The note in a ledger's file that rows were recorded, by which a copy that lost all of them is recognised.

The first rows of a ledger go to the write-ahead log. A copy of the file alone, by ``cp`` or ``rsync``, would be an
empty ledger like a new one. So before the first rows are recorded, a note of them is written into the file itself. A
file with this note, without rows and without a log has lost them. If the rows are not recorded after all, the note is
withdrawn.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from ledger.errors import ConfigurationError, LedgerError
from ledger.stores.sqlite.database_file import log_of

T = TypeVar("T")
#: What to do about a file that has lost all rows.
REMEDY = "Copy the original with `ledger backup`, or restore a backup; or move it away to begin a new ledger there"
_Runner = Callable[[Callable[[sqlite3.Connection], Any]], Any]

# ``sqlite_sequence`` remembers that there were rows, if all were dropped or purged since.
_HAD_ROWS = "SELECT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'session_events')"
_NOTED = "SELECT EXISTS (SELECT 1 FROM meta WHERE name = 'has_rows')"
_NOTE = "INSERT OR IGNORE INTO meta VALUES ('has_rows', '1')"
_WITHDRAW = "DELETE FROM meta WHERE name = 'has_rows' AND NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = ?)"


def are_recorded(connection: sqlite3.Connection, path: Path) -> bool:
    """Return True if a ledger has or had rows. Call it before anything is written over this connection.

    Raises:
        ConfigurationError: The file has lost all rows.
    """
    if connection.execute(_HAD_ROWS).fetchone()[0]:
        return True
    check_not_lost(connection, path)
    if connection.execute(_NOTED).fetchone()[0]:  # a process was killed between the note and the rows
        _withdraw(connection)
    return False


def check_not_lost(connection: sqlite3.Connection, path: Path) -> None:
    """Raise ConfigurationError if rows were recorded in a ledger, and its file has neither rows nor a log."""
    if is_lost(connection, path):
        raise ConfigurationError(f"{lost(path)}. {REMEDY}.")


def is_lost(connection: sqlite3.Connection, path: Path) -> bool:
    """Return True if rows were recorded in a ledger, and its file has neither rows nor a log."""
    if connection.execute(_HAD_ROWS).fetchone()[0] or not connection.execute(_NOTED).fetchone()[0]:
        return False
    log = log_of(path)
    return not log.exists() or log.stat().st_size == 0


def lost(path: Path) -> str:
    """Return what happened to a file that has lost all rows."""
    return (
        f"{path} has no sessions, but sessions were recorded in its ledger: it was copied without the write-ahead log "
        f"beside it ({log_of(path).name}), as cp and rsync copy a ledger in use, or the log was deleted"
    )


def record(work: Callable[[sqlite3.Connection], T], run: _Runner, read: _Runner) -> tuple[T, bool]:
    """Record the first rows of a ledger after a note of them.

    While another connection reads a snapshot that is older than the note, SQLite cannot write the note into the file
    itself. So the rows are recorded without it there, and the next rows shall be recorded by this function again.

    Args:
        work: Function that writes the rows.
        run: Function that runs such a function in a transaction, and returns its result.
        read: Function that runs a function with a connection outside a transaction.

    Returns:
        The result of ``work``, and True if the note is in the file itself.
    """
    run(_note)
    is_noted: bool = read(_checkpoint)
    try:
        result: T = run(work)
    except BaseException:
        with suppress(LedgerError):  # the first error counts; the note alone loses nothing
            run(_withdraw)
        raise
    return result, is_noted


def _note(connection: sqlite3.Connection) -> None:
    connection.execute(_NOTE)


def _checkpoint(connection: sqlite3.Connection) -> bool:
    """Fold the log into the file as far as readers let SQLite do that. Return True if all of it was folded."""
    # Not TRUNCATE: an empty log would mean that the rows are lost, if the process were killed before they are there.
    is_busy, in_log, folded = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    return not is_busy and in_log == folded


def _withdraw(connection: sqlite3.Connection) -> None:
    connection.execute(_WITHDRAW, ("session_events",))
