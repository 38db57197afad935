"""What verification does with errors: which of them are findings, and how damaged texts are read and printed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from ledger.errors import CorruptEvent, StoreRejected

#: Errors of Python for a value of another type, or out of range: a store writes no such value.
OF_VALUES = (TypeError, ValueError, OverflowError)
_OF_SQLITE = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_CONSTRAINT)


def is_damage(error: BaseException) -> bool:
    """Return True if an error says that something in the file is damaged, so that verification can go on elsewhere.

    Args:
        error: An error of SQLite, the LedgerError to which it was translated, or an error of Python.
    """
    if isinstance(error, StoreRejected):
        return error.__cause__ is not None and is_damage(error.__cause__)
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", None)
        return str(error).startswith("Could not decode") if code is None else code & 0xFF in _OF_SQLITE
    return isinstance(error, (CorruptEvent, *OF_VALUES))


def reason(error: BaseException) -> str:
    """Return the reason to print in a finding: what SQLite says, or the message of the error."""
    cause = error.__cause__ if isinstance(error, StoreRejected) else None
    return printable(error if cause is None else cause)[:300]


@contextmanager
def any_text(connection: sqlite3.Connection) -> Iterator[None]:
    """Context manager in whose block texts that are not UTF-8 can be read. Invalid bytes become surrogates."""
    before = connection.text_factory
    connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    try:
        yield
    finally:
        connection.text_factory = before


def printable(text: object) -> str:
    """Return a text that can be printed and sorted. Characters that UTF-8 cannot encode are escaped."""
    return str(text).encode("utf-8", "backslashreplace").decode()
