"""Translation of SQLite's errors; no other module translates them."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from ledger.errors import ConfigurationError, CorruptEvent, LedgerError, StoreRejected, StoreUnavailable

_UNAVAILABLE = {
    sqlite3.SQLITE_BUSY: "is locked by another process that did not finish in time. Try again",
    sqlite3.SQLITE_LOCKED: "is locked by another connection",
    sqlite3.SQLITE_FULL: "cannot grow: the disk (or the quota) is full. Free some space",
    sqlite3.SQLITE_IOERR: "had a disk error. Check the disk",
    sqlite3.SQLITE_NOMEM: "ran out of memory",
    sqlite3.SQLITE_INTERRUPT: "was interrupted",
    sqlite3.SQLITE_PROTOCOL: "could not lock its WAL. Try again",
    sqlite3.SQLITE_SCHEMA: "was migrated meanwhile. Try again",
    sqlite3.SQLITE_ABORT: "aborted the statement. Try again",
}
_REJECTED = {
    sqlite3.SQLITE_READONLY: "cannot be written: the file or its folder is read-only. Change its permissions",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened. Check that the path is a file you may read and write",
    sqlite3.SQLITE_PERM: "may not be accessed. Change its permissions",
    sqlite3.SQLITE_AUTH: "may not be accessed. Change its permissions",
    sqlite3.SQLITE_CORRUPT: "is damaged. Restore a backup, or bring back what can be read with `sqlite3 FILE .recover`",
    sqlite3.SQLITE_TOOBIG: "does not take a value this large",
    sqlite3.SQLITE_NOLFS: "is larger than this file system allows",
}


def damaged(table: str, session_id: str, what: str, *, version: int = 0) -> CorruptEvent:
    """Return the error for a row that is not as a store writes it.

    Args:
        table: The table of the row.
        session_id: The session; empty if the row is of none.
        what: What is wrong with the row.
        version: The version of the event.
    """
    where = f"Session {session_id}" + (f", version {version}" if version else "") if session_id else "The ledger"
    derived = table in ("session_heads", "session_state", "search_slots", "meta")
    advice = "`ledger verify --rebuild` computes it again" if derived else "restore it from a backup or the warehouse"
    return CorruptEvent(
        f"{where}: a row of the table {table} is not what was recorded ({what}). `ledger verify` says what else is "
        f"damaged; {advice}.",
        session_id=session_id,
        version=version,
    )


def translate(error: sqlite3.Error | UnicodeDecodeError, path: Path) -> LedgerError:
    """Return the LedgerError that corresponds to the primary result code of an error of SQLite.

    Most messages say that nothing was written, so the caller must have rolled back.
    """
    if isinstance(error, UnicodeDecodeError):  # in the text of an error about the schema
        return StoreRejected(f"The ledger {path} {_REJECTED[sqlite3.SQLITE_CORRUPT]}; nothing was written ({error}).")
    if str(error).startswith("Could not decode to UTF-8"):
        return CorruptEvent(
            f"A text in {path} is not what was recorded: {str(error)[:200]}. `ledger verify` says in which session; "
            "restore it from a backup or the warehouse."
        )
    code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    if code == sqlite3.SQLITE_NOTADB:
        return ConfigurationError(f"{path} is not a SQLite database, so it is not a ledger; check the path.")
    if code in _UNAVAILABLE:
        return StoreUnavailable(f"The ledger {path} {_UNAVAILABLE[code]}; nothing was written ({error}).")
    if code in _REJECTED:
        return StoreRejected(f"The ledger {path} {_REJECTED[code]}; nothing was written ({error}).")
    return StoreRejected(f"The ledger {path} failed: {error} ({type(error).__name__}); nothing was written.")
