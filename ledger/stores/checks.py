"""Checks that every store makes before it writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from ledger.errors import CorruptEvent, IdempotencyConflict, InvalidInput, SessionNotFound, WrongExpectedVersion
from ledger.model.events import ANY_VERSION, LAST_VERSION, MAX_CHANGES, PreparedEvent, RecordedEvent
from ledger.model.ids import check_created_at, check_idempotency_key, created_at_of
from ledger.model.integrity import respelled, verify
from ledger.model.values import check_text, check_whole, full_name

#: An event's content: the field, key, text and ``removed`` of each change. The order of changes does not count.
Content = set[tuple[str, str, str | None, bool]]
#: An event's value hashes: the field, key and ``value_hash`` of each change.
ValueHashes = set[tuple[str, str, str | None]]


class StreamHead(NamedTuple):
    """The part of a session's head that ingested events are checked against."""

    user_id: str
    created_at: datetime
    version: int
    event_hash: str | None


class IngestPlan(NamedTuple):
    """The events to add to one session. They have been checked and are new to the store.

    Attributes:
        events: The new events, in order; at least one.
        event_hash: The last hash of the session's hash chain once the events are added; None if there is no chain.
        updated_at: The latest ``recorded_at`` of the new events.
    """

    events: list[RecordedEvent]
    event_hash: str | None
    updated_at: datetime


class FoundEvent(Protocol):
    """A recorded event as the store has it: its rows, or its tombstone if the rows were dropped."""

    @property
    def version(self) -> int:
        """The event's version."""
        ...

    def says(self, event_type: str, content: Content, hashes: ValueHashes | None) -> bool:
        """Return True if the event has this type, content and hashes.

        Hashes are compared only if ``hashes`` is not None and the store still has the event's hashes.
        """
        ...


class EventInRows(NamedTuple):
    """A recorded event whose rows the store has; see ``FoundEvent``."""

    version: int
    event_type: str
    content: Content
    hashes: ValueHashes

    @classmethod
    def of(cls, event: RecordedEvent) -> EventInRows:
        """Return the ``EventInRows`` of an event that was read from the store."""
        return cls(event.version, event.event_type, content_of(event), _hashes_of(event))

    def says(self, event_type: str, content: Content, hashes: ValueHashes | None) -> bool:
        """Return True if the event has this type and content, and also these hashes if they are not None."""
        return (self.event_type, self.content) == (event_type, content) and hashes in (None, self.hashes)


def content_of(event: PreparedEvent | RecordedEvent) -> Content:
    """Return the (field, key, JSON text, removed) of each change of an event."""
    return {(change.field, change.key, change.text, change.removed) for change in event.changes}


def _hashes_of(event: RecordedEvent) -> ValueHashes:
    return {(change.field, change.key, change.value_hash) for change in event.changes}


def check_same(session_id: str, event: PreparedEvent | RecordedEvent, recorded: FoundEvent) -> None:
    """Raise IdempotencyConflict unless an event equals the one recorded under its event_id.

    Args:
        session_id: The session.
        event: The event to append or to ingest. Its type and content are compared. An event to ingest is a
            ``RecordedEvent``: its version and hashes are compared too.
        recorded: The event in the store with the same event_id.
    """
    hashes = _hashes_of(event) if isinstance(event, RecordedEvent) else None
    other_version = isinstance(event, RecordedEvent) and event.version != recorded.version
    if other_version or not recorded.says(event.event_type, content_of(event), hashes):
        raise conflict(session_id, event)


def check_expected(session_id: str, version: int, owner: str | None, event: PreparedEvent, expected: int) -> str:
    """Validate the expected version and the owner of an append; return the session's owner.

    Args:
        session_id: The session.
        version: The version of its last event; 0 if the session does not exist.
        owner: Its owner; None if the session does not exist.
        event: The event to append.
        expected: The expected version, or ``ANY_VERSION``.

    Raises:
        WrongExpectedVersion, SessionNotFound, InvalidInput: The event cannot be appended.
    """
    if check_whole(expected, "expected_version", at_least=ANY_VERSION) not in (ANY_VERSION, version):
        creates = event.user_id is not None and expected == 0
        raise existing(session_id, version) if creates else wrong_version(session_id, expected, version)
    if version >= LAST_VERSION:
        raise InvalidInput(
            f"Session {session_id} is at version {version}, the last that can be stored; nothing was written. It was "
            "imported with this version: fork it to go on."
        )
    named = event.user_id if owner is None else owner
    if named is None:
        raise SessionNotFound(
            f"There is no session {session_id}; nothing was written. Create it with create_session().",
            session_id=session_id,
        )
    if event.user_id not in (None, named):
        raise InvalidInput(f"Session {session_id} has another owner; user_id never changes.")
    return named


def check_owner(session_id: str, owner: str, event: PreparedEvent) -> None:
    """Raise IdempotencyConflict if a repeated append names an owner who is not the session's owner."""
    if event.user_id not in (None, owner):
        raise conflict(session_id, event)


def by_session(events: Sequence[RecordedEvent]) -> dict[str, list[RecordedEvent]]:
    """Group events by session_id. The events of each session are in order, without repetitions.

    Raises:
        InvalidInput: An item is not a ``RecordedEvent``.
        IdempotencyConflict: Two different events have the same event_id.
    """
    sessions: dict[str, dict[str, RecordedEvent]] = {}
    for event in events:
        if not isinstance(event, RecordedEvent):
            raise InvalidInput(f"Events to ingest must be RecordedEvent, not {full_name(event)}.")
        hashed = respelled(event)
        first = sessions.setdefault(event.session_id, {}).setdefault(event.event_id, hashed)
        if first != hashed:
            raise conflict(event.session_id, event)
    return {
        session_id: sorted(events_by_id.values(), key=lambda event: event.position)
        for session_id, events_by_id in sessions.items()
    }


def plan_ingest(
    events: Sequence[RecordedEvent],
    head: StreamHead | None,
    is_recorded: Callable[[RecordedEvent], bool],
    now: datetime,
    *,
    own_store_id: str | None = None,
) -> IngestPlan | None:
    """Check that events can be added to a session; return those that are new, or None if there are none.

    Args:
        events: The events of one session, each once, in order.
        head: The session's head in this store; None if the session does not exist.
        is_recorded: Function that returns True if the store has an event with the same id and content. It raises
            IdempotencyConflict if the store has one with the same id and other content.
        now: The time of the call.
        own_store_id: The id of the store, if its own events carry a hash chain; else None.

    Raises:
        WrongExpectedVersion, InvalidInput, CorruptEvent, IdempotencyConflict: The events cannot be added.
    """
    new = [event for event in events if head is None or not is_recorded(event)]
    if not new:
        return None
    first, last = new[0], new[-1]
    version, prev_hash = (0, None) if head is None else (head.version, head.event_hash)
    if first.version <= version:
        raise WrongExpectedVersion(
            f"Session {first.session_id} is at version {version} here, and the events to ingest have another version "
            f"{first.version}: the session has diverged. Nothing was written; ingest it under another id.",
            session_id=first.session_id,
            expected=first.version - 1,
            actual=version,
        )
    check_created_at(first.created_at, now)
    _check_fixed(new, (last.user_id, last.created_at) if head is None else head[:2])
    _check_chained(new, version, own_store_id)
    verify(new, prev_hash)
    # Events without a hash (from a store that keeps no chain) are skipped: the next one follows the last hash.
    chained = next((event.event_hash for event in reversed(new) if event.event_hash is not None), prev_hash)
    return IngestPlan(new, chained, max(event.recorded_at for event in new))


def _check_chained(events: Sequence[RecordedEvent], version: int, own_store_id: str | None) -> None:
    """Raise CorruptEvent if events have lost their hashes, or if versions are missing before an event with a hash.

    Within one store, either all events have hashes or none has.
    """
    chained = {event.store_id for event in events if event.event_hash is not None} | {own_store_id}
    for event in events:
        reason = None
        if event.event_hash is None and event.store_id in chained:
            reason = f"the event has no hash, and other events of the store {event.store_id} have one"
        elif event.event_hash is not None and event.version != version + 1:
            reason = f"the event follows version {version}, so versions are missing or repeated"
        if reason is not None:
            raise CorruptEvent(
                f"Session {event.session_id}, version {event.version}: {reason}; nothing was written. Take the events "
                "from where they were recorded.",
                session_id=event.session_id,
                version=event.version,
            )
        version = event.version


def wrong_version(session_id: str, expected: int, actual: int) -> WrongExpectedVersion:
    """Return the error for an append that expected another version than the session has; 0 for no session."""
    return WrongExpectedVersion(
        f"Session {session_id} is at version {actual}, not {expected}; nothing was written. Read it again and decide "
        "what to write.",
        session_id=session_id,
        expected=expected,
        actual=actual,
    )


def existing(session_id: str, actual: int) -> WrongExpectedVersion:
    """Return the error for the creation of a session that exists, at version ``actual``."""
    return WrongExpectedVersion(
        f"Session {session_id} exists already, at version {actual}; nothing was written. Choose another id, or append "
        "to this session.",
        session_id=session_id,
        expected=0,
        actual=actual,
    )


def conflict(session_id: str, event: PreparedEvent | RecordedEvent) -> IdempotencyConflict:
    """Return the error for an event whose event_id is recorded with other content."""
    key = event.idempotency_key if isinstance(event, PreparedEvent) else None
    return conflicting(session_id, event.event_id, key)


def conflicting(session_id: str, event_id: str, key: str | None) -> IdempotencyConflict:
    """Return the error for an event_id that is recorded with other content.

    ``key`` is the idempotency key that the caller gave, if it differs from the event_id.
    """
    named = event_id if key is None else f"{key!r} (event {event_id})"
    return IdempotencyConflict(
        f"Session {session_id} has an event {named} already, with other content; nothing was written. "
        "Use a new event_id for a new event.",
        session_id=session_id,
        event_id=event_id,
        idempotency_key=key or event_id,
    )


def _check_fixed(events: Sequence[RecordedEvent], fixed: tuple[str, datetime]) -> None:
    """Raise InvalidInput if an event is malformed or does not repeat the session's owner and creation time.

    Args:
        events: The events of the session.
        fixed: The session's owner and creation time.
    """
    for event in events:
        label = f"Session {event.session_id}, version {event.version}"
        check_whole(event.version, "version", at_least=1)
        check_whole(event.schema_version, "schema_version", at_least=1)
        for name in ("event_id", "user_id", "store_id"):
            check_text(getattr(event, name), name)
        if event.idempotency_key is not None:
            check_idempotency_key(event.idempotency_key)
        if (event.user_id, event.created_at) != fixed:
            raise InvalidInput(f"{label} has another owner or created_at than its session; they never change.")
        if created_at_of(event.session_id) not in (None, event.created_at):
            raise InvalidInput(f"{label} has a created_at that is not the time inside the session's id.")
        if not 1 <= len(event.changes) <= MAX_CHANGES:
            raise InvalidInput(f"{label} holds {len(event.changes):,} changes; an event holds 1 to {MAX_CHANGES:,}.")
