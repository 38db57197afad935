"""The hash chain: each event has a hash that covers its own content and the hash of the event before it.

``value_hash`` is SHA-256 over a random salt and the value's canonical JSON text. Once value and salt are erased, the
hash reveals nothing. ``event_hash`` covers ``prev_hash``, the envelope, the field, key, removed and value_hash of each
change, and the idempotency key if there is one. It covers a value only by its value_hash, so the chain stays valid if
the value is erased. A changed value no longer has the recorded value_hash.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from hashlib import sha256

import orjson

from ledger.errors import CorruptEvent
from ledger.model.events import PreparedChange, RecordedChange, RecordedEvent
from ledger.model.instants import to_micros

#: A JSON string, or, as group 1, the last digit before the exponent of a number.
_POSITIVE_EXPONENT = re.compile(r'"(?:[^"\\]|\\.)*"|(\d)e\+')


def value_hash(salt: str, text: str) -> str:
    """Return the hex SHA-256 of a salt (hex text) and a value's canonical JSON text."""
    return sha256(f"{salt}{text}".encode()).hexdigest()


def event_hash(
    prev_hash: str | None,
    envelope: tuple[str, int, str, str, str, str | None, int, int, int, int],
    changes: Iterable[tuple[str, str, bool, str | None]],
    idempotency_key: str | None = None,
) -> str:
    """Return the hex SHA-256 of an event.

    Args:
        prev_hash: The hash of the session's previous event; None for the first.
        envelope: session_id, version, event_id, event_type, user_id and actor; the times occurred_at, recorded_at and
            created_at in microseconds since 1970; schema_version.
        changes: field, key, removed and value_hash of each change, in any order.
        idempotency_key: The event's idempotency key. Without one, the hash is that of earlier releases.
    """
    covered = [prev_hash, envelope, sorted(changes, key=lambda change: change[:2])]
    if idempotency_key is not None:
        covered.append(idempotency_key)
    return sha256(orjson.dumps(covered)).hexdigest()


#: A change with its hashes: field, key, text, removed, value_hash and value_salt.
Sealed = tuple[str, str, str | None, bool, str | None, str | None]


def seal(
    prev_hash: str | None,
    envelope: tuple[str, int, str, str, str, str | None, int, int, int, int],
    changes: Sequence[PreparedChange],
    salts: Sequence[str | None],
    idempotency_key: str | None = None,
) -> tuple[list[Sealed], str]:
    """Return an event's changes with their hashes, and the hash of the event.

    Args:
        prev_hash, envelope, idempotency_key: The arguments of ``event_hash`` with these names.
        changes: The event's changes.
        salts: One salt per change, None for a removal.
    """
    sealed = [
        (*change, None if salt is None else value_hash(salt, change.text or ""), salt)
        for change, salt in zip(changes, salts, strict=True)
    ]
    digests = [(field, key, removed, digest) for field, key, _, removed, digest, _ in sealed]
    return sealed, event_hash(prev_hash, envelope, digests, idempotency_key)


def chained(event: RecordedEvent, prev_hash: str | None, salts: Sequence[str | None]) -> RecordedEvent:
    """Return a copy of an event with its hashes filled in.

    Args:
        event: An event without hashes.
        prev_hash, salts: The arguments of ``seal`` with these names.
    """
    changes = [PreparedChange(change.field, change.key, change.text, change.removed) for change in event.changes]
    sealed, hashed = seal(prev_hash, _envelope_of(event), changes, salts, event.idempotency_key)
    recorded = tuple(RecordedChange(*change) for change in sealed)
    return replace(event, changes=recorded, prev_hash=prev_hash, event_hash=hashed)


def verify(events: Iterable[RecordedEvent], prev_hash: str | None = None) -> int:
    """Verify consecutive events of one session against their hashes.

    Args:
        events: Events as recorded, not upcast, in order. Events without an event_hash (appended directly to a
            warehouse) are skipped.
        prev_hash: The hash of the event before the first; None at the start of a session.

    Returns:
        The number of events verified.

    Raises:
        CorruptEvent: A value, an envelope or the order differs from what was recorded. The error names the session
            and the version.
    """
    checked = 0
    for event in events:
        if event.event_hash is None:
            continue
        _verify_values(event)
        changes = [(change.field, change.key, change.removed, change.value_hash) for change in event.changes]
        hashed = event_hash(prev_hash, _envelope_of(event), changes, event.idempotency_key)
        if event.prev_hash != prev_hash or hashed != event.event_hash:
            raise _corrupt(event, "the event or its position in the chain is not what was recorded")
        prev_hash = event.event_hash
        checked += 1
    return checked


def respelled(event: RecordedEvent) -> RecordedEvent:
    """Return an event whose numbers are written as they were when the event was hashed.

    Older releases of this package recorded 1e16. A warehouse that decodes and encodes the JSON returns it as 1e+16. The
    value's hash shows which of the two was recorded.
    """
    if not any(change.text is not None and "e+" in change.text for change in event.changes):
        return event
    return replace(event, changes=tuple(_respelled(change) for change in event.changes))


def _respelled(change: RecordedChange) -> RecordedChange:
    text, salt = change.text, change.value_salt
    if text is None or salt is None or change.value_hash in (None, value_hash(salt, text)):
        return change
    older = _POSITIVE_EXPONENT.sub(lambda found: found[0] if found[1] is None else f"{found[1]}e", text)
    return replace(change, text=older) if value_hash(salt, older) == change.value_hash else change


def _envelope_of(event: RecordedEvent) -> tuple[str, int, str, str, str, str | None, int, int, int, int]:
    return (
        *(event.session_id, event.version, event.event_id, event.event_type, event.user_id, event.actor),
        *(to_micros(event.occurred_at), to_micros(event.recorded_at), to_micros(event.created_at)),
        event.schema_version,
    )


def _verify_values(event: RecordedEvent) -> None:
    for change in event.changes:
        if change.erased or change.removed:
            if change.text is not None:
                raise _corrupt(event, f"{change.field} {change.key!r} was removed or erased and has a value")
            continue
        if change.text is None or change.value_hash is None or change.value_salt is None:
            raise _corrupt(event, f"{change.field} {change.key!r} has lost its value or hash")
        if value_hash(change.value_salt, change.text) != change.value_hash:
            raise _corrupt(event, f"the value of {change.field} {change.key!r} is not what was recorded")


def _corrupt(event: RecordedEvent, reason: str) -> CorruptEvent:
    return CorruptEvent(
        f"Session {event.session_id}, version {event.version}: {reason}. Restore from a backup or the warehouse.",
        session_id=event.session_id,
        version=event.version,
    )
