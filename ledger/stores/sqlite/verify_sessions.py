"""Verification of the sessions in a range of ids: their events, and the state, head, index and tombstone of each.

All rows are read in the caller's snapshot, in the order of ids and versions. Rows are not collected. Only a register
that an event has written and the state lacks is remembered, until a later event removes it. So a long session takes as
little memory as a short one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from ledger.errors import CorruptEvent, LedgerError
from ledger.model.findings import Finding
from ledger.model.fold import fold
from ledger.model.search import SEARCHED_FIELDS
from ledger.model.upcast import Upcaster
from ledger.stores.archived import ARCHIVED_TEXT, LISTED, UNOWNED
from ledger.stores.sqlite import read
from ledger.stores.sqlite import search_index as index
from ledger.stores.sqlite.rows import HeadRow
from ledger.stores.sqlite.tombstones import kept_digest
from ledger.stores.sqlite.verify_errors import is_damage, printable
from ledger.stores.sqlite.verify_events import READ, SCHEMA, SEQ, Chain, ForeignRun

#: Maximum number of messages about one kind of thing in one session; further ones are left out.
SEVERAL = 20
#: Upper bound of all ids: SQLite sorts every text before every blob.
LAST = b"\xff" * 256
_ROWS = (
    f"SELECT {', '.join(f'e.{name}' for name in READ)}, st.event_seq, st.version, st.event_id, st.value "  # noqa: S608
    "FROM session_events AS e INDEXED BY session_events_by_version LEFT JOIN session_state AS st "
    "ON st.session_id = e.session_id AND st.field = e.field AND st.key = e.key "
    "WHERE e.session_id BETWEEN ?1 AND ?2 ORDER BY e.session_id, e.version, e.seq"
)
_HEADS = f"SELECT session_id, {', '.join(HeadRow._fields)} FROM session_heads WHERE session_id BETWEEN ?1 AND ?2"  # noqa: S608
_COUNTS = "SELECT session_id, COUNT(*) FROM session_state WHERE session_id BETWEEN ?1 AND ?2 GROUP BY session_id"
_FOREIGN = f"SELECT session_id, {', '.join(ForeignRun._fields)} FROM foreign_events WHERE session_id BETWEEN ?1 AND ?2"  # noqa: S608
_AGAIN = "SELECT session_id FROM search_again WHERE session_id BETWEEN ?1 AND ?2"
_UNWRITTEN = (
    "SELECT st.field, st.key, st.version FROM session_state AS st LEFT JOIN session_events AS e "
    "ON e.seq = st.event_seq AND e.session_id = st.session_id AND e.field = st.field AND e.key = st.key "
    "WHERE st.session_id = ? AND e.seq IS NULL LIMIT 20"
)
_SLOTS = (
    "SELECT s.session_id, s.field, s.version, s.event_id, s.kept, w.words, "
    "st.version, st.event_id, st.event_seq, COALESCE(st.value, e.value) "
    "FROM search_slots AS s LEFT JOIN search_words AS w ON w.rowid = s.id LEFT JOIN session_state AS st "
    "ON st.session_id = s.session_id AND st.field = s.field AND st.key = s.key "
    "LEFT JOIN session_events AS e ON e.seq = st.event_seq WHERE s.session_id BETWEEN ?1 AND ?2 ORDER BY s.session_id"
)
_TOMBSTONE = (
    "SELECT a.kept, a.rows, (SELECT MAX(version) FROM archived_events WHERE session_id = a.session_id), "
    "(SELECT TOTAL(rows) FROM archived_events WHERE session_id = a.session_id) "
    "FROM archived_sessions AS a WHERE a.session_id = ?"
)
_KEPT_REGISTERS = (
    "SELECT st.field, st.key, st.value, st.version, ev.version, st.event_seq BETWEEN ev.seq AND ev.seq + ev.rows - 1 "
    "FROM session_state AS st LEFT JOIN archived_events AS ev "
    "ON ev.session_id = st.session_id AND ev.event_id = st.event_id WHERE st.session_id = ?"
)


class Checked(NamedTuple):
    """The result of verifying a range of sessions.

    Attributes:
        sessions, events, unchained, archived: Numbers, with the same meaning as in ``Verification``.
        findings: What is wrong.
        heads: For each session with events, by session_id, the head that follows from its events.
    """

    sessions: int
    events: int
    unchained: int
    archived: int
    findings: list[Finding]
    heads: dict[str, HeadRow]


class SessionCheck:
    """Verification of sessions in one snapshot.

    Args:
        connection: A connection that reads a snapshot.
        store_id: The id of the store.
        upcast: The store's upcaster.
        progress: Called with the number of rows read since the last call.
        between: The first and the last id of the sessions, both included; ``LAST`` is after every id.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        store_id: str,
        upcast: Upcaster,
        progress: Callable[[int], object],
        between: tuple[str, str | bytes],
    ) -> None:
        self._connection = connection
        self._store_id = store_id
        self._upcast = upcast
        self._progress = progress
        self._between = between
        self._findings: list[Finding] = []
        self._derived: dict[str, HeadRow] = {}
        self._last_seq = last_row(connection)
        self._index_problem = index.problem(connection)
        self._indexed_upto = self._search_upto()

    def run(self) -> Checked:
        """Verify the sessions, in the order of their ids."""
        self._heads = {row[0]: HeadRow(*row[1:]) for row in self._select(_HEADS)}
        self._counts: dict[str, int] = dict(self._select(_COUNTS))
        self._again = set() if self._index_problem else {row[0] for row in self._select(_AGAIN)}
        self._foreign: dict[str, list[ForeignRun]] = {}
        for session_id, *columns in self._select(_FOREIGN):
            run = ForeignRun(*columns)
            if problem := run.problem(self._store_id):
                self._wrong_run(session_id, run, problem)
            else:  # a wrong run must not exempt an event from its hash chain
                self._foreign.setdefault(session_id, []).append(run)
        self._expected_slots: dict[str, int] = {}
        events = unchained = archived = 0
        seen: set[str] = set()
        with closing(self._select(_ROWS)) as rows:
            for session_id, of_session in groupby(rows, key=itemgetter(0)):
                seen.add(session_id)
                chain = self._session(session_id, of_session)
                events += chain.events
                unchained += chain.unchained
        for session_id in sorted(self._heads.keys() | self._counts.keys() | self._foreign.keys(), key=printable):
            if session_id in seen:
                continue
            seen.add(session_id)
            head = self._heads.get(session_id)
            if head is not None and head.store_id == UNOWNED:
                archived += 1
                self._archived(session_id, head)
            elif head is not None:
                self._find(session_id, None, "missing", f"the head is at version {head.version}, and no event is there")
            else:
                if session_id in self._counts:
                    self._find(session_id, None, "state", "the state has no head and no events", mendable=True)
                for run in self._foreign.get(session_id, ()):
                    self._wrong_run(session_id, run, "is of a session without events")
        try:
            if self._index_problem is None:
                self._slots()
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", None) is None or not is_damage(error):
                raise
            self._index_problem = str(error)
        if self._index_problem is not None:
            self._find("", None, "search", unreadable_index(self._index_problem), mendable=True)
        return Checked(len(seen), events, unchained, archived, _after_events(self._findings), self._derived)

    def _select(self, sql: str) -> sqlite3.Cursor:
        return self._connection.execute(sql, self._between)

    def _find(self, session_id: str, version: object, code: str, message: str, *, mendable: bool = False) -> None:
        number = version if isinstance(version, int) else None
        self._findings.append(Finding(printable(session_id), number, code, printable(message), mendable))

    def _wrong_run(self, session_id: str, run: ForeignRun, problem: str) -> None:
        message = f"the run of foreign_events with the versions {run.first_version!r} to {run.last_version!r} {problem}"
        self._find(session_id, None, "store", message)

    def _session(self, session_id: str, rows: Iterator[tuple[Any, ...]]) -> Chain:
        """Verify the events of one session, and compare its state and its head with them."""
        chain = Chain(self._store_id, self._foreign.get(session_id, ()), self._upcast.current, self._last_seq)
        before = len(self._findings)
        lacking: dict[tuple[Any, Any], Any] = {}
        matched = indexed = count = stale = 0
        event: tuple[Any, ...] | None = None
        of_event: list[tuple[Any, ...]] = []
        for row in rows:
            key = row[1:3]
            if event is None or key != event[1:3]:
                if event is not None:
                    for problem in chain.verify(event, of_event):
                        self._find(session_id, event[1], *problem)
                event, of_event = row[:SEQ], []
            of_event.append(row)
            count += 1
            if not count % 1000:
                self._progress(1000)
            if row[SCHEMA] != self._upcast.current:
                continue  # _folded compares such a session
            seq, field, register, text, removed = row[SEQ : SEQ + 5]
            state_seq, state_version, state_event, value = row[-4:]
            if state_seq is None:
                if removed:
                    lacking.pop((field, register), None)
                else:
                    lacking[field, register] = row[1]
            elif state_seq == seq:
                matched += 1
                indexed += field in SEARCHED_FIELDS and seq <= self._indexed_upto
                wanted = None if field == "message" else text
                if removed or (state_version, state_event) != key or value != wanted:
                    stale += self._stale(session_id, row[1], field, register, stale)
            elif not _later(state_version, state_event, key):
                stale += self._stale(session_id, row[1], field, register, stale)
        assert event is not None  # noqa: S101 - groupby gives at least one row
        for problem in chain.verify(event, of_event):
            self._find(session_id, event[1], *problem)
        for run in chain.unmatched()[:SEVERAL]:
            self._wrong_run(session_id, run, "does not begin and end with events of its store")
        self._progress(count % 1000)
        if chain.only_current:
            self._registers(session_id, lacking, matched)
        elif len(self._findings) == before:
            self._folded(session_id)
        self._expected_slots[session_id] = indexed
        self._head(session_id, chain)
        return chain

    def _stale(self, session_id: str, version: object, field: Any, key: Any, before: int) -> int:
        """Report a register whose value in the state differs from what an event wrote. Return 1.

        Nothing is reported if ``before``, the number of earlier reports about this session, is ``SEVERAL`` or more.
        """
        if before < SEVERAL:
            message = f"the state of {field} {key!r} is not what the events say"
            self._find(session_id, version, "state", message, mendable=True)
        return 1

    def _registers(self, session_id: str, lacking: dict[tuple[Any, Any], Any], matched: int) -> None:
        """Report registers that the state lacks (``lacking``), and registers of the state that no event has written."""
        for (field, key), version in list(lacking.items())[:SEVERAL]:
            self._find(session_id, version, "state", f"the state lacks {field} {key!r}", mendable=True)
        if matched != self._counts.get(session_id, 0):
            for field, key, version in self._connection.execute(_UNWRITTEN, (session_id,)).fetchall():
                message = f"the state has {field} {key!r}, which no event has written"
                self._find(session_id, version, "state", message, mendable=True)

    def _folded(self, session_id: str) -> None:
        """Compare a session's state with the fold of its events. Used if some of the events must be upcast first."""
        try:
            folded = fold(read.all_events(self._connection, session_id, self._upcast))
            latest = read.latest(self._connection, session_id, with_messages=True)
        except LedgerError as error:
            self._find(session_id, None, "state", f"the state cannot be compared with the events: {error}")
            return
        state = {} if latest is None else latest[1]
        for field, key in sorted(folded.keys() | state.keys()):
            if folded.get((field, key)) != state.get((field, key)):
                message = f"the state of {field} {key!r} is not what the events say"
                self._find(session_id, None, "state", message, mendable=True)

    def _head(self, session_id: str, chain: Chain) -> None:
        """Compare a session's head with its events."""
        head = self._heads.get(session_id)
        derived = HeadRow(
            *(chain.user_id, chain.created_at, chain.version, chain.updated_at, chain.event_hash, self._store_id)
        )
        self._derived[session_id] = derived
        if head == derived:
            return
        if head is None:
            self._find(session_id, None, "head", "the session has events and no head", mendable=True)
            return
        differing = [name for name in HeadRow._fields if getattr(head, name) != getattr(derived, name)]
        same_chain = head.event_hash is not None and head.event_hash == derived.event_hash
        if "version" in differing and not same_chain:
            message = f"the head is at version {head.version}, and the last event is version {derived.version}"
            self._find(session_id, None, "missing", message)
        else:
            self._find(session_id, None, "head", f"the head has another {', '.join(differing)}", mendable=True)

    def _archived(self, session_id: str, head: HeadRow) -> None:
        """Check the tombstone and the remaining state of a session whose rows are only in a warehouse."""
        for run in self._foreign.get(session_id, ()):
            if run.last_version > head.version:
                self._wrong_run(session_id, run, f"ends after version {head.version}, the last")
        tombstone = self._connection.execute(_TOMBSTONE, (session_id,)).fetchone()
        if tombstone is None:
            self._find(session_id, None, "tombstone", "the head says that the rows are archived, and no tombstone is")
            return
        if tombstone[0] != kept_digest(self._connection, session_id):
            self._find(session_id, None, "tombstone", "the head, a listed field or a tombstone is not as it was")
        if tombstone[2:] != (head.version, tombstone[1]):
            self._find(session_id, None, "tombstone", "the ids of the archived events are not those of its rows")
        searched = 0
        for field, key, value, version, wrote, placed in self._connection.execute(_KEPT_REGISTERS, (session_id,)):
            searched += field in SEARCHED_FIELDS
            wrong_status = field == "status" and value != ARCHIVED_TEXT
            if field not in LISTED or version != wrote or not placed or wrong_status:
                self._find(session_id, None, "tombstone", f"{field} {key!r} is not what the store kept")
        self._expected_slots[session_id] = searched

    def _search_upto(self) -> int:
        """Return the last indexed ``seq``; 0 if nothing is indexed, or the position is damaged."""
        if self._index_problem is not None or not index.is_readable(self._connection):
            return 0
        found = self._connection.execute("SELECT value FROM meta WHERE name = 'search_upto'").fetchone()
        return 0 if found is None else read.whole(found[0]) or 0

    def _slots(self) -> None:
        """Compare the search index with the current texts."""
        if not index.is_readable(self._connection):
            return
        found: dict[str, int] = {}
        wrong: set[str] = set()
        # Of a session that is to be indexed again, entries may be missing or be of an earlier text, which searches pass
        # over; the entries of its current texts must be right.
        with closing(self._select(_SLOTS)) as slots:
            for slot in slots:
                session_id, field, version, event_id, kept, words, now, now_id, seq, value = slot
                if (version, event_id) != (now, now_id):
                    # The entry of an earlier text: searches pass it over until the next one replaces it.
                    if isinstance(seq, int) and seq <= self._indexed_upto and session_id not in self._again:
                        wrong.add(session_id)
                    continue
                if isinstance(seq, int) and seq <= self._indexed_upto:
                    found[session_id] = found.get(session_id, 0) + 1
                if not _is_indexed(field, value, kept, words):
                    wrong.add(session_id)
        for session_id, expected in self._expected_slots.items():
            if found.get(session_id, 0) != expected and session_id not in self._again:
                wrong.add(session_id)
        for session_id in sorted(wrong, key=printable):
            message = "the search index does not have the current texts"
            self._find(session_id, None, "search", message, mendable=True)


def _after_events(findings: list[Finding]) -> list[Finding]:
    """Return the findings, with ``mendable`` set to False in each session whose events are damaged.

    The derived data of such a session must not be computed again, because they may show what the events said. A
    finding about the session's search index is left out, because the damaged events are its cause.
    """
    wrong = {finding.session_id for finding in findings if not finding.mendable}
    return [
        replace(finding, mendable=False) if finding.session_id in wrong and finding.mendable else finding
        for finding in findings
        if finding.code != "search" or finding.session_id not in wrong
    ]


def last_row(connection: sqlite3.Connection) -> int:
    """Return the ``seq`` of the last row ever written, even if that row was dropped.

    If SQLite's record of this number is damaged, return the ``seq`` of the last existing row.
    """
    try:
        return read.last_seq(connection)
    except CorruptEvent:
        (last,) = connection.execute("SELECT COALESCE(MAX(seq), 0) FROM session_events").fetchone()
        return int(last)


def unreadable_index(problem: str) -> str:
    """Return the message of the finding about an index that cannot be read."""
    return f"the search index cannot be read: {problem}"


def _is_indexed(field: str, value: str | None, kept: str, words: str | None) -> bool:
    """Return True if the index entry of a value (``kept`` and ``words``) equals a newly computed entry."""
    try:
        return (kept, words or "") == index.indexed(field, value)
    except (AttributeError, TypeError, ValueError):  # the value is no JSON text
        return False


def _later(version: Any, event_id: Any, position: tuple[Any, ...]) -> bool:
    """Return True if (version, event_id) is after ``position``; False if the types cannot be compared."""
    try:
        return bool((version, event_id) > position)
    except TypeError:
        return False
