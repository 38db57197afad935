"""Export and import of a ledger's events as JSON Lines: each event is one line of text.

A line is a JSON object with the keys of ``ENVELOPE`` and then ``changes``, an array of objects with the keys of
``CHANGE``. It has no ``idempotency_key`` if the event has none, as in every line of earlier releases. A change has no
``value`` if it removes its register (then ``removed`` is true) or if its value was erased.
Times are RFC 3339 in UTC with six decimals. A new ledger that imports an export exports the same bytes. The import
checks the hash chain.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from ledger.errors import CorruptEvent, InvalidInput, LedgerError, SessionNotFound
from ledger.formats.batches import Batch
from ledger.formats.lines import Record, items, records
from ledger.formats.recognition import hint, text_hint
from ledger.formats.refusals import Refuse, end_import
from ledger.model.events import (
    MAX_CHANGES,
    SCHEMA_VERSION,
    RecordedChange,
    RecordedEvent,
    check_event_type,
    check_size,
)
from ledger.model.fields import check_change
from ledger.model.ids import check_idempotency_key
from ledger.model.instants import from_text, to_text
from ledger.model.page import EVENTS_PAGE, SESSIONS_PAGE, every_item
from ledger.model.queries import SessionQuery
from ledger.model.values import canonical, check_text, check_whole
from ledger.stores.base import EventStore

#: Keys of a line, in order, without the last key, which is ``changes``.
ENVELOPE = (
    *("session_id", "version", "event_id", "event_type", "user_id", "actor", "occurred_at", "recorded_at"),
    *("created_at", "schema_version", "store_id", "prev_hash", "event_hash", "idempotency_key"),
)
CHANGE = ("field", "key", "removed", "value", "value_hash", "value_salt")
#: Keys of a line that are times.
TIMES = ("occurred_at", "recorded_at", "created_at")
_LINE_KEYS = frozenset((*ENVELOPE, "changes"))
_CHANGE_KEYS = frozenset(CHANGE)
_SESSION_ID = re.compile(rb'"session_id": ?("(?:[^"\\]|\\.)*")')


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
    if event.idempotency_key is None:  # an earlier release can import the line
        del line["idempotency_key"]
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def decode(line: bytes | str) -> RecordedEvent:
    """Return the event of one line.

    Raises:
        InvalidInput, ValueTooLarge: The line is not one that ``encode`` writes; the message gives the reason.
    """
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        seems = text_hint(line if isinstance(line, bytes) else line.encode(errors="replace"), "events")
        raise InvalidInput(f"invalid JSON: {error}.{seems}") from error
    try:
        _check_keys(found, _LINE_KEYS - {"idempotency_key"}, _LINE_KEYS, "an event")
    except InvalidInput as error:
        raise InvalidInput(f"{error}{hint(found, 'events')}") from None
    times = {name: from_text(found[name], name) for name in TIMES}
    return event_of({**found, **times})


def event_of(found: Mapping[str, Any]) -> RecordedEvent:
    """Return the event of an object with the keys of a line, in which the times are datetimes already.

    Raises:
        InvalidInput, ValueTooLarge: No store would record such an event; the message gives the reason.
    """
    for name in ("session_id", "event_id", "user_id", "store_id"):
        check_text(found[name], name)
    check_event_type(found["event_type"])
    for name in ("version", "schema_version"):
        check_whole(found[name], name, at_least=1)
    if found["actor"] is not None:
        check_text(found["actor"], "actor")
    if found.get("idempotency_key") is not None:
        check_idempotency_key(found["idempotency_key"])
    _check_hashes(found, "prev_hash", "event_hash")
    if not isinstance(found["changes"], list) or not 1 <= len(found["changes"]) <= MAX_CHANGES:
        raise InvalidInput(f"changes must be an array of 1 to {MAX_CHANGES:,} items.")
    current = found["schema_version"] == SCHEMA_VERSION
    changes = tuple(_change(change, current) for change in found["changes"])
    if len({(change.field, change.key) for change in changes}) < len(changes):
        raise InvalidInput("two changes of the event have the same field and key.")
    check_size(changes, idempotency_key=found.get("idempotency_key"))
    return RecordedEvent(**{**found, "changes": changes})


def export_lines(
    store: EventStore, session_ids: Iterable[str] | None = None, *, query: SessionQuery | None = None
) -> Iterator[bytes]:
    """Yield the lines of the events of ``exported_events``.

    Raises:
        SessionNotFound: A given session does not exist.
    """
    return map(encode, exported_events(store, session_ids, query=query))


def exported_events(
    store: EventStore, session_ids: Iterable[str] | None = None, *, query: SessionQuery | None = None
) -> Iterator[RecordedEvent]:
    """Yield the events of the given sessions in the given order; by default, of all sessions, newest first.

    The events of a session are consecutive and in order. Only one page of events is in memory at a time.

    Args:
        store: The store.
        session_ids: The sessions.
        query: Criteria of the sessions, if they are not given.

    Raises:
        SessionNotFound: A given session does not exist.
    """
    for session_id in _ids(store, query or SessionQuery()) if session_ids is None else session_ids:
        after: str | None = "0"
        while after is not None:
            page = store.events(session_id, after=int(after), limit=EVENTS_PAGE, upcast=False)
            if not page and after == "0":
                raise SessionNotFound(
                    f"There is no session {session_id}. List the sessions with: ledger list", session_id=session_id
                )
            yield from page
            after = page.next


def import_lines(
    store: EventStore,
    lines: Iterable[bytes],
    *,
    unchained: bool = False,
    seen: Callable[[bytes], object] = lambda line: None,
    refuse: Refuse = end_import,
) -> Imported:
    """Import exported events. Events that are recorded already are skipped, so an import can be repeated.

    Consecutive events of one session are imported together or not at all. If a line is refused, lines before it may be
    imported; importing the corrected input again completes the import.

    Args:
        lines: Lines that ``encode`` returned; blank lines are skipped. Indented JSON and arrays are accepted too.
        unchained: True to accept events without hashes, as a ledger in BigQuery exports them. If False, a store with
            hash chains refuses such events, because somebody may have removed the hashes to hide a change.
        seen: Called with each line as it is read, to display progress.
        refuse: Called with the error of a line that cannot be imported. By default, it raises the error. If it returns,
            the session of the line is left out, and the import goes on.

    Raises:
        InvalidInput, ValueTooLarge, CorruptEvent, UpcastMissing, IdempotencyConflict, WrongExpectedVersion: A line
            cannot be imported. The message begins with the line's number. The lines of the same session
            directly before and after the line are not imported either.
    """
    batch = Batch(store, refuse)
    for record in _records(lines, seen, refuse):
        try:
            event = decode(record.text)
            check_chained(event, store, unchained)
        except LedgerError as error:
            batch.leave_out(error, record.place, _session_named_in(record.text))
        else:
            batch.add(event, record.place, len(record.text))
    batch.write()
    return Imported(len(batch.sessions), batch.events, batch.new)


def check_chained(event: RecordedEvent, store: EventStore, unchained: bool) -> None:
    """Raise CorruptEvent if an event to import has no hash, the store has hash chains, and ``unchained`` is False."""
    if event.event_hash is None and store.capabilities.hash_chain and not unchained:
        raise CorruptEvent(
            f"Session {event.session_id}, version {event.version} has no hash, so nobody can tell if it was "
            "changed. If it comes from a ledger in BigQuery, which keeps no hashes, accept it with unchained "
            "(`ledger import --unchained`).",
            session_id=event.session_id,
            version=event.version,
        )


def _records(lines: Iterable[bytes], seen: Callable[[bytes], object], refuse: Refuse) -> Iterator[Record]:
    for record in records(lines, seen=seen, refuse=refuse):
        yield from items(record)


def _session_named_in(text: bytes) -> str | None:
    """Return the session id in the text of a line, which may be damaged; None if there is none."""
    found = _SESSION_ID.search(text)
    try:
        named = orjson.loads(found.group(1)) if found else None
    except orjson.JSONDecodeError:
        return None
    return named if isinstance(named, str) else None


def _ids(store: EventStore, query: SessionQuery) -> Iterator[str]:
    listed = every_item(lambda after: store.sessions(query, after=after, limit=SESSIONS_PAGE))
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
