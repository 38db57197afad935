"""Steps of an import. A step is an event to record; the rows of a source database become steps.

There are two kinds of steps. A permanent step, such as a message or a query, never changes in the source. A later
import recognises it by its id. A step that sets other values (context, title, status) is called a statement. In the
source, these values may change between two imports. Then the next import adds a statement, which sets only the values
that differ from the recorded statements. The id of an added statement is derived from its content and from the id of
the statement before it. So an import can tell statements from the other events of a session. And if the source returns
to an earlier value, that value is recorded again.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from ledger.clock import Clock
from ledger.errors import InvalidInput, ValueTooLarge
from ledger.formats.events import Imported
from ledger.formats.recording import SessionEvents, record
from ledger.model.events import MAX_CHANGES, SCHEMA_VERSION, Change, NewEvent, RecordedChange, RecordedEvent, prepare
from ledger.model.ids import check_created_at, created_at_of
from ledger.model.instants import to_text
from ledger.model.page import EVENTS_PAGE
from ledger.model.values import canonical, check_session_id, check_text, decode
from ledger.sdk.ledger import SessionLedger
from ledger.stores.base import EventStore

#: Maximum number of bad rows that an error describes. Further bad rows are only counted.
NAMED = 20
#: Namespace of the UUIDv5 event ids that this module generates.
_ROWS = uuid.UUID("0193a5b1-7c55-7d0e-9f5e-3a1f0c2b7d67")
_STATUS, _END = ("status", ""), ("expires_at", "")


@dataclass(frozen=True, slots=True)
class Step:
    """An event to record.

    Attributes:
        key: Identifies the step permanently within its session.
        stated: True if the step is a statement: the source may change its values before the next import.
    """

    event_type: str
    at: datetime
    changes: list[Change]
    key: str
    stated: bool = False


def statement(event_type: str, at: datetime, changes: list[Change]) -> Iterator[Step]:
    """Yield a statement with the time ``at``, as several steps if the changes are too many for one event."""
    for start in range(0, len(changes), MAX_CHANGES):
        portion = changes[start : start + MAX_CHANGES]
        texts = [(change.field, change.key, None if change.removed else canonical(change.value)) for change in portion]
        yield Step(event_type, at, portion, _content_of(at, texts), stated=True)


def in_order(steps: list[Step]) -> list[Step]:
    """Return steps ordered by time, after the step that creates the session. Steps of equal times keep their order."""
    return sorted(steps, key=lambda step: (step.event_type != "session.created", step.at))


def remaining_steps(session_id: str, steps: list[Step], events: Iterable[RecordedEvent]) -> list[Step]:
    """Return the steps to import into a session that already has events.

    Args:
        steps: All steps from the source, creation first.
        events: All recorded events of the session.

    Returns:
        All permanent steps, then the statements that are already recorded. If the values of the source differ from
            those of the recorded statements, new statements with the differences follow. Steps that are already
            recorded may be returned, because importing them again adds nothing.
    """
    stated = {_event_id(session_id, step.key): step for step in steps if step.stated}
    current = _values_after(steps[0], *stated.values())
    recorded = _values_after(steps[0])
    erased: set[tuple[str, str]] = set()
    before, last = "", steps[0].at
    known: list[Step] = []
    for event in events:
        last = max(last, event.recorded_at)
        gone = {(change.field, change.key) for change in event.changes if change.text is None and not change.removed}
        erased |= gone
        content = _content_of(event.occurred_at, [(change.field, change.key, change.text) for change in event.changes])
        step = stated.get(event.event_id)  # even if some of its values were erased since
        if step is None:
            keys = {_event_id(session_id, key): key for key in (content, _key_after(content, before))}
            if event.event_id not in keys:
                continue
            changes = [Change(change.field, change.key, change.value, change.removed) for change in event.changes]
            step = Step(event.event_type, event.occurred_at, changes, keys[event.event_id], stated=True)
        _apply(recorded, step.changes)
        known.append(step)
        before = event.event_id
    # Values erased from the ledger must not be imported again.
    changes = [
        Change(*slot, decode(text))
        for slot, text in current.items()
        if recorded.get(slot) != text and slot not in erased
    ]
    changes += [Change(*slot, removed=slot != _END) for slot in recorded if slot not in current]
    at = max([steps[0].at, *(step.at for step in stated.values())])
    permanent = [step for step in steps if not step.stated]
    # No other event records the time of last use.
    if not changes and at > max([last, *(step.at for step in permanent)]):
        changes = [change for change in steps[0].changes if change.field != "status"][:1]
    for step in statement(_type_of(changes, steps), at, changes):
        key = _key_after(step.key, before)
        known.append(Step(step.event_type, at, step.changes, key, stated=True))
        before = _event_id(session_id, key)
    return [*permanent, *known]


def check_and_record(read: Callable[[BadRows], Iterator[SessionEvents]], what: str, ledger: SessionLedger) -> Imported:
    """Read the source twice: first to check all rows, then to record them. Only one batch is in memory at a time.

    Args:
        read: Generator function that yields the sessions of the source and adds bad rows to its argument.
        what: Names of the tables, for error messages.
        ledger: The target.

    Raises:
        InvalidInput: There are bad rows; nothing was written.
    """
    bad = BadRows()
    for _ in read(bad):
        pass
    bad.check(what)
    return record(ledger.store, read(BadRows(ledger.store)))


class BadRows:
    """The bad rows of a source: rows that cannot be recorded, each with the reason.

    Args:
        store: The target store while recording; None while checking.
    """

    def __init__(self, store: EventStore | None = None) -> None:
        self._store = store
        self._partly_recorded: bool | None = None
        self._rows: list[str] = []
        self._count = 0
        self._ids: set[str] = set()

    def row(self, where: str) -> _RowCheck:
        return _RowCheck(self, where)

    def unique(self, session: SessionEvents) -> SessionEvents:
        if session.session_id in self._ids:
            raise InvalidInput(f"there are two rows with the id {session.session_id}")
        self._ids.add(session.session_id)
        return session

    def unrecorded(self, session_id: str, steps: list[Step]) -> list[Step]:
        """Return the steps to import: all if checking or if the session is new, else those of ``remaining_steps``."""
        store = self._store
        if store is None or self._partly_recorded is False:
            return steps
        page = store.events(check_session_id(session_id), limit=EVENTS_PAGE)
        if self._partly_recorded is None:
            # A warehouse is slow to answer, so the first session decides for all: if it is new, the others are too.
            self._partly_recorded = bool(page) or store.capabilities.commit_order
        events = list(page)
        while page.next is not None:
            page = store.events(session_id, after=int(page.next), limit=EVENTS_PAGE)
            events += page
        return remaining_steps(session_id, steps, events) if events else steps

    def add(self, where: str, why: str) -> None:
        self._count += 1
        if len(self._rows) < NAMED:
            self._rows.append(f"{where}: {why.rstrip('.')}")
        if self._store is not None:  # the source changed after the check
            self.check("the source database")

    def check(self, what: str) -> None:
        if self._count:
            more = f"; and {self._count - len(self._rows)} more" if self._count > len(self._rows) else ""
            rows = f"{self._count} row{'' if self._count == 1 else 's'}"
            raise InvalidInput(
                f"{rows} of {what} cannot be recorded; nothing was written. {'; '.join(self._rows)}{more}."
            )


class _RowCheck:
    """Context manager for reading one row. A row that cannot be recorded becomes a bad row instead of an error."""

    def __init__(self, bad: BadRows, where: str) -> None:
        self._bad = bad
        self._where = where

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, InvalidInput | ValueTooLarge):
            return False
        self._bad.add(self._where, str(error))
        return True


def session_of(
    session_id: str, user_id: str, where: str, steps: list[Step], ledger: SessionLedger, clock: Clock
) -> SessionEvents:
    """Convert steps to the events of a session.

    The ``recorded_at`` of an event is the time of its step, but never earlier than the ``recorded_at`` of the event
    before it.

    Raises:
        InvalidInput: A step is not a valid event, two steps have the same key, or the creation time is out of range.
    """
    check_session_id(session_id)
    duplicates = [key for key, times in Counter(step.key for step in steps).items() if times > 1]
    if duplicates:
        raise InvalidInput(f"there is more than one {', '.join(duplicates)}")
    created_at = created_at_of(session_id) or steps[0].at
    check_created_at(created_at, clock())
    recorded_at = steps[0].at
    events = []
    for version, step in enumerate(steps, 1):
        event_id = _event_id(session_id, step.key)
        event = prepare(
            NewEvent(step.event_type, step.changes, event_id, None, step.at, check_text(user_id, "user_id"))
        )
        recorded_at = max(recorded_at, step.at)  # recorded_at never decreases within a session
        events.append(
            RecordedEvent(
                session_id=session_id,
                version=version,
                event_id=event_id,
                event_type=step.event_type,
                changes=tuple(RecordedChange(*change) for change in event.changes),
                user_id=user_id,
                actor=None,
                occurred_at=step.at,
                recorded_at=recorded_at,
                created_at=created_at,
                schema_version=SCHEMA_VERSION,
                store_id=ledger.store.store_id,
            )
        )
    return SessionEvents(session_id, where, tuple(events))


def _event_id(session_id: str, key: str) -> str:
    return str(uuid.uuid5(_ROWS, canonical([session_id, key])))


def _content_of(at: datetime, texts: Iterable[tuple[str, str, str | None]]) -> str:
    """Return the content of a statement as text that does not depend on the order of its changes."""
    return canonical([to_text(at), sorted([field, key, text or "null"] for field, key, text in texts)])


def _key_after(content: str, before: str) -> str:
    """Return the key of an added statement, given its content and the event_id of the statement before it."""
    return canonical([content, before])


def _values_after(*steps: Step) -> dict[tuple[str, str], str]:
    """Return the values of all registers after these steps, as JSON text."""
    values: dict[tuple[str, str], str] = {}
    for step in steps:
        _apply(values, step.changes)
    return values


def _apply(values: dict[tuple[str, str], str], changes: Iterable[Change]) -> None:
    for change in changes:
        slot = (change.field, change.key)
        if change.removed or (slot == _END and change.value is None):  # an expiry of None equals no expiry
            values.pop(slot, None)
        else:
            values[slot] = canonical(change.value)


def _type_of(changes: list[Change], steps: list[Step]) -> str:
    """Return the event type of an added statement with these changes."""
    status = next((change.value for change in changes if (change.field, change.key) == _STATUS), None)
    if status == "active":
        return "session.restored"
    return "session.updated" if status is None else [step for step in steps if step.stated][-1].event_type
