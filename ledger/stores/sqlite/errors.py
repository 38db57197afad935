"""Translation of SQLite's errors; no other module translates them."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ledger.errors import (
    ConfigurationError,
    CorruptEvent,
    InvalidInput,
    LedgerError,
    StoreRejected,
    StoreUnavailable,
)
from ledger.files import is_from_system, owner_and_mode

_UNAVAILABLE = {
    sqlite3.SQLITE_BUSY: "is locked by another process that did not finish in time. Try again",
    sqlite3.SQLITE_LOCKED: "is locked by another connection",
    sqlite3.SQLITE_FULL: (
        "cannot grow: the disk (or the quota) is full. Free some space; if there is some, run `ledger verify`"
    ),
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


#: Parts of SQLite's messages for a statement that exceeds its limits.
_TOO_MUCH = (
    "Expression tree is too large",
    "too many SQL variables",
    "parser stack overflow",
    "expression tree is too",
)
#: Parts of SQLite's messages for a schema that is not the one that the migrations create.
_OTHER_SCHEMA = ("no such table", "no such column", "no such index", "duplicate column name")
#: Parts of SQLite's messages for a name that is taken. The last one is of DROP VIEW for a table.
_TAKEN = ("already exists", "there is already a", "use DROP TABLE to delete ")
#: What to do about a file that the user may not read.
OPENING = (
    "Run the command as its owner, or have the owner open it to all who use it with chgrp and chmod, and so the files "
    "beside it"
)
#: Free bytes below which SQLite may fail to create a log and its index, which has 32 kB at first.
_ROOM = 65_536
#: Errors of the operating system that pass without a repair of the ledger, and what to do.
_PASSING = {
    errno.EMFILE: "This process has too many open files; close some, or raise the limit (ulimit -n)",
    errno.ENFILE: "This machine has too many open files; close some programs",
    errno.ENOSPC: "The disk is full; free some space",
    errno.EDQUOT: "The quota is used up; free some space",
}


def cannot(what: str, error: OSError) -> LedgerError:
    """Return the LedgerError for a file that cannot be created or written.

    Args:
        what: What could not be done, as in ``Cannot WHAT``.
        error: The error of the operating system.
    """
    if error.errno in _PASSING:
        return StoreUnavailable(f"Cannot {what}: {error.strerror}. {_PASSING[error.errno]}; nothing was written.")
    if error.errno == errno.ENOENT and error.filename is not None:
        return StoreRejected(f"Cannot {what}: there is no directory {error.filename}; check the path, or create it.")
    return StoreRejected(f"Cannot {what}: {error.strerror or error}.")


def damaged(table: str, session_id: str, what: str, *, version: int = 0) -> CorruptEvent:
    """Return the error for a row whose content no store would write.

    Args:
        table: The table of the row.
        session_id: The session; empty if the row belongs to no session.
        what: What is wrong with the row.
        version: The version of the event.
    """
    where = f"Session {session_id}" + (f", version {version}" if version else "") if session_id else "The ledger"
    # Of ``meta``, the position of the search index is derived.
    derived = table in ("session_heads", "session_state", "search_slots") or what.startswith("search_")
    advice = "`ledger verify --rebuild` computes it again" if derived else "restore it from a backup or the warehouse"
    if table == "meta" and what.startswith("store_id"):  # every command reads it first
        advice = "No command can open the file without it; restore a backup"
    else:
        advice = f"`ledger verify` says what else is damaged; {advice}"
    return CorruptEvent(
        f"{where}: a row of the table {table} is not what was recorded ({what}). {advice}.",
        session_id=session_id,
        version=version,
    )


def translate(error: sqlite3.Error | UnicodeDecodeError, path: Path) -> LedgerError:
    """Return the LedgerError that corresponds to the primary result code of an error of SQLite.

    Most messages say that nothing was written, so the caller must have rolled back.
    """
    translated = _translated(error, path)
    translated.__cause__ = error
    return translated


def is_closed_to_user(path: Path) -> bool:
    """Return True if a file exists that this user may not read."""
    return os.path.isfile(path) and not os.access(path, os.R_OK)  # noqa: PTH113 - False if the folder is closed


def is_full(error: BaseException) -> bool:
    """Return True if a translated error says that the disk is full."""
    return _code(error.__cause__) == sqlite3.SQLITE_FULL


def is_without_room(error: BaseException, path: Path) -> bool:
    """Return True if an error of SQLite comes from a full disk.

    If no program has a ledger open, SQLite creates its log and the index of the log to read it. On a full disk that
    ends as a disk error, which does not name its cause.
    """
    if _code(error) == sqlite3.SQLITE_FULL:
        return True
    if _code(error) not in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN) or not path.parent.is_dir():
        return False
    return shutil.disk_usage(path.parent).free < _ROOM


@contextmanager
def naming_copy(path: Path, part: Path) -> Iterator[None]:
    """Context manager that names the copy if its disk is full, where SQLite's error could be about the original.

    Args:
        path: The name that the copy is to get.
        part: The copy, which the block writes.
    """
    try:
        yield
    except (sqlite3.Error, StoreUnavailable) as error:
        cause = error if isinstance(error, sqlite3.Error) else error.__cause__
        if not isinstance(cause, sqlite3.Error) or not is_without_room(cause, part):
            raise
        raise cannot(f"write a copy to {path}", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))) from error


def _code(error: BaseException | None) -> int:
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


def _translated(error: sqlite3.Error | UnicodeDecodeError, path: Path) -> LedgerError:
    if isinstance(error, UnicodeDecodeError):  # in the text of an error about the schema
        return StoreRejected(f"The ledger {path} {_REJECTED[sqlite3.SQLITE_CORRUPT]}; nothing was written ({error}).")
    if str(error).startswith("Could not decode to UTF-8"):
        return CorruptEvent(
            f"A text in {path} is not what was recorded: {str(error)[:200]}. `ledger verify` says in which session; "
            "restore it from a backup or the warehouse."
        )
    code = _code(error)
    if code != sqlite3.SQLITE_FULL and is_without_room(error, path):
        return StoreUnavailable(
            f"The ledger {path} cannot be used: the disk is full, and SQLite needs some space beside the file to read "
            f"it. Free some space, and try again: nothing is lost, and nothing was written ({error})."
        )
    if code == sqlite3.SQLITE_ERROR and any(each in str(error) for each in _TOO_MUCH):
        return InvalidInput(f"The call has too many criteria for SQLite ({error}); nothing was written. Use fewer.")
    if code == sqlite3.SQLITE_ERROR and any(each in str(error) for each in _TAKEN):
        _, is_drop, name = str(error).partition("use DROP TABLE to delete ")
        what = f"{name} already exists" if is_drop else str(error)
        return StoreRejected(
            f"The ledger {path} has another schema than its schema number (PRAGMA user_version) says: {what}, and this "
            "release creates an object of that name. Nothing was written. If it is your own, give it another name, and "
            "open the ledger again; if not, another program has changed the ledger: restore a backup."
        )
    if code == sqlite3.SQLITE_ERROR and any(each in str(error) for each in _OTHER_SCHEMA):
        return StoreRejected(
            f"The ledger {path} has another schema than its schema number (PRAGMA user_version) says: {error}. Another "
            "program has changed it; nothing was written. `ledger verify` lists the differences, if the ledger can be "
            "opened; restore a backup."
        )
    if code == sqlite3.SQLITE_NOTADB:
        return ConfigurationError(f"{path} is not a SQLite database, so it is not a ledger; check the path.")
    if code == sqlite3.SQLITE_CANTOPEN and (passing := _no_descriptor()) is not None:
        return StoreUnavailable(f"The ledger {path} cannot be opened. {passing}; nothing was written ({error}).")
    if code == sqlite3.SQLITE_CANTOPEN and is_closed_to_user(path):
        return StoreRejected(
            f"The ledger {path} may not be read by this user: its owner is {owner_and_mode(path.stat())}. {OPENING}; "
            "nothing was written."
        )
    if code in _UNAVAILABLE:
        return StoreUnavailable(f"The ledger {path} {_UNAVAILABLE[code]}; nothing was written ({error}).")
    if code in _REJECTED:
        return StoreRejected(f"The ledger {path} {_REJECTED[code]}; nothing was written ({error}).")
    return StoreRejected(f"The ledger {path} failed: {error} ({type(error).__name__}); nothing was written.")


def _no_descriptor() -> str | None:
    """Return advice for the message if the process can open no more files; otherwise None.

    SQLite's own error does not name this cause.
    """
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        if not is_from_system(error):
            raise
        return _PASSING.get(error.errno or 0)
    return None
