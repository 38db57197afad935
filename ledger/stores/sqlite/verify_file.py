"""Verification of what belongs to no session: SQLite's check of the file, the table ``meta``, relays and tombstones."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing

from ledger.errors import CorruptEvent
from ledger.model.findings import Finding
from ledger.stores.archived import UNOWNED
from ledger.stores.sqlite import read
from ledger.stores.sqlite import search_index as index
from ledger.stores.sqlite.verify_sessions import SEVERAL, last_row, printable

_BATCH = {"last": int, "rows": int, "digest": str, "again": bool}
_SPLIT = (
    "SELECT a.session_id, a.version FROM session_events AS a JOIN session_events AS b ON b.seq = a.seq + 1 "
    "WHERE a.seq = ? AND b.session_id = a.session_id AND b.event_id = a.event_id"
)
_RELAYS = "SELECT warehouse, checkpoint, unsure_upto, batch FROM relays ORDER BY warehouse"
_SET_ASIDE = (
    "SELECT a.warehouse, a.seq, e.seq IS NULL FROM relay_aside AS a LEFT JOIN session_events AS e ON e.seq = a.seq "
    "LEFT JOIN relays AS r ON r.warehouse = a.warehouse WHERE e.seq IS NULL OR r.warehouse IS NULL LIMIT 20"
)
_ORPHANS = (
    "SELECT session_id FROM (SELECT session_id FROM archived_sessions UNION SELECT session_id FROM archived_events) "
    "WHERE session_id NOT IN (SELECT session_id FROM session_heads WHERE store_id = ?) "
    "ORDER BY session_id LIMIT 20"
)
_HELD = "SELECT d.session_id FROM deleted_sessions AS d JOIN session_heads AS h ON h.session_id = d.session_id LIMIT 20"


def damage(connection: sqlite3.Connection) -> Iterator[Finding]:
    """Run SQLite's own check of the file, and yield a finding for each message."""
    try:
        for (message,) in connection.execute(f"PRAGMA integrity_check({SEVERAL})").fetchall():
            if message != "ok":
                yield _finding("file", f"SQLite finds: {message}")
    except sqlite3.DatabaseError as error:
        yield _finding("file", f"SQLite cannot check the file: {error}")


def file_findings(connection: sqlite3.Connection, store_id: str, current: int) -> Iterator[Finding]:
    """Yield what is wrong in ``meta``, in the relays' rows and in tombstones without a session.

    Args:
        connection: A connection that reads a snapshot.
        store_id: The id under which the store was opened.
        current: The schema version to which events are upcast before they are folded.
    """
    last = last_row(connection)
    try:
        read.last_seq(connection)
    except CorruptEvent as error:
        yield _finding("seq", str(error))
    yield from _meta(connection, store_id, current, last)
    yield from _relays(connection, last)
    for (session_id,) in connection.execute(_ORPHANS, (UNOWNED,)).fetchall():
        yield Finding(
            printable(session_id), None, "tombstone", "a tombstone is there, and no head of an archived session"
        )
    for (session_id,) in connection.execute(_HELD).fetchall():
        yield Finding(
            printable(session_id), None, "tombstone", "it is to be deleted in a warehouse, and has a head here"
        )


def _meta(connection: sqlite3.Connection, store_id: str, current: int, last: int) -> Iterator[Finding]:
    found = dict(connection.execute("SELECT name, value FROM meta").fetchall())
    if found.get("store_id") != store_id:
        yield _finding("meta", f"the store_id is {found.get('store_id')}, and was {store_id} when the file was opened")
    if not str(found.get("epoch", "")).isdecimal():
        yield _finding("meta", "the epoch is missing or no number")
    if found.get("state_schema") != str(current):
        yield _finding("meta", f"the state_schema is {found.get('state_schema')}, not {current}", mendable=True)
    upto, turn = str(found.get("search_upto", "")), str(found.get("search_turn", ""))
    if not upto.isdecimal() or int(upto) > last or not turn.isdecimal():
        yield _finding("search", "the position of the search index is missing, or after the last row", mendable=True)


def _relays(connection: sqlite3.Connection, last: int) -> Iterator[Finding]:
    for warehouse, checkpoint, in_doubt_upto, batch in connection.execute(_RELAYS).fetchall():
        for name, position in (("checkpoint", checkpoint), ("unsure_upto", in_doubt_upto)):
            if not isinstance(position, int) or not 0 <= position <= last:
                yield _finding("relay", f"the {name} of {warehouse} is {position}, and the rows end at {last}")
        for split in connection.execute(_SPLIT, (checkpoint,)).fetchall():
            message = f"the checkpoint {checkpoint} of {warehouse} is inside an event"
            yield Finding(printable(split[0]), split[1], "relay", message)
        if batch is not None and (wrong := _batch(batch, checkpoint, last)):
            yield _finding("relay", f"the batch in flight to {warehouse} {wrong}")
    for warehouse, seq, gone in connection.execute(_SET_ASIDE).fetchall():
        reason = "is not there" if gone else "has no relay"
        yield _finding("relay", f"the row {seq}, set aside for {warehouse}, {reason}")


def _batch(text: str, checkpoint: int, last: int) -> str | None:
    """Return what is wrong with a relay's batch in flight, for a message; None if nothing is."""
    try:
        batch = json.loads(text)
        if not all(isinstance(batch.get(name, False), kind) for name, kind in _BATCH.items()):
            return "is not as a relay writes it"
        after = 0 if batch.get("again") else checkpoint
        if not after < batch["last"] <= last or batch["rows"] < 0:
            return f"ends at {batch['last']}, and may end after {after}, up to {last}"
    except (AttributeError, TypeError, ValueError):
        return "is no JSON object"
    return None


def check_words(connection: sqlite3.Connection) -> Finding | None:
    """Run FTS5's check of the search index, and return a finding if it fails.

    Call it in a write transaction, because FTS5 runs the check as an INSERT.
    """
    if not index.has_fts5() or not index.exists(connection):
        return None
    try:
        connection.execute("INSERT INTO search_words (search_words) VALUES ('integrity-check')")
    except sqlite3.DatabaseError as error:
        return _finding("search", f"the words of the search index are damaged: {error}", mendable=True)
    return None


def words_pages(connection: sqlite3.Connection) -> int:
    """Return the number of pages of the search index; 0 if the file has no index."""
    if not index.has_fts5() or not index.exists(connection):
        return 0
    with closing(connection.execute("SELECT COUNT(*) FROM search_words_data")) as count:
        return int(count.fetchone()[0])


def _finding(code: str, message: str, *, mendable: bool = False) -> Finding:
    return Finding("", None, code, printable(message), mendable)
