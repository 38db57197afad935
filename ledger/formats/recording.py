"""Sessions that were recorded elsewhere, into a ledger: what is here stays as it is, what is missing follows it.

Ids of sessions and events say what is here: whoever makes events works their ids out from the input, so that the same
input can be recorded again, also after it was cut short. A session's missing events are written whole or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime

from ledger.clock import new_salt
from ledger.errors import (
    CorruptEvent,
    IdempotencyConflict,
    InvalidInput,
    LedgerError,
    UpcastMissing,
    ValueTooLarge,
    WrongExpectedVersion,
)
from ledger.formats.events import BATCH_BYTES, BATCH_EVENTS, Imported
from ledger.model.events import RecordedEvent
from ledger.model.integrity import chained
from ledger.stores.base import EventStore

#: What a session may be refused for; other errors are no session's.
_REFUSALS = (CorruptEvent, IdempotencyConflict, InvalidInput, UpcastMissing, ValueTooLarge, WrongExpectedVersion)
#: Sessions that are looked at together: a warehouse takes its time for each, and has time for many.
_AT_ONCE = 8
#: Events of a session that are read at once.
_PAGE = 500


@dataclass(frozen=True, slots=True)
class SessionEvents:
    """A session recorded elsewhere.

    Attributes:
        where: The place in the input that errors name: ``Line 3``.
        events: In order, with versions from 1 and without hashes.
    """

    session_id: str
    where: str
    events: tuple[RecordedEvent, ...]


def record(
    store: EventStore,
    sessions: Iterable[SessionEvents],
    *,
    differences: bool = False,
) -> Imported:
    """Record sessions in the order given; what is here already stays as it is, and what is missing follows it.

    Many sessions go in together. New ones cost a store a handful of calls for all of a batch, not one for each.

    Args:
        sessions: No id twice. Where the next one cannot be had (it raises), those before it are recorded first.
        differences: What an event says holds only right behind the one before it, and depends on that; its id stands
            for something else that never changes. So an id alone says that an event is here, and nothing is recorded
            in a session that went on. Otherwise, an event that is here must say the same.

    Raises:
        InvalidInput, ValueTooLarge, WrongExpectedVersion, IdempotencyConflict, CorruptEvent, UpcastMissing: A session
            cannot be recorded; the message begins with its place, and nothing of it was written. Those before it are
            recorded.
    """
    recording = _Recording(store, differences)
    for batch in _batches(sessions):
        recording.write(batch)
    return Imported(recording.sessions, recording.events, recording.new)


def locate(error: LedgerError, where: str) -> None:
    """Make an error say where in the input it lies."""
    error.args = (f"{where}: {error}",)


def _batches(sessions: Iterable[SessionEvents]) -> Iterator[list[SessionEvents]]:
    """Sessions by the batch; before an error of theirs, those that came until then."""
    batch: list[SessionEvents] = []
    events = characters = 0
    try:
        for session in sessions:
            batch.append(session)
            events += len(session.events)
            characters += sum(len(change.text or "") for event in session.events for change in event.changes)
            if events >= BATCH_EVENTS or characters >= BATCH_BYTES:
                yield batch
                batch, events, characters = [], 0, 0
    except Exception:
        yield batch
        raise
    yield batch


@dataclass(frozen=True, slots=True)
class _Here:
    """What of a session is here.

    Attributes:
        versions: Of the events looked for that are here, by id.
        version, created_at, recorded_at, event_hash: Where the session stands; the hash is the last of its chain.
    """

    versions: Mapping[str, int]
    version: int
    created_at: datetime
    recorded_at: datetime
    event_hash: str | None


@dataclass(frozen=True, slots=True)
class _Missing:
    """Events to be written, and the hash that their chain goes on from."""

    events: Sequence[RecordedEvent]
    prev_hash: str | None = None


class _Recording:
    """Sessions on their way into a store."""

    def __init__(self, store: EventStore, differences: bool) -> None:
        self.sessions = self.events = self.new = 0
        self._store = store
        self._differences = differences

    def write(self, batch: Sequence[SessionEvents]) -> None:
        """Record a batch: as if all of it were new, and only where that is refused with a look at each session."""
        if not batch:
            return
        too_large = False
        try:
            # Of an input that was recorded before, the first session tells as much.
            if not self._store.events(batch[0].session_id, limit=1):
                self._ingest(batch, [_Missing(session.events) for session in batch])
                return
        except _REFUSALS as error:
            too_large = isinstance(error, ValueTooLarge) and len(batch) > 1
        if too_large:  # for one call; perhaps no session is
            for half in _halves(batch):
                self.write(half)
        else:
            self._write_missing(batch)

    def _write_missing(self, batch: Sequence[SessionEvents]) -> None:
        """Record what is missing of each session; where one is refused, of those before it."""
        try:
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                missing = list(pool.map(self._missing, batch))
            self._ingest(batch, missing)
            return
        except _REFUSALS as error:
            if len(batch) == 1:
                locate(error, f"{batch[0].where}: session {batch[0].session_id}")
                raise
        # All were refused for one, or another process was faster: the halves are looked at anew.
        for half in _halves(batch):
            self._write_missing(half)

    def _ingest(self, sessions: Sequence[SessionEvents], missing: Iterable[_Missing]) -> None:
        events = [event for each in missing for event in self._chained(each)]
        self.new += self._store.ingest(events) if events else 0
        self.sessions += len(sessions)
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
        """The events of a session that are not here, made to follow where it stands."""
        here = self._here(session)
        if here is None:
            return _Missing(session.events)
        events = [event for event in session.events if event.event_id not in here.versions]
        if events and self._differences:
            _check_follows(session, events[0], here)
        follow = [
            replace(
                event,
                version=here.version + number,
                created_at=here.created_at,
                recorded_at=max(event.recorded_at, here.recorded_at),
            )
            for number, event in enumerate(events, 1)
        ]
        return _Missing(follow, here.event_hash)

    def _here(self, session: SessionEvents) -> _Here | None:
        """Where a session stands; it is read no further once nothing is missing."""
        wanted = {event.event_id: event for event in session.events}
        versions: dict[str, int] = {}
        found: _Here | None = None
        after: str | None = "0"
        while after is not None and len(versions) < len(wanted):
            page = self._store.events(session.session_id, after=int(after), limit=_PAGE)
            for event in page:
                if event.event_id in wanted:
                    if not self._differences:
                        _check_same(wanted[event.event_id], event)
                    versions[event.event_id] = event.version
                recorded_at, event_hash = event.recorded_at, event.event_hash
                if found is not None:
                    recorded_at, event_hash = max(recorded_at, found.recorded_at), event_hash or found.event_hash
                found = _Here(versions, event.version, event.created_at, recorded_at, event_hash)
            after = page.next
        return found


def _halves(batch: Sequence[SessionEvents]) -> tuple[Sequence[SessionEvents], Sequence[SessionEvents]]:
    middle = len(batch) // 2
    return batch[:middle], batch[middle:]


def _check_same(event: RecordedEvent, recorded: RecordedEvent) -> None:
    """Raise IdempotencyConflict unless a recorded event says the same; a value that was erased since may have."""
    there = {(change.field, change.key): change for change in recorded.changes}
    same = event.event_type == recorded.event_type and len(event.changes) == len(there)
    for change in event.changes:
        found = there.get((change.field, change.key))
        same = same and found is not None and found.removed == change.removed and found.text in (None, change.text)
    if not same:
        raise IdempotencyConflict(
            f"version {recorded.version}, event {event.event_id}, is here with other content; nothing of the session "
            "was written. It was imported from something else, or by another release: import into a new ledger.",
            session_id=event.session_id,
            event_id=event.event_id,
        )


def _check_follows(session: SessionEvents, event: RecordedEvent, here: _Here) -> None:
    """Raise WrongExpectedVersion unless the event before this one is the session's last."""
    index = session.events.index(event)
    version = here.versions.get(session.events[index - 1].event_id, 0) if index else 0
    if version != here.version:
        raise WrongExpectedVersion(
            f"what changed at {event.occurred_at.isoformat()} would follow version {version}, but the session is at "
            f"version {here.version} here. Either it went on in the ledger, or this came late, or what was imported "
            "before is missing: give all files of an export at once, or import into a new ledger. Nothing of the "
            "session was written.",
            session_id=session.session_id,
            expected=version,
            actual=here.version,
        )
