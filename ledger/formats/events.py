"""JSON Lines of events: every event of a ledger as one line of text, and back, byte for byte.

A line is one JSON object with the keys of ``ENVELOPE`` and then ``changes``, an array of objects with the keys of
``CHANGE``. A change without ``value`` is one that has none: its slot was removed, or its value erased. Times are
RFC 3339 in UTC with six decimals. Nothing is left out, so a ledger that was filled from an export exports the same
bytes again, and the hash chain is checked on the way in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from ledger.errors import InvalidInput, LedgerError, SessionNotFound
from ledger.model.events import (
    MAX_CHANGES,
    SCHEMA_VERSION,
    RecordedChange,
    RecordedEvent,
    check_event_type,
    check_size,
)
from ledger.model.fields import check_change
from ledger.model.instants import from_text, to_text
from ledger.model.page import EVENTS_PAGE, SESSIONS_PAGE
from ledger.model.queries import SessionQuery
from ledger.model.values import canonical, check_text, check_whole
from ledger.stores.base import EventStore

#: Keys of a line, in order; ``changes`` follows them.
ENVELOPE = (
    *("session_id", "version", "event_id", "event_type", "user_id", "actor", "occurred_at", "recorded_at"),
    *("created_at", "schema_version", "store_id", "prev_hash", "event_hash"),
)
CHANGE = ("field", "key", "removed", "value", "value_hash", "value_salt")
#: Events and bytes that go into the store at once, at least; a session's run of events is never cut.
BATCH_EVENTS, BATCH_BYTES = 5_000, 16_000_000
_LINE_KEYS = frozenset((*ENVELOPE, "changes"))
_CHANGE_KEYS = frozenset(CHANGE)


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did.

    Attributes:
        sessions: Sessions that the input holds events of.
        events: Events that the input holds.
        new: Those that were not here before.
    """

    sessions: int
    events: int
    new: int


def encode(event: RecordedEvent) -> bytes:
    """An event as one line, with its line break."""
    changes = [_change_object(change) for change in event.changes]
    line = {name: getattr(event, name) for name in ENVELOPE} | {
        "occurred_at": to_text(event.occurred_at),
        "recorded_at": to_text(event.recorded_at),
        "created_at": to_text(event.created_at),
        "changes": changes,
    }
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def decode(line: bytes | str) -> RecordedEvent:
    """The event of one line.

    Raises:
        InvalidInput, ValueTooLarge: The line is no event as ``encode`` writes it; the message says why.
    """
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"this is no JSON: {error}.") from error
    _check_keys(found, _LINE_KEYS, _LINE_KEYS, "an event")
    for name in ("session_id", "event_id", "user_id", "store_id"):
        check_text(found[name], name)
    check_event_type(found["event_type"])
    for name in ("version", "schema_version"):
        check_whole(found[name], name, at_least=1)
    if found["actor"] is not None:
        check_text(found["actor"], "actor")
    _check_hashes(found, "prev_hash", "event_hash")
    if not isinstance(found["changes"], list) or not 1 <= len(found["changes"]) <= MAX_CHANGES:
        raise InvalidInput(f"changes must be an array of 1 to {MAX_CHANGES:,}.")
    times = {name: from_text(found[name], name) for name in ("occurred_at", "recorded_at", "created_at")}
    current = found["schema_version"] == SCHEMA_VERSION
    changes = tuple(_change(change, current) for change in found["changes"])
    if len({(change.field, change.key) for change in changes}) < len(changes):
        raise InvalidInput("a slot is written twice by one event.")
    check_size(changes)
    return RecordedEvent(**{**found, **times, "changes": changes})


def export_lines(store: EventStore, session_ids: Iterable[str] | None = None) -> Iterator[bytes]:
    """Lines of the sessions named, in that order; of all sessions, newest first, where none are.

    A session's events stand together, in order. Memory stays bounded by a page of events.

    Raises:
        SessionNotFound: A session that was named does not exist.
    """
    for session_id in _all_ids(store) if session_ids is None else session_ids:
        after: str | None = "0"
        while after is not None:
            page = store.events(session_id, after=int(after), limit=EVENTS_PAGE, upcast=False)
            if not page and after == "0":
                raise SessionNotFound(f"There is no session {session_id}.", session_id=session_id)
            yield from map(encode, page)
            after = page.next


def import_lines(
    store: EventStore, lines: Iterable[bytes], *, seen: Callable[[bytes], object] = lambda line: None
) -> Imported:
    """Take over exported events; those that are here already count as done, so an import can be repeated.

    Events of a session that stand together in the input are taken whole or not at all. What stands before a line that
    is refused may be in the ledger; the same input, mended, brings in the rest.

    Args:
        lines: Lines of ``encode``; blank ones are passed over.
        seen: Called with each line as it is read, for a display of progress.

    Raises:
        InvalidInput, ValueTooLarge, CorruptEvent, UpcastMissing, IdempotencyConflict, WrongExpectedVersion: A line
            cannot be taken; the message begins with its number, and nothing of its session's run of events was written.
    """
    batch = _Batch(store)
    sessions: set[str] = set()
    count = 0
    for number, line in enumerate(lines, 1):
        seen(line)
        if not line.strip():
            continue
        try:
            event = decode(line)
        except LedgerError as error:
            batch.write(but_last_session=True)
            _name_line(error, number)
            raise
        batch.add(event, number, len(line))
        sessions.add(event.session_id)
        count += 1
    batch.write()
    return Imported(len(sessions), count, batch.new)


class _Batch:
    """Events on their way into the store, and the numbers of the lines they came from."""

    def __init__(self, store: EventStore) -> None:
        self.new = 0
        self._store = store
        self._clear()

    def _clear(self) -> None:
        self._events: list[RecordedEvent] = []
        self._numbers: dict[tuple[str, int], int] = {}
        self._bytes = 0

    def add(self, event: RecordedEvent, number: int, size: int) -> None:
        full = len(self._events) >= BATCH_EVENTS or self._bytes >= BATCH_BYTES
        if full and event.session_id != self._events[-1].session_id:
            self.write()
        self._events.append(event)
        self._numbers.setdefault((event.session_id, event.version), number)
        self._numbers.setdefault((event.session_id, 0), number)
        self._bytes += size

    def write(self, *, but_last_session: bool = False) -> None:
        """Hand the batch to the store, where wanted without the last session: it may go on in lines not yet read."""
        events = self._events
        if but_last_session and events:
            cut = events[-1].session_id
            events = [event for event in events if event.session_id != cut]
        if not events:
            return
        try:
            self.new += self._store.ingest(events)
        except LedgerError as error:
            session_id = getattr(error, "session_id", "")
            number = self._numbers.get((session_id, getattr(error, "version", 0))) or self._numbers.get((session_id, 0))
            if number is not None:
                _name_line(error, number)
            else:
                first, last = min(self._numbers.values()), max(self._numbers.values())
                error.args = (f"Lines {first} to {last}: {error}",)
            raise
        self._clear()


def _all_ids(store: EventStore) -> Iterator[str]:
    after: str | None = None
    while True:
        page = store.sessions(SessionQuery(), after=after, limit=SESSIONS_PAGE)
        yield from (head.session_id for head, _ in page)
        after = page.next
        if after is None:
            return


def _change_object(change: RecordedChange) -> dict[str, Any]:
    value = {} if change.text is None else {"value": orjson.Fragment(change.text)}
    hashes = {"value_hash": change.value_hash, "value_salt": change.value_salt}
    return {"field": change.field, "key": change.key, "removed": change.removed, **value, **hashes}


def _change(found: Any, current: bool) -> RecordedChange:
    """A change of a line; its shape is checked where it is of the present schema, older ones are the upcaster's."""
    _check_keys(found, _CHANGE_KEYS - {"value"}, _CHANGE_KEYS, "a change")
    field, key, removed = found["field"], found["key"], found["removed"]
    if not isinstance(removed, bool):
        raise InvalidInput(f"removed must be true or false, not {removed!r}.")
    _check_hashes(found, "value_hash", "value_salt")
    if removed and "value" in found:
        raise InvalidInput(f"{field} is removed and has a value as well.")
    if not removed and "value" not in found and found["value_salt"] is not None:
        raise InvalidInput(f"{field} has no value, but was not erased either: its salt is there.")
    if current:
        check_change(field, key, found.get("value"), removed or "value" not in found)
    text = canonical(found["value"], str(field)) if "value" in found else None
    return RecordedChange(field, key, text, removed, found["value_hash"], found["value_salt"])


def _check_keys(found: Any, required: frozenset[str], allowed: frozenset[str], what: str) -> None:
    if not isinstance(found, dict):
        raise InvalidInput(f"{what} must be an object, not {type(found).__name__}.")
    if missing := sorted(required - found.keys()):
        raise InvalidInput(f"{what} lacks {', '.join(missing)}. Is this an export of `ledger export`?")
    if unknown := sorted(found.keys() - allowed):
        raise InvalidInput(f"{what} has unknown keys: {', '.join(unknown)}.")


def _check_hashes(found: Mapping[str, Any], *names: str) -> None:
    for name in names:
        if found[name] is not None:
            check_text(found[name], name)


def _name_line(error: LedgerError, number: int) -> None:
    """Make an error say where in the input it lies."""
    error.args = (f"Line {number}: {error}",)
