"""Export and import of a ledger's events as JSON Lines: each event is one line of text.

A line is a JSON object with the keys of ``ENVELOPE`` and then ``changes``, an array of objects with the keys of
``CHANGE``. A change has no ``value`` if it removes its register (then ``removed`` is true) or if its value was erased.
Times are RFC 3339 in UTC with six decimals. A new ledger that imports an export exports the same bytes. The import
checks the hash chain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from ledger.errors import CorruptEvent, InvalidInput, LedgerError, SessionNotFound
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
from ledger.model.page import EVENTS_PAGE, SESSIONS_PAGE, every_item
from ledger.model.queries import SessionQuery
from ledger.model.values import canonical, check_text, check_whole
from ledger.stores.base import EventStore

#: Keys of a line, in order, without the last key, which is ``changes``.
ENVELOPE = (
    *("session_id", "version", "event_id", "event_type", "user_id", "actor", "occurred_at", "recorded_at"),
    *("created_at", "schema_version", "store_id", "prev_hash", "event_hash"),
)
CHANGE = ("field", "key", "removed", "value", "value_hash", "value_salt")
#: A batch is written once it has this many events or bytes. It never ends between consecutive events of a session.
BATCH_EVENTS, BATCH_BYTES = 5_000, 16_000_000
_LINE_KEYS = frozenset((*ENVELOPE, "changes"))
_CHANGE_KEYS = frozenset(CHANGE)


@dataclass(frozen=True, slots=True)
class Imported:
    """The result of an import.

    Attributes:
        sessions: Sessions in the input.
        events: Events in the input.
        new: Events that were not recorded before.
    """

    sessions: int
    events: int
    new: int


def encode(event: RecordedEvent) -> bytes:
    """Return an event as one line, including the line break."""
    changes = [_change_object(change) for change in event.changes]
    line = {name: getattr(event, name) for name in ENVELOPE} | {
        "occurred_at": to_text(event.occurred_at),
        "recorded_at": to_text(event.recorded_at),
        "created_at": to_text(event.created_at),
        "changes": changes,
    }
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def decode(line: bytes | str) -> RecordedEvent:
    """Return the event of one line.

    Raises:
        InvalidInput, ValueTooLarge: The line is not one that ``encode`` writes; the message gives the reason.
    """
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"invalid JSON: {error}.") from error
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
        raise InvalidInput(f"changes must be an array of 1 to {MAX_CHANGES:,} items.")
    times = {name: from_text(found[name], name) for name in ("occurred_at", "recorded_at", "created_at")}
    current = found["schema_version"] == SCHEMA_VERSION
    changes = tuple(_change(change, current) for change in found["changes"])
    if len({(change.field, change.key) for change in changes}) < len(changes):
        raise InvalidInput("two changes of the event have the same field and key.")
    check_size(changes)
    return RecordedEvent(**{**found, **times, "changes": changes})


def export_lines(store: EventStore, session_ids: Iterable[str] | None = None) -> Iterator[bytes]:
    """Yield the lines of the given sessions in the given order; by default, of all sessions, newest first.

    The events of a session are consecutive and in order. Only one page of events is in memory at a time.

    Raises:
        SessionNotFound: A given session does not exist.
    """
    for session_id in _all_ids(store) if session_ids is None else session_ids:
        after: str | None = "0"
        while after is not None:
            page = store.events(session_id, after=int(after), limit=EVENTS_PAGE, upcast=False)
            if not page and after == "0":
                raise SessionNotFound(
                    f"There is no session {session_id}. List the sessions with: ledger list", session_id=session_id
                )
            yield from map(encode, page)
            after = page.next


def import_lines(
    store: EventStore,
    lines: Iterable[bytes],
    *,
    unchained: bool = False,
    seen: Callable[[bytes], object] = lambda line: None,
) -> Imported:
    """Import exported events. Events that are recorded already are skipped, so an import can be repeated.

    Consecutive events of one session are imported together or not at all. If a line is refused, lines before it may be
    imported; importing the corrected input again completes the import.

    Args:
        lines: Lines that ``encode`` returned; blank lines are skipped.
        unchained: True to accept events without hashes, as a ledger in BigQuery exports them. If False, a store with
            hash chains refuses such events, because somebody may have removed the hashes to hide a change.
        seen: Called with each line as it is read, to display progress.

    Raises:
        InvalidInput, ValueTooLarge, CorruptEvent, UpcastMissing, IdempotencyConflict, WrongExpectedVersion: A line
            cannot be imported. The message begins with the line's number. The lines of the same session
            directly before and after the line are not imported either.
    """
    batch = _Batch(store)
    must_be_chained = store.capabilities.hash_chain and not unchained
    sessions: set[str] = set()
    count = 0
    for number, line in enumerate(lines, 1):
        seen(line)
        if not line.strip():
            continue
        try:
            event = decode(line)
            if event.event_hash is None and must_be_chained:
                raise CorruptEvent(
                    f"Session {event.session_id}, version {event.version} has no hash, so nobody can tell if it was "
                    "changed. If it comes from a ledger in BigQuery, which keeps no hashes, accept it with unchained "
                    "(`ledger import --unchained`).",
                    session_id=event.session_id,
                    version=event.version,
                )
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
    """Events to write in one call of the store, with their line numbers."""

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
        """Write the batch. If ``but_last_session``, leave out the last session, which may be incomplete."""
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
    listed = every_item(lambda after: store.sessions(SessionQuery(), after=after, limit=SESSIONS_PAGE))
    return (head.session_id for head, _ in listed)


def _change_object(change: RecordedChange) -> dict[str, Any]:
    value = {} if change.text is None else {"value": orjson.Fragment(change.text)}
    hashes = {"value_hash": change.value_hash, "value_salt": change.value_salt}
    return {"field": change.field, "key": change.key, "removed": change.removed, **value, **hashes}


def _change(found: Any, current: bool) -> RecordedChange:
    """Return the change that an object of a line describes.

    Args:
        found: The object.
        current: True if the event has the current schema version. Only then is the value checked here; the upcaster
            checks older values.
    """
    _check_keys(found, _CHANGE_KEYS - {"value"}, _CHANGE_KEYS, "a change")
    field, key, removed = found["field"], found["key"], found["removed"]
    if not isinstance(removed, bool):
        raise InvalidInput(f"removed must be true or false, not {removed!r}.")
    _check_hashes(found, "value_hash", "value_salt")
    if removed and "value" in found:
        raise InvalidInput(f"{field} is removed but has a value.")
    if not removed and "value" not in found and found["value_salt"] is not None:
        raise InvalidInput(f"{field} has no value but has a salt; an erased value has no salt.")
    if current:
        check_change(field, key, found.get("value"), removed or "value" not in found)
    text = canonical(found["value"], str(field)) if "value" in found else None
    return RecordedChange(field, key, text, removed, found["value_hash"], found["value_salt"])


def _check_keys(found: Any, required: frozenset[str], allowed: frozenset[str], what: str) -> None:
    if not isinstance(found, dict):
        raise InvalidInput(f"{what} must be an object, not {type(found).__name__}.")
    if missing := sorted(required - found.keys()):
        raise InvalidInput(f"{what} lacks {', '.join(missing)}. Was the file written by `ledger export`?")
    if unknown := sorted(found.keys() - allowed):
        raise InvalidInput(f"{what} has unknown keys: {', '.join(unknown)}.")


def _check_hashes(found: Mapping[str, Any], *names: str) -> None:
    for name in names:
        if found[name] is not None:
            check_text(found[name], name)


def _name_line(error: LedgerError, number: int) -> None:
    """Add a line number to the start of an error's message."""
    error.args = (f"Line {number}: {error}",)
