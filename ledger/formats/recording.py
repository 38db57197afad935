"""Recording of imported sessions. Only the events that the store does not have yet are recorded.

Events are recognised by their ids. The importers derive the ids from the input, so that the same input can be imported
again, for example after an interruption. The missing events of a session are written all together or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime

from ledger.clock import new_salt
from ledger.errors import IdempotencyConflict, ValueTooLarge, WrongExpectedVersion
from ledger.formats.batches import BATCH_BYTES, BATCH_EVENTS
from ledger.formats.events import Imported
from ledger.formats.refusals import REFUSALS, Refuse, end_import, locate
from ledger.model.events import RecordedEvent
from ledger.model.integrity import chained
from ledger.model.page import EVENTS_PAGE
from ledger.stores.base import EventStore

#: Fields whose values the importers derive from other values of the same run, which are compared. Earlier releases did
#: not record them, and a later export may name another model for all calls of a run; what is recorded stays.
_DERIVED = ("model_call",)
#: Number of sessions read concurrently. A warehouse is slow to answer, but serves many requests at once.
_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class SessionEvents:
    """A session to import.

    Attributes:
        where: Position in the input, for error messages, for example ``Line 3``.
        events: Events in order, with versions from 1 and without hashes.
        successor: Set if the id is the input's own, under which a longer export may come: the id of the event that such
            an export has in the place of the last one here.
    """

    session_id: str
    where: str
    events: tuple[RecordedEvent, ...]
    successor: str | None = None


def record(
    store: EventStore,
    sessions: Iterable[SessionEvents],
    *,
    differences: bool = False,
    refuse: Refuse = end_import,
) -> Imported:
    """Record sessions in the given order. Events that the store already has are skipped.

    Sessions are written in batches, so that new sessions need few calls of the store.

    Args:
        sessions: Sessions. If the iterable raises an error, the sessions that it yielded before are recorded first.
        differences: True if each event holds only the differences from the event before it. Then the session is
            refused if the events to record do not directly follow the last event that it has in the store. If False,
            the session is refused if a recorded event has other content than the imported event with the same id.
        refuse: Called with the error of a session that cannot be recorded. By default, it raises the error. If it
            returns, the session is left out, and the import goes on.

    Raises:
        InvalidInput, ValueTooLarge, WrongExpectedVersion, IdempotencyConflict, CorruptEvent, UpcastMissing: A session
            cannot be recorded. The message begins with the session's position; nothing of the session was written. The
            sessions before it are recorded.
    """
    recording = _Recording(store, differences, refuse)
    for batch in _batches(sessions):
        recording.write(batch)
    return Imported(len(recording.sessions), recording.events, recording.new)


def _batches(sessions: Iterable[SessionEvents]) -> Iterator[list[SessionEvents]]:
    """Yield sessions in batches, each with distinct ids.

    If the input raises an error, yield the sessions before it, then raise the error.
    """
    batch: list[SessionEvents] = []
    events = characters = 0
    ids: set[str] = set()
    try:
        for session in sessions:
            if session.session_id in ids:
                yield batch
                batch, events, characters, ids = [], 0, 0, set()
            ids.add(session.session_id)
            batch.append(session)
            events += len(session.events)
            characters += sum(len(change.text or "") for event in session.events for change in event.changes)
            if events >= BATCH_EVENTS or characters >= BATCH_BYTES:
                yield batch
                batch, events, characters, ids = [], 0, 0, set()
    except Exception:
        yield batch
        raise
    yield batch


@dataclass(frozen=True, slots=True)
class _Recorded:
    """What the store has of an imported session.

    Attributes:
        versions: Versions of the imported events that are recorded, by event id.
        version, created_at: Version and creation time of the session.
        recorded_at: Latest time at which an event of the session was recorded.
        superseded: True if a longer export of the session was recorded.
        event_hash: Last hash of the session's chain; None if the session has no hashes.
    """

    versions: Mapping[str, int]
    version: int
    created_at: datetime
    recorded_at: datetime
    event_hash: str | None
    superseded: bool = False


@dataclass(frozen=True, slots=True)
class _Missing:
    """The events to record in a session. ``prev_hash`` is the last hash of the session's chain, if it has one."""

    events: Sequence[RecordedEvent]
    prev_hash: str | None = None


class _Recording:
    """One import: where and how sessions are recorded, and what was recorded so far."""

    def __init__(self, store: EventStore, differences: bool, refuse: Refuse) -> None:
        self.sessions: set[str] = set()
        self.events = self.new = 0
        self._store = store
        self._differences = differences
        self._refuse = refuse

    def write(self, batch: Sequence[SessionEvents]) -> None:
        """Record a batch of sessions. At first, all of them are assumed to be new.

        If the first session exists already, or if the store refuses a session, the sessions are read and only their
        missing events are recorded. A batch that is too large for one call of the store is split.
        """
        if not batch:
            return
        too_large = False
        try:
            # If the input was imported before, its first session shows that.
            if not self._store.events(batch[0].session_id, limit=1):
                self._ingest(batch, [_Missing(session.events) for session in batch])
                return
        except REFUSALS as error:
            too_large = isinstance(error, ValueTooLarge) and len(batch) > 1
        if too_large:  # for one call; each session alone may fit
            for half in _halves(batch):
                self.write(half)
        else:
            self._write_missing(batch)

    def _write_missing(self, batch: Sequence[SessionEvents]) -> None:
        """Record the missing events of each session. If a session is refused, those before it are recorded."""
        try:
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                missing = list(pool.map(self._missing, batch))
            self._ingest(batch, missing)
            return
        except REFUSALS as error:
            if len(batch) == 1:
                locate(error, f"{batch[0].where}: session {batch[0].session_id}")
                self._refuse(error)
                return
        # One session was refused, or another process appended meanwhile: retry with each half.
        for half in _halves(batch):
            self._write_missing(half)

    def _ingest(self, sessions: Sequence[SessionEvents], missing: Iterable[_Missing]) -> None:
        events = [event for each in missing for event in self._chained(each)]
        self.new += self._store.ingest(events) if events else 0
        self.sessions.update(session.session_id for session in sessions)
        self.events += sum(len(session.events) for session in sessions)

    def _chained(self, missing: _Missing) -> Iterator[RecordedEvent]:
        prev_hash = missing.prev_hash
        keeps_chain = self._store.capabilities.hash_chain or prev_hash is not None
        for event in missing.events:
            if not keeps_chain:
                yield event
                continue
            salts = [None if change.text is None else new_salt() for change in event.changes]
            hashed = chained(event, prev_hash, salts)
            prev_hash = hashed.event_hash
            yield hashed

    def _missing(self, session: SessionEvents) -> _Missing:
        """Return the missing events of a session, with versions that follow its last recorded version."""
        recorded = self._recorded(session)
        if recorded is None:
            return _Missing(session.events)
        events = [event for event in session.events if event.event_id not in recorded.versions]
        if session.successor is not None:
            if session.events[0].event_id not in recorded.versions:
                raise IdempotencyConflict(
                    "the ledger has a session with this id that was not imported from this format. Nothing of the run "
                    "was written: give the run another id, or import into another ledger.",
                    session_id=session.session_id,
                )
            if recorded.superseded:
                events = [event for event in events if event is not session.events[-1]]
        if events and self._differences:
            _check_follows(session, events[0], recorded)
        follow = [
            replace(
                event,
                version=recorded.version + number,
                created_at=recorded.created_at,
                recorded_at=max(event.recorded_at, recorded.recorded_at),
            )
            for number, event in enumerate(events, 1)
        ]
        return _Missing(follow, recorded.event_hash)

    def _recorded(self, session: SessionEvents) -> _Recorded | None:
        """Return what the store has of a session; None if it has nothing of the session.

        Reading stops when all imported events are found.
        """
        wanted = {event.event_id: event for event in session.events}
        versions: dict[str, int] = {}
        found: _Recorded | None = None
        superseded = False
        after: str | None = "0"
        while after is not None and len(versions) < len(wanted):
            page = self._store.events(session.session_id, after=int(after), limit=EVENTS_PAGE)
            for event in page:
                if event.event_id in wanted:
                    if not self._differences:
                        _check_same(wanted[event.event_id], event)
                    versions[event.event_id] = event.version
                superseded = superseded or event.event_id == session.successor
                recorded_at, event_hash = event.recorded_at, event.event_hash
                if found is not None:
                    recorded_at, event_hash = max(recorded_at, found.recorded_at), event_hash or found.event_hash
                found = _Recorded(versions, event.version, event.created_at, recorded_at, event_hash, superseded)
            after = page.next
        return found


def _halves(batch: Sequence[SessionEvents]) -> tuple[Sequence[SessionEvents], Sequence[SessionEvents]]:
    middle = len(batch) // 2
    return batch[:middle], batch[middle:]


def _check_same(event: RecordedEvent, recorded: RecordedEvent) -> None:
    """Raise IdempotencyConflict if a recorded event differs from ``event``, except in erased and derived values."""
    there = {(change.field, change.key): change for change in recorded.changes if change.field not in _DERIVED}
    changes = [change for change in event.changes if change.field not in _DERIVED]
    same = event.event_type == recorded.event_type and len(changes) == len(there)
    for change in changes:
        found = there.get((change.field, change.key))
        same = same and found is not None and found.removed == change.removed and found.text in (None, change.text)
    if not same:
        raise IdempotencyConflict(
            f"version {recorded.version}, event {event.event_id}, is recorded with other content; nothing of "
            "the session was written. It was imported from another input (a run with the same id, or an edited export) "
            "or by another release: import into a new ledger.",
            session_id=event.session_id,
            event_id=event.event_id,
        )


def _check_follows(session: SessionEvents, event: RecordedEvent, recorded: _Recorded) -> None:
    """Raise WrongExpectedVersion unless the imported event before ``event`` is the last one recorded in the session."""
    index = session.events.index(event)
    version = recorded.versions.get(session.events[index - 1].event_id, 0) if index else 0
    if version != recorded.version:
        raise WrongExpectedVersion(
            f"the change of {event.occurred_at.isoformat()} would follow version {version}, but the session is "
            f"at version {recorded.version}. Another writer appended to it, the change is late, or an earlier "
            "import is missing: import all files of an export at once, or import into a new ledger. Nothing of "
            "the session was written.",
            session_id=session.session_id,
            expected=version,
            actual=recorded.version,
        )
