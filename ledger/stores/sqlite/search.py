"""Search in the embedded store; ``ledger.stores.sqlite.search_index`` keeps the index."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ledger.errors import CapabilityMissing, CorruptEvent
from ledger.model.fields import check_role
from ledger.model.instants import from_micros, to_micros
from ledger.model.page import Page, check_limit
from ledger.model.queries import SearchQuery
from ledger.model.search import Match, SearchCursor, role_of, text_of
from ledger.model.values import check_session_id, check_text, decode
from ledger.stores.archived import DELETED_TEXT
from ledger.stores.sqlite import read, write
from ledger.stores.sqlite import search_index as index
from ledger.stores.sqlite.connections import Read
from ledger.stores.sqlite.errors import damaged

# CROSS JOIN fixes the order: from the matches of the index to the current registers.
_FOUND = (
    "WITH found (id) AS ("  # noqa: S608
    "SELECT rowid FROM search_words WHERE search_words MATCH ? "
    "UNION SELECT id FROM search_slots WHERE kept = 'words' "
    "AND id IN (SELECT rowid FROM search_words WHERE search_words MATCH ?) "
    "UNION SELECT id FROM search_slots WHERE kept = 'nothing') "
    "SELECT h.created_at, h.session_id, st.version, st.field, st.key, h.user_id, s.kept, st.event_seq "
    "FROM found CROSS JOIN search_slots AS s ON s.id = found.id "
    "CROSS JOIN session_state AS st ON st.session_id = s.session_id AND st.field = s.field AND st.key = s.key "
    "AND st.version = s.version AND st.event_id = s.event_id "
    "CROSS JOIN session_heads AS h ON h.session_id = s.session_id "
    "WHERE NOT EXISTS (SELECT 1 FROM session_state AS o WHERE o.session_id = s.session_id AND o.field = 'status' "
    f"AND o.key = '' AND o.value = '{DELETED_TEXT}'){{}} "
    "ORDER BY h.created_at DESC, h.session_id DESC, st.version, st.field, st.key"
)
_VISIBLE = (
    "(h.user_id = ? OR EXISTS (SELECT 1 FROM session_state AS g WHERE g.session_id = s.session_id "
    "AND g.field = 'grant' AND g.key = ? AND g.value IN ('\"read\"', '\"write\"')))"
)
_AFTER = (
    "(h.created_at, h.session_id) <= (?, ?) "
    "AND ((h.created_at, h.session_id) < (?, ?) OR (st.version, st.field, st.key) > (?, ?, ?))"
)
_TEXT = (
    "SELECT COALESCE(st.value, e.value) FROM session_state AS st LEFT JOIN session_events AS e ON e.seq = ? "
    "WHERE st.session_id = ? AND st.field = ? AND st.key = ?"
)

_IDS = (
    "SELECT session_id FROM session_heads WHERE session_id = ?1 OR substr(session_id, 1, length(?1)) = ?1 "
    "OR substr(session_id, -length(?1)) = ?1 ORDER BY session_id <> ?1, session_id LIMIT ?2"
)


class SqliteSearch:
    """The part of ``SqliteStore`` that searches."""

    path: Path
    _max_bytes: int | None
    _run: Callable[[Callable[[sqlite3.Connection], Any]], Any]
    _read: Read

    def search(self, query: SearchQuery, *, after: str | None = None, limit: int = 50) -> Page[Match]:
        """Return current texts that contain every term; see ``EventStore.search``.

        The search first indexes the rows appended since the last search. If a session is archived and its rows are only
        in a warehouse, only its question and its title are found, since the store keeps these.

        Raises:
            CapabilityMissing: This Python's SQLite was built without FTS5.
            StoreUnavailable: New rows cannot be indexed, since the file has reached its maximum size.
        """
        check_limit(limit)
        conditions, parameters = _conditions(query, after)
        if not index.has_fts5():
            raise CapabilityMissing(
                "This Python's SQLite was built without FTS5, so a ledger in a file cannot be searched; use a Python "
                "whose SQLite has it."
            )
        self.update_index()
        exact, single = (" ".join(f'"{term}"' for term in each) for each in (query.terms.terms, query.terms.single))
        statement = _FOUND.format("".join(f" AND {condition}" for condition in conditions))

        def work(connection: sqlite3.Connection) -> Page[Match]:
            rows = connection.execute(statement, (exact, single, *parameters))
            try:
                return _matches(connection, rows, query, limit)
            finally:
                rows.close()  # before the transaction ends

        return self._read(work, snapshot=True)

    def ids_with(self, part: str, *, limit: int) -> list[str]:
        """Return ids that begin or end with a part; see ``OutboxStore.ids_with``."""
        check_text(part, "part")
        rows = self._read(lambda connection: connection.execute(_IDS, (part, limit)).fetchall())
        ids = [session_id for (session_id,) in rows]
        return [part] if part in ids[:1] else ids

    def update_index(self) -> None:
        """Index all rows committed before the call, in several steps. Appends can commit between two steps.

        Raises:
            CorruptEvent: The index is damaged, so that a step that was written is to be written again.
            StoreUnavailable: The file has reached its maximum size.
        """
        wanted, exists = self._read(lambda connection: (read.last_seq(connection), index.exists(connection)))
        if not exists:
            self._run(index.create)
        turn, written = -1, set[tuple[Any, ...]]()  # what was written since others changed the index, at this turn
        while True:
            step = self._read(lambda connection: index.next_step(connection, wanted), snapshot=True)
            if step is None:
                return
            if step.turn > turn + 1:
                written.clear()
            if step.work in written:
                raise damaged("search_slots", "", "the search index stays as it was before a change")
            if self._run(partial(self._apply, step=step)):
                turn = step.turn
                written.add(step.work)

    def _apply(self, connection: sqlite3.Connection, step: index.Step) -> bool:
        write.check_room(connection, self._max_bytes, self.path)
        return index.take(connection, step)


def _matches(
    connection: sqlite3.Connection, rows: Iterator[tuple[Any, ...]], query: SearchQuery, limit: int
) -> Page[Match]:
    """Return the first ``limit`` matches as a page. If a text is not indexed in full, the text itself is searched."""
    matches: list[Match] = []
    for *cursor, user_id, kept, event_seq in rows:
        position = SearchCursor(*cursor)
        (value,) = connection.execute(_TEXT, (event_seq, position.session_id, position.field, position.key)).fetchone()
        try:
            recorded = None if value is None else decode(value)
        except CorruptEvent as error:
            raise damaged("session_state", position.session_id, str(error), version=position.version) from error
        text, role = text_of(position.field, recorded), role_of(position.field, recorded)
        if query.role not in (None, role):
            continue
        if kept != "text" and not query.terms.in_text(text):
            continue
        if len(matches) == limit:
            return Page(matches, SearchCursor.of_match(matches[-1]).to_text())
        try:
            created_at = from_micros(position.created_at)
        except CorruptEvent as error:
            raise damaged("session_heads", position.session_id, str(error)) from error
        matches.append(
            Match(
                *(position.session_id, user_id, position.field, position.key, position.version, created_at),
                query.terms.snippet(text),
                role,
            )
        )
    return Page(matches)


def _conditions(query: SearchQuery, after: str | None) -> tuple[list[str], list[Any]]:
    conditions: list[str] = []
    parameters: list[Any] = []

    def require(condition: str, *values: Any) -> None:
        conditions.append(condition)
        parameters.extend(values)

    if query.session_id is not None:
        require("h.session_id = ?", check_session_id(query.session_id))
    if query.user_id is not None:
        require("h.user_id = ?", check_text(query.user_id, "user_id"))
    if query.visible_to is not None:
        require(_VISIBLE, *[check_text(query.visible_to, "visible_to")] * 2)
    if query.role is not None:
        check_role(query.role)
    if query.created_from is not None:
        require("h.created_at >= ?", to_micros(query.created_from, "created_from"))
    if query.created_until is not None:
        require("h.created_at < ?", to_micros(query.created_until, "created_until"))
    if after is not None:
        cursor = SearchCursor.of(after)
        require(_AFTER, *cursor[:2], *cursor)
    return conditions, parameters
