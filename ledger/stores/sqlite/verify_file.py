"""Verification of what belongs to no session: SQLite's check of the file, the table ``meta``, relays and tombstones."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing

from ledger.errors import CorruptEvent
from ledger.model.findings import Finding
from ledger.model.instants import FIRST, LAST
from ledger.stores.archived import UNOWNED
from ledger.stores.sqlite import read, unreconciled
from ledger.stores.sqlite import search_index as index
from ledger.stores.sqlite.seals import wrong_rows
from ledger.stores.sqlite.verify_errors import OF_VALUES, any_text, is_damage, printable, reason
from ledger.stores.sqlite.verify_schema import schema_findings
from ledger.stores.sqlite.verify_sessions import SEVERAL, last_row, unreadable_index

_BATCH = {"last": int, "rows": int, "digest": str, "again": bool}
_SPLIT = (
    "SELECT a.session_id, a.version FROM session_events AS a JOIN session_events AS b ON b.seq = a.seq + 1 "
    "WHERE a.seq = ? AND b.session_id = a.session_id AND b.event_id = a.event_id"
)
_RELAYS = "SELECT warehouse, checkpoint, unsure_upto, batch FROM relays ORDER BY warehouse"
#: Query for the relays with a value that no release writes, because a relay would fail over it.
_WRONG_RELAYS = (
    "SELECT warehouse FROM relays WHERE typeof(warehouse) <> 'text' OR typeof(epoch) <> 'integer' OR epoch < 0 "
    "OR epoch > ?1 OR typeof(holder) NOT IN ('null', 'text') OR typeof(place) <> 'text' "
    "OR typeof(lease_until) <> 'integer' OR NOT lease_until BETWEEN ?2 AND ?3 OR typeof(shipped_rows) <> 'integer' "
    "OR NOT (shipped_at IS NULL OR typeof(shipped_at) = 'integer' AND shipped_at BETWEEN ?2 AND ?3) "
    "OR NOT (failed_at IS NULL OR typeof(failed_at) = 'integer' AND failed_at BETWEEN ?2 AND ?3) "
    "OR typeof(last_error) NOT IN ('null', 'text') OR typeof(rate) NOT IN ('null', 'real', 'integer') "
    "ORDER BY warehouse LIMIT 20"
)
_TEXTS = "SELECT warehouse, holder, place, batch, last_error FROM relays ORDER BY warehouse"
_SET_ASIDE = (
    "SELECT a.warehouse, a.seq, e.seq IS NULL FROM relay_aside AS a LEFT JOIN session_events AS e ON e.seq = a.seq "
    "LEFT JOIN relays AS r ON r.warehouse = a.warehouse WHERE e.seq IS NULL OR r.warehouse IS NULL LIMIT 20"
)
_ORPHANS = (
    "SELECT session_id FROM (SELECT session_id FROM archived_sessions UNION SELECT session_id FROM archived_events "
    "UNION SELECT session_id FROM archived_in) "
    "WHERE session_id NOT IN (SELECT session_id FROM session_heads WHERE store_id = ?) "
    "ORDER BY session_id LIMIT 20"
)
_HELD = "SELECT d.session_id FROM deleted_sessions AS d JOIN session_heads AS h ON h.session_id = d.session_id LIMIT 20"


def damage(connection: sqlite3.Connection) -> Iterator[Finding]:
    """Run SQLite's own check of the file, and yield a finding for each message."""
    try:
        for (message,) in connection.execute(f"PRAGMA integrity_check({SEVERAL})").fetchall():
            if message != "ok":
                of_index = "FTS5" in message and index.WORDS in message
                yield _finding("search" if of_index else "file", f"SQLite finds: {message}", mendable=of_index)
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        yield _finding("file", f"SQLite cannot check the file: {error}")


def file_findings(connection: sqlite3.Connection, store_id: str, current: int) -> Iterator[Finding]:
    """Yield what is wrong in the schema, ``meta``, the search index, the relays, the seals and the tombstones.

    A part that cannot be read is a finding, and the others are verified.

    Args:
        connection: A connection that reads a snapshot.
        store_id: The id under which the store was opened.
        current: The schema version to which events are upcast before they are folded.
    """
    parts: dict[str, Callable[[], Iterator[Finding]]] = {
        "the schema": lambda: schema_findings(connection),
        "the table sqlite_sequence": lambda: _sequences(connection),
        "the table meta": lambda: _meta(connection, store_id, current),
        "the search index": lambda: _index(connection),
        "the tables of relays": lambda: _relays(connection, last_row(connection)),
        "the tombstones": lambda: _tombstones(connection),
        "the seals": lambda: _seals(connection),
    }
    with any_text(connection):
        for name, part in parts.items():
            try:
                yield from part()
            except (sqlite3.DatabaseError, CorruptEvent, *OF_VALUES) as error:
                if not is_damage(error):
                    raise
                yield _finding("unreadable", f"{name} cannot be read: {reason(error)}")


def _sequences(connection: sqlite3.Connection) -> Iterator[Finding]:
    """Yield a finding for each table whose next row cannot get a number."""
    try:
        read.last_seq(connection)
    except CorruptEvent as error:
        yield _finding("seq", str(error))
    for table, last in connection.execute("SELECT name, seq FROM sqlite_sequence").fetchall():
        if not isinstance(last, int) or not 0 <= last <= read.LARGEST:
            of_index = table == "search_slots"
            message = f"the last number of {table} in sqlite_sequence is {last!r}, after which no row can be written"
            yield _finding("search" if of_index else "seq", message, mendable=of_index)


def _meta(connection: sqlite3.Connection, store_id: str, current: int) -> Iterator[Finding]:
    found = dict(connection.execute("SELECT name, value FROM meta").fetchall())
    if found.get("store_id") != store_id:
        yield _finding("meta", f"the store_id is {found.get('store_id')}, and was {store_id} when the file was opened")
    if read.whole(found.get("epoch")) is None:
        yield _finding("meta", "the epoch is missing or no number that a store writes")
    if found.get("state_schema") != str(current):
        message = f"the state_schema is {found.get('state_schema')!s:.50}, not {current}"
        yield _finding("meta", message, mendable=True)
    for name, value in found.items():
        if name.startswith(unreconciled.PREFIX) and read.whole(value) is None:
            yield _finding("meta", f"{name} is {value!s:.50}, and should be the time of the first session to reconcile")
    upto, turn = (read.whole(found.get(name)) for name in ("search_upto", "search_turn"))
    if upto is None or upto > last_row(connection) or turn is None:
        yield _finding("search", "the position of the search index is missing, or after the last row", mendable=True)


def _index(connection: sqlite3.Connection) -> Iterator[Finding]:
    problem = index.problem(connection)
    if problem is not None:
        yield _finding("search", unreadable_index(problem), mendable=True)


def _tombstones(connection: sqlite3.Connection) -> Iterator[Finding]:
    for (session_id,) in connection.execute(_ORPHANS, (UNOWNED,)).fetchall():
        yield Finding(
            printable(session_id), None, "tombstone", "a tombstone is there, and no head of an archived session"
        )
    for (session_id,) in connection.execute(_HELD).fetchall():
        yield Finding(
            printable(session_id), None, "tombstone", "it is to be deleted in a warehouse, and has a head here"
        )


def _seals(connection: sqlite3.Connection) -> Iterator[Finding]:
    for seal_id, problem in wrong_rows(connection):
        yield _finding("seal", f"{problem} of the seal {seal_id} has a value that no store writes")


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
    for texts in connection.execute(_TEXTS).fetchall():
        if any(isinstance(text, str) and printable(text) != text for text in texts):
            yield _finding("relay", f"the row of the relay to {texts[0]} has a text that is not UTF-8")
    for (warehouse,) in connection.execute(_WRONG_RELAYS, (read.LARGEST, FIRST, LAST)).fetchall():
        yield _finding("relay", f"the row of the relay to {warehouse} has a value that no relay writes")
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
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        return "is no JSON object of a batch"
    return None


def check_words(connection: sqlite3.Connection) -> Finding | None:
    """Run FTS5's check of the search index, and return a finding if it fails.

    Call it in a write transaction, because FTS5 runs the check as an INSERT, and only if ``words_pages`` has found
    pages, so that this SQLite has FTS5.
    """
    if not index.exists(connection):  # another process may have removed the index since
        return None
    try:
        connection.execute("INSERT INTO search_words (search_words) VALUES ('integrity-check')")
    except sqlite3.DatabaseError as error:
        return _finding("search", f"the words of the search index are damaged: {error}", mendable=True)
    return None


def words_pages(connection: sqlite3.Connection) -> int:
    """Return the number of pages of the search index; 0 if the file has no index."""
    if not index.is_readable(connection):
        return 0
    try:
        with closing(connection.execute("SELECT COUNT(*) FROM search_words_data")) as count:
            return int(count.fetchone()[0])
    except sqlite3.DatabaseError as error:  # a finding already
        if not is_damage(error):
            raise
        return 0


def _finding(code: str, message: str, *, mendable: bool = False) -> Finding:
    return Finding("", None, code, printable(message), mendable)
