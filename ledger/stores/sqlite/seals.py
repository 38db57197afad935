"""Seals of the embedded store: making and reading them, and comparing sealed sessions with the file."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ledger.clock import Clock, NewId
from ledger.errors import CorruptEvent
from ledger.model.instants import FIRST, LAST, from_micros, to_micros
from ledger.model.seals import Leaf, LeafCheck, MerkleTree, Seal
from ledger.stores.archived import UNOWNED
from ledger.stores.sqlite import read, write
from ledger.stores.sqlite.connections import Read
from ledger.stores.sqlite.errors import damaged

#: Maximum number of leaves that are read in one transaction.
PAGE = 5_000
#: Statement that keeps the heads that differ from the latest leaf of their session.
_KEEP_LEAVES = """
INSERT INTO sealed_heads (session_id, seal, created_at, version, event_hash)
SELECT h.session_id, ?1, h.created_at, h.version, h.event_hash FROM session_heads AS h
WHERE NOT EXISTS (
  SELECT 1 FROM sealed_heads AS s
  WHERE s.session_id = h.session_id
    AND s.seal = (SELECT MAX(l.seal) FROM sealed_heads AS l WHERE l.session_id = h.session_id)
    AND s.created_at = h.created_at AND s.version = h.version AND s.event_hash IS h.event_hash
)"""
#: Statement that records which sessions of the seal before are not in this one.
_KEEP_GONE = """
INSERT INTO sealed_heads (session_id, seal, created_at, version, event_hash)
SELECT session_id, ?1, created_at, 0, NULL FROM (
  SELECT session_id, created_at, version, MAX(seal) FROM sealed_heads GROUP BY session_id
)
WHERE version > 0 AND session_id NOT IN (SELECT session_id FROM session_heads)"""
# SQLite takes the other columns from the row with the MAX.
_LEAVES = (
    "SELECT session_id, created_at, version, event_hash, MAX(seal) FROM sealed_heads "
    "WHERE seal <= ? AND session_id > ? GROUP BY session_id HAVING version > 0 ORDER BY session_id LIMIT ?"
)
_SEAL_COLUMNS = "seal_id, made_at, sessions, events, last_seq, root, previous_root"
_SEALS = f"SELECT {_SEAL_COLUMNS} FROM seals WHERE root IS NOT NULL ORDER BY number"  # noqa: S608
_LAST_ROOT = "SELECT root FROM seals WHERE root IS NOT NULL ORDER BY number DESC LIMIT 1"
_BEGIN = (
    "INSERT INTO seals (seal_id, made_at, sessions, events, last_seq, previous_root) "  # noqa: S608
    f"SELECT ?, ?, COUNT(*), COALESCE(SUM(version), 0), ?, ({_LAST_ROOT}) FROM session_heads"
)
#: Query for a session's head, and the hash of its event at a version. The event is NULL if there is none.
_SEALED_EVENT = (
    "SELECT h.created_at, h.version, h.event_hash, h.store_id, e.version, e.event_hash FROM session_heads AS h "
    "LEFT JOIN session_events AS e INDEXED BY session_events_by_version "
    "ON e.session_id = h.session_id AND e.version = ?2 WHERE h.session_id = ?1 LIMIT 1"
)
#: Query for the hash of the last event with one; events of stores without a hash chain have none.
_LAST_HASH = (
    "SELECT event_hash FROM session_events INDEXED BY session_events_by_version "
    "WHERE session_id = ? AND version <= ? AND event_hash IS NOT NULL ORDER BY version DESC LIMIT 1"
)
#: Query for the rows of seals and of their leaves that no store would write.
_WRONG = (
    "SELECT number, 'the row' FROM seals WHERE typeof(seal_id) <> 'text' OR typeof(made_at) <> 'integer' "  # noqa: S608
    f"OR NOT made_at BETWEEN {FIRST} AND {LAST} OR typeof(sessions) <> 'integer' "
    "OR typeof(events) <> 'integer' OR typeof(last_seq) <> 'integer' OR typeof(root) NOT IN ('null', 'text') "
    "OR typeof(previous_root) NOT IN ('null', 'text') UNION ALL "
    "SELECT seal, 'a leaf' FROM sealed_heads WHERE typeof(session_id) <> 'text' OR typeof(seal) <> 'integer' "
    "OR typeof(created_at) <> 'integer' OR typeof(version) <> 'integer' OR version < 0 "
    "OR typeof(event_hash) NOT IN ('null', 'text') LIMIT 20"
)
_PURGED = "SELECT version FROM purged_sessions WHERE session_id = ? AND created_at = ?"


class SqliteSeals:
    """The part of ``SqliteStore`` that makes and checks seals; see ``SealingStore``."""

    path: Path
    store_id: str
    _clock: Clock
    _ids: NewId
    _max_bytes: int | None
    _run: Callable[[Callable[[sqlite3.Connection], Any]], Any]
    _read: Read

    def seal(self) -> Seal:
        """Seal all sessions as they are now; see ``SealingStore.seal``.

        The leaves are written in one transaction, for which other writers wait. The root is then computed from the
        stored leaves. If the process ends before the root is stored, there is no seal.
        """
        now = self._clock()
        seal_id = self._ids(now)
        number: int = self._run(lambda connection: self._keep_leaves(connection, seal_id, to_micros(now)))
        tree = MerkleTree()
        for leaf in self._leaves(number):
            tree.add(leaf.entry())
        finish = "UPDATE seals SET root = ? WHERE number = ?"
        self._run(lambda connection: connection.execute(finish, (tree.root(), number)).rowcount)
        return next(seal for seal in reversed(self.seals()) if seal.seal_id == seal_id)

    def seals(self) -> list[Seal]:
        """Return the seals of this store, oldest first."""
        rows = self._read(lambda connection: connection.execute(_SEALS).fetchall())
        try:
            return [
                Seal(seal_id, from_micros(made_at), self.store_id, sessions, events, last_seq, root, previous)
                for seal_id, made_at, sessions, events, last_seq, root, previous in rows
            ]
        except CorruptEvent as error:
            raise damaged("seals", "", str(error)) from error

    def sealed(self, seal_id: str) -> Iterator[Leaf]:
        """Return the leaves that this store keeps of a seal, sorted by session; see ``SealingStore.sealed``."""
        sql = "SELECT number FROM seals WHERE seal_id = ?"
        row = self._read(lambda connection: connection.execute(sql, (seal_id,)).fetchone())
        return iter(()) if row is None else self._leaves(row[0])

    def compare_sealed(self, leaves: Sequence[Leaf]) -> list[LeafCheck]:
        """Compare sealed sessions with what the file holds now; see ``SealingStore.compare_sealed``."""
        return self._read(lambda connection: [_compare(connection, leaf) for leaf in leaves], snapshot=True)

    def _keep_leaves(self, connection: sqlite3.Connection, seal_id: str, made_at: int) -> int:
        write.check_room(connection, self._max_bytes, self.path)
        with write.all_or_none(connection):
            number = connection.execute(_BEGIN, (seal_id, made_at, read.last_seq(connection))).lastrowid
            assert number is not None  # noqa: S101 - an INSERT sets it
            connection.execute(_KEEP_LEAVES, (number,))
            connection.execute(_KEEP_GONE, (number,))
        return number

    def _leaves(self, number: int) -> Iterator[Leaf]:
        """Yield the leaves of the seal with this number. They never change, so pages are read without a snapshot."""
        after = ""
        while True:
            page = (number, after, PAGE)
            rows = self._read(partial(_leaf_rows, page=page))
            for session_id, created_at, version, event_hash, _ in rows:
                leaf = Leaf(session_id, created_at, version, event_hash)
                if not leaf.is_sound():
                    raise damaged("sealed_heads", "", f"a leaf of the seal {number} is {tuple(leaf)!r:.100}")
                yield leaf
            if len(rows) < PAGE:
                return
            after = rows[-1][0]


def wrong_rows(connection: sqlite3.Connection) -> list[tuple[object, str]]:
    """Return the seals with a row that no store would write, each as the seal's number and what the row is."""
    return connection.execute(_WRONG).fetchall()


def _leaf_rows(connection: sqlite3.Connection, page: tuple[int, str, int]) -> list[tuple[Any, ...]]:
    return connection.execute(_LEAVES, page).fetchall()


def _compare(connection: sqlite3.Connection, leaf: Leaf) -> LeafCheck:
    row = connection.execute(_SEALED_EVENT, (leaf.session_id, leaf.version)).fetchone()
    if row is None or row[0] != leaf.created_at:
        purged = connection.execute(_PURGED, (leaf.session_id, leaf.created_at)).fetchone()
        if purged is not None and purged[0] >= leaf.version:
            return LeafCheck(leaf, "purged", purged[0])
        return LeafCheck(leaf, "missing") if row is None else LeafCheck(leaf, "replaced", row[1])
    _, version, head_hash, store_id, event_version, event_hash = row
    if version < leaf.version:
        return LeafCheck(leaf, "shortened", version)
    if store_id == UNOWNED:
        if version > leaf.version:
            return LeafCheck(leaf, "elsewhere", version)
        event_hash = head_hash
    elif event_version is None:
        return LeafCheck(leaf, "shortened", version)
    elif event_hash is None:
        last = connection.execute(_LAST_HASH, (leaf.session_id, leaf.version)).fetchone()
        event_hash = None if last is None else last[0]
    return LeafCheck(leaf, "same" if event_hash == leaf.event_hash else "rewritten", version)
