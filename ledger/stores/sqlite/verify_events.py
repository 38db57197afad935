"""Verification of one event's rows: against each other, against their hashes, and against the event before.

Rows are verified as SQLite returns them. The stored text of a value is hashed without decoding it, because this release
may write a number in another way than the release that recorded it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ledger.model.integrity import event_hash, value_hash
from ledger.outbox import columns

#: The columns of a row, as verification reads them: those of the event, ``seq``, those of the change.
READ = (*columns.EVENT, "seq", *columns.CHANGE)
#: Positions in a row: of ``seq``, which is also the number of an event's own columns, and of ``schema_version``.
SEQ = len(columns.EVENT)
SCHEMA = columns.EVENT.index("schema_version")
_STORE, _PREV, _HASH, _KEY = map(columns.EVENT.index, ("store_id", "prev_hash", "event_hash", "idempotency_key"))
_RECORDED_AT = columns.EVENT.index("recorded_at")
_USER_ID, _CREATED_AT = map(columns.EVENT.index, ("user_id", "created_at"))


class Problem(NamedTuple):
    """A problem with an event, as the ``code`` and the message of a ``Finding``."""

    code: str
    message: str


class ForeignRun(NamedTuple):
    """Consecutive events of a session that another store recorded: a row of the table ``foreign_events``."""

    first_version: int
    last_version: int
    store_id: str
    chained: int

    def problem(self, own_store_id: str) -> str | None:
        """Return what no store would write in this row, for a message; None if nothing is wrong with it."""
        if not (type(self.first_version) is type(self.last_version) is int and self.chained in (0, 1)):
            return "has a column of another type"
        if self.store_id == own_store_id:
            return "names this store"
        return None if 1 <= self.first_version <= self.last_version else "has no such versions"


class Chain:
    """Verifier of one session's events, which are passed to ``verify`` one by one, in order.

    Args:
        store_id: The id of the store.
        foreign: The session's events that other stores recorded, without runs that have a ``problem``.
        current: The schema version of new events.
        last_seq: The ``seq`` of the last row ever written.

    Attributes:
        version: The version of the last event; 0 before the first.
        event_hash: The last hash of the chain; None if no event has had one.
        updated_at: The latest ``recorded_at`` of the events.
        user_id, created_at: The values of these columns in the first event.
        events, unchained: Number of events, and number of events without hashes.
        only_current: False if an event has another schema version than ``current``.
    """

    def __init__(self, store_id: str, foreign: Sequence[ForeignRun], current: int, last_seq: int) -> None:
        self.store_id = store_id
        self.foreign = foreign
        self.current = current
        self.last_seq = last_seq
        self.version = 0
        self.event_hash: str | None = None
        self.updated_at: Any = None
        self.user_id: Any = None
        self.created_at: Any = None
        self.events = self.unchained = 0
        self.only_current = True
        self._position: tuple[Any, Any] = (0, "")
        self._previous_seq = 0
        self._ends: set[tuple[Any, Any]] = set()
        self._at_ends = {version for run in foreign for version in run[:2]}

    def unmatched(self) -> list[ForeignRun]:
        """Return the runs of other stores whose first or last event is not among the verified events."""
        ends = self._ends
        return [run for run in self.foreign if not {(version, run.store_id) for version in run[:2]} <= ends]

    def verify(self, event: tuple[Any, ...], rows: Sequence[tuple[Any, ...]]) -> list[Problem]:
        """Verify the next event, and return what is wrong with it.

        Args:
            event: The columns of the event, from its first row.
            rows: The event's rows, ordered by ``seq``, each with the columns ``READ``.
        """
        problems: list[Problem] = []
        version, hashed = event[1], event[_HASH]
        if self.events == 0:
            self.user_id, self.created_at = event[_USER_ID], event[_CREATED_AT]
        self.events += 1
        if event[SCHEMA] != self.current:
            self.only_current = False
        try:
            changes = [(row[SEQ + 1], row[SEQ + 2], row[SEQ + 4] != 0, row[SEQ + 5]) for row in rows]
            self._rows(event, rows, problems)
            for row in rows:
                _value(row, hashed, problems)
            if hashed is None:
                self.unchained += 1
            else:
                if event[_PREV] != self.event_hash:
                    problems.append(Problem("event", "its prev_hash is not the hash of the event before it"))
                if event_hash(event[_PREV], event[: SCHEMA + 1], changes, event[_KEY]) != hashed:
                    problems.append(Problem("event", "the event is not what was recorded: its hash is another"))
            self._place(event, rows, problems)
            if self.updated_at is None or event[_RECORDED_AT] > self.updated_at:
                self.updated_at = event[_RECORDED_AT]
        except (TypeError, ValueError) as error:  # a column of another type, or text that is not UTF-8
            problems.append(Problem("event", f"a row is not as a store writes it ({error})"))
        if hashed is not None:
            self.event_hash = hashed
        if isinstance(version, int):
            self.version = version
        return problems

    def _rows(self, event: tuple[Any, ...], rows: Sequence[tuple[Any, ...]], problems: list[Problem]) -> None:
        """Check that an event's rows agree in the event's columns and have consecutive ``seq``; add to ``problems``."""
        if len(rows) > 1:
            for row in rows:
                if row[:SEQ] != event:
                    names = ", ".join(columns.EVENT[at] for at in range(SEQ) if row[at] != event[at])
                    problems.append(Problem("event", f"the rows of the event differ in {names}"))
            if rows[-1][SEQ] - rows[0][SEQ] != len(rows) - 1:
                problems.append(Problem("seq", "the seqs of the event's rows are not consecutive"))
        if rows[0][SEQ] <= self._previous_seq:
            problems.append(Problem("seq", "its seq is not after that of the event before it"))
        self._previous_seq = rows[-1][SEQ]
        if self._previous_seq > self.last_seq:
            problems.append(Problem("seq", f"its seq is {self._previous_seq}, and the rows end at {self.last_seq}"))

    def _place(self, event: tuple[Any, ...], rows: Sequence[tuple[Any, ...]], problems: list[Problem]) -> None:
        """Check that an event follows the event before it, names its store, and has the hashes that it must have."""
        version, position = event[1], (event[1], event[2])
        runs = [run for run in self.foreign if run.first_version <= version <= run.last_version]
        store_id, is_hashed = event[_STORE], event[_HASH] is not None
        own = store_id == self.store_id
        # Only events without hashes may have equal versions, so only beside these may be an event of another store.
        of_store = [run.chained for run in runs if run.store_id == store_id]
        if (own and any(run.chained for run in runs)) or not (own or of_store):
            problems.append(Problem("store", f"its store_id is {store_id}, which did not record it"))
        must_have = own or all(of_store)
        if not is_hashed and must_have:
            problems.append(Problem("unhashed", "the event was recorded with hashes, and has none"))
        elif is_hashed and of_store and not any(of_store):
            problems.append(Problem("event", "the event was recorded without hashes, and has some"))
        if version in self._at_ends:
            self._ends.add((version, store_id))
        if (is_hashed or must_have) and version != self.version + 1:
            problems.append(Problem("gap", f"it follows version {self.version}: versions are missing or repeated"))
        elif position <= self._position:
            problems.append(Problem("gap", "it does not follow the event before it in (version, event_id)"))
        self._position = position
        if event[_USER_ID] != self.user_id or event[_CREATED_AT] != self.created_at:
            problems.append(Problem("event", "its user_id or created_at is not that of its session"))


def _value(row: tuple[Any, ...], hashed: str | None, problems: list[Problem]) -> None:
    """Check the value of a row against its hash."""
    field, key, text, removed, digest, salt = row[SEQ + 1 : SEQ + 7]
    if text is not None and type(text) is str and not removed:
        if digest is not None and salt is not None:
            if value_hash(salt, text) != digest:
                problems.append(Problem("value", f"the value of {field} {key!r} is not what was recorded"))
        elif hashed is not None or digest is not None or salt is not None:
            problems.append(Problem("value", f"{field} {key!r} has lost its hash or its salt"))
    elif removed not in (0, 1):
        problems.append(Problem("event", f"removed is {removed!r}, not 0 or 1"))
    elif removed:
        if text is not None:
            problems.append(Problem("value", f"{field} {key!r} was removed and has a value"))
    elif text is None:
        lost = "its value, and no event records that it was erased" if salt is None else "its value and kept its salt"
        problems.append(Problem("erased", f"{field} {key!r} has lost {lost}"))
    else:
        problems.append(Problem("value", f"the value of {field} {key!r} is no text"))
