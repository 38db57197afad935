"""What every store checks before it writes, whatever it writes to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from ledger.errors import IdempotencyConflict, InvalidInput, SessionNotFound, WrongExpectedVersion
from ledger.model.events import ANY_VERSION, MAX_CHANGES, PreparedEvent, RecordedEvent
from ledger.model.ids import check_created_at, created_at_of
from ledger.model.integrity import verify
from ledger.model.values import check_text, check_whole

#: What an event wrote: field, key, text and removed of each change; changes have no order.
Content = set[tuple[str, str, str | None, bool]]
#: The hashes of what it wrote: field, key and value_hash of each change.
ValueHashes = set[tuple[str, str, str | None]]


class StreamHead(NamedTuple):
    """Where a session stands, as far as others' events must fit it."""

    user_id: str
    created_at: datetime
    version: int
    event_hash: str | None


class IngestPlan(NamedTuple):
    """Events of one session that were recorded elsewhere and are new here, checked; at least one, in order.

    Attributes:
        event_hash: The last hash of the session's chain with them; None where there is none.
        updated_at: When the last of them was recorded.
    """

    events: list[RecordedEvent]
    event_hash: str | None
    updated_at: datetime


class FoundEvent(Protocol):
    """What a store has of an event that is recorded: its rows, or less where those are in a warehouse alone."""

    @property
    def version(self) -> int:
        """Of the event."""
        ...

    def says(self, event_type: str, content: Content, hashes: ValueHashes | None) -> bool:
        """Return whether the event is of this type and content, and has these hashes, if any are given and known."""
        ...


class EventInRows(NamedTuple):
    """A recorded event whose rows are there; see ``FoundEvent``."""

    version: int
    event_type: str
    content: Content
    hashes: ValueHashes

    @classmethod
    def of(cls, event: RecordedEvent) -> EventInRows:
        """Return the same of an event that was read."""
        return cls(event.version, event.event_type, content_of(event), _hashes_of(event))

    def says(self, event_type: str, content: Content, hashes: ValueHashes | None) -> bool:
        """Return whether the event is of this type and content, and has these hashes, if any are given."""
        return (self.event_type, self.content) == (event_type, content) and hashes in (None, self.hashes)


def content_of(event: PreparedEvent | RecordedEvent) -> Content:
    """Return what an event writes."""
    return {(change.field, change.key, change.text, change.removed) for change in event.changes}


def _hashes_of(event: RecordedEvent) -> ValueHashes:
    return {(change.field, change.key, change.value_hash) for change in event.changes}


def check_same(session_id: str, event: PreparedEvent | RecordedEvent, found: FoundEvent) -> None:
    """Raise IdempotencyConflict unless an event is the one that is recorded under its event_id.

    Args:
        event: One that is appended is the same if its type and content are; one that was recorded elsewhere must have
            the same version and hashes as well.
        found: What is recorded.
    """
    hashes = _hashes_of(event) if isinstance(event, RecordedEvent) else None
    elsewhere = isinstance(event, RecordedEvent) and event.version != found.version
    if elsewhere or not found.says(event.event_type, content_of(event), hashes):
        raise conflict(session_id, event.event_id)


def check_expected(session_id: str, version: int, owner: str | None, event: PreparedEvent, expected: int) -> str:
    """The session's owner, once an event is known to fit where the session stands.

    Args:
        version: Of the session's last event; 0 where there is no such session.
        owner: None where there is no such session.

    Raises:
        WrongExpectedVersion, SessionNotFound, InvalidInput: It does not fit.
    """
    if check_whole(expected, "expected_version", at_least=ANY_VERSION) not in (ANY_VERSION, version):
        raise wrong_version(session_id, expected, version)
    named = event.user_id if owner is None else owner
    if named is None:
        raise SessionNotFound(
            f"There is no session {session_id}; nothing was written. Begin it with create_session().",
            session_id=session_id,
        )
    if event.user_id not in (None, named):
        raise InvalidInput(f"Session {session_id} has another owner; user_id never changes.")
    return named


def check_owner(session_id: str, owner: str, event: PreparedEvent) -> None:
    """Raise IdempotencyConflict where an event that is recorded already was to begin somebody else's session."""
    if event.user_id not in (None, owner):
        raise conflict(session_id, event.event_id)


def by_session(events: Sequence[RecordedEvent]) -> dict[str, list[RecordedEvent]]:
    """Events by session, each once, in order.

    Raises:
        IdempotencyConflict: Two of them have one event_id and are not the same.
    """
    sessions: dict[str, dict[str, RecordedEvent]] = {}
    for event in events:
        if not isinstance(event, RecordedEvent):
            raise InvalidInput(f"Events to bring in must be RecordedEvent, not {type(event).__name__}.")
        known = sessions.setdefault(event.session_id, {}).setdefault(event.event_id, event)
        if known != event:
            raise conflict(event.session_id, event.event_id)
    return {
        session_id: sorted(found.values(), key=lambda event: event.position) for session_id, found in sessions.items()
    }


def plan_ingest(
    events: Sequence[RecordedEvent],
    standing: StreamHead | None,
    is_recorded: Callable[[RecordedEvent], bool],
    now: datetime,
) -> IngestPlan | None:
    """What of a session's events is new, once all of them are known to fit; None where nothing is.

    Args:
        events: Of one session, each once, in order.
        standing: Where the session stands here; None where it is not here.
        is_recorded: Whether an event is here already; raises IdempotencyConflict where it is here with other content.

    Raises:
        WrongExpectedVersion, InvalidInput, CorruptEvent, IdempotencyConflict: They do not fit.
    """
    new = [event for event in events if standing is None or not is_recorded(event)]
    if not new:
        return None
    first, last = new[0], new[-1]
    version, prev_hash = (0, None) if standing is None else (standing.version, standing.event_hash)
    if first.version <= version:
        raise WrongExpectedVersion(
            f"Session {first.session_id} has version {version} here, and another event {first.version} in what is "
            "brought in: it went on in two places. Nothing was written; bring it in under another id.",
            session_id=first.session_id,
            expected=first.version - 1,
            actual=version,
        )
    check_created_at(first.created_at, now)
    _check_fixed(new, (last.user_id, last.created_at) if standing is None else standing[:2])
    verify(new, prev_hash)
    # Events without a hash (from a store that keeps no chain) are passed over: the next one follows the last hash.
    chained = next((event.event_hash for event in reversed(new) if event.event_hash is not None), prev_hash)
    return IngestPlan(new, chained, max(event.recorded_at for event in new))


def wrong_version(session_id: str, expected: int, actual: int) -> WrongExpectedVersion:
    """Return the error of an append that expected another version than the session has."""
    return WrongExpectedVersion(
        f"Session {session_id} is at version {actual}, not {expected}; nothing was written. Read it again and decide "
        "anew.",
        session_id=session_id,
        expected=expected,
        actual=actual,
    )


def conflict(session_id: str, event_id: str) -> IdempotencyConflict:
    """The error for an event_id that stands for something else already."""
    return IdempotencyConflict(
        f"Session {session_id} has an event {event_id} already, with other content; nothing was written. "
        "Use a new event_id for a new event.",
        session_id=session_id,
        event_id=event_id,
    )


def _check_fixed(events: Sequence[RecordedEvent], fixed: tuple[str, datetime]) -> None:
    """Raise InvalidInput where events are not of one owner and creation time, or would not fit one append."""
    for event in events:
        where = f"Session {event.session_id}, version {event.version}"
        check_whole(event.version, "version", at_least=1)
        check_whole(event.schema_version, "schema_version", at_least=1)
        for name in ("event_id", "user_id", "store_id"):
            check_text(getattr(event, name), name)
        if (event.user_id, event.created_at) != fixed:
            raise InvalidInput(f"{where} has another owner or created_at than its session; they never change.")
        if created_at_of(event.session_id) not in (None, event.created_at):
            raise InvalidInput(f"{where} has a created_at that is not the time inside the session's id.")
        if not 1 <= len(event.changes) <= MAX_CHANGES:
            raise InvalidInput(f"{where} holds {len(event.changes):,} changes; an event holds 1 to {MAX_CHANGES:,}.")
