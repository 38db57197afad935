"""What the file that a backup replaces knows beyond the backup: its warehouses, their marks, and its first session."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime
from glob import escape
from pathlib import Path
from typing import NamedTuple

from ledger.errors import LedgerError
from ledger.model.instants import from_micros
from ledger.stores.sqlite import deletions, read, tombstones, unreconciled
from ledger.stores.sqlite.database_file import IMMUTABLE, READ_ONLY, connect, log_of
from ledger.stores.sqlite.deletions import Deletions
from ledger.stores.sqlite.schema import check_ledger

#: What follows the ledger's name in that of a replaced file; the time follows.
REPLACED = ".replaced-"
#: Seconds to wait for commands that only pass by.
WAIT = 2.0
#: The first bytes of a SQLite database.
_HEADER = b"SQLite format 3\0"
#: Why a file cannot be read as a ledger, which may be why it is replaced.
_UNREADABLE = (sqlite3.Error, UnicodeDecodeError, LedgerError)


class Former(NamedTuple):
    """What a file knows that a backup of its ledger may lack.

    Attributes:
        store_id: The id of its store.
        sessions: The number of its sessions.
        first: The time of creation of its first session; None without sessions.
        warehouses: The URLs of the warehouses that may have its rows, each with the time of its mark: the creation of
            the first sessions that must still be reconciled with it; None if it has no mark.
    """

    store_id: str
    sessions: int
    first: datetime | None
    warehouses: Mapping[str, datetime | None]


def known_of(path: Path) -> Former | None:
    """Return what a file knows; None if it is missing, damaged or no ledger."""
    if not has_header(path):
        return None
    try:
        with reading(path) as connection:
            check_ledger(connection, str(path))
            sessions, first = connection.execute("SELECT COUNT(*), MIN(created_at) FROM session_heads").fetchone()
            warehouses = dict.fromkeys(tombstones.warehouses(connection)) | unreconciled.starts(connection)
            store_id = read.meta(connection, "store_id")
            return Former(store_id, sessions, None if first is None else from_micros(first), warehouses)
    except _UNREADABLE:
        return None


def known_before(path: Path, store_id: str) -> Mapping[str, datetime | None]:
    """Return the warehouses that the last file at a path knew which a backup has replaced, as ``Former.warehouses``.

    For a ledger that cannot be read: a restore before may have been killed, or have left marks.

    Args:
        path: The ledger.
        store_id: The id of its store. Files of other stores are left out, and so are those that cannot be read.
    """
    earlier = sorted(path.parent.glob(f"{escape(path.name)}{REPLACED}*Z*"), reverse=True)
    found = (known_of(each) for each in earlier if each.is_file())
    return next((each.warehouses for each in found if each is not None and each.store_id == store_id), {})


def deletions_of(path: Path, store_id: str) -> Deletions | None:
    """Return the deletions that a file records; None if it is missing, damaged or of another store."""
    if not has_header(path):
        return None
    try:
        with reading(path) as connection:
            check_ledger(connection, str(path))
            return deletions.recorded(connection) if read.meta(connection, "store_id") == store_id else None
    except _UNREADABLE:
        return None


def has_header(path: Path) -> bool:
    """Return True if a file exists and begins as a SQLite database does."""
    if not path.exists():
        return False
    with open(path, "rb") as file:
        return file.read(len(_HEADER)) == _HEADER


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Context manager that opens a database to read it, and creates no file beside it unless it has a log."""
    mode = READ_ONLY if log_of(path).exists() else IMMUTABLE
    with closing(connect(path, wait=WAIT, mode=mode)) as connection:
        yield connection
