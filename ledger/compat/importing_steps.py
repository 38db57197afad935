"""Rows of an older session store on their way to events: what they say, once checked, and what of that is new.

What is said of a session for good, a message or a query, is known again by its id. All else (its context, its title,
whether it is over) is stated, and may be stated otherwise when the older store is imported again: then what differs
from all statements before becomes an event. Its id follows from its words and from the statement before it, so that
statements are found among what else happened in the ledger, and a store that goes back to what it once said is heard.
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
from ledger.model.ids import check_created_at, check_session_id, created_at_of
from ledger.model.instants import to_text
from ledger.model.page import EVENTS_PAGE
from ledger.model.values import canonical, check_text, decode
from ledger.sdk.ledger import SessionLedger
from ledger.stores.base import EventStore

#: Bad rows that an error names; of the others it says how many there are.
NAMED = 20
#: Namespace of the ids made here.
_ROWS = uuid.UUID("0193a5b1-7c55-7d0e-9f5e-3a1f0c2b7d67")
_STATUS, _END = ("status", ""), ("expires_at", "")


@dataclass(frozen=True, slots=True)
class Step:
    """An event to be.

    Attributes:
        key: What it says apart from others of its session, and for good.
        stated: Whether the older store may say otherwise by and by; see ``statement``.
    """

    event_type: str
    at: datetime
    changes: list[Change]
    key: str
    stated: bool = False


def statement(event_type: str, at: datetime, changes: list[Change]) -> Iterator[Step]:
    """How things stand at a time, in as many steps as it takes."""
    for start in range(0, len(changes), MAX_CHANGES):
        portion = changes[start : start + MAX_CHANGES]
        texts = [(change.field, change.key, None if change.removed else canonical(change.value)) for change in portion]
        yield Step(event_type, at, portion, _words(at, texts), stated=True)


def in_order(steps: list[Step]) -> list[Step]:
    """Steps by the time at which they happened; the beginning first, and those of one time in the order given."""
    return sorted(steps, key=lambda step: (step.event_type != "session.created", step.at))


def said_again(session_id: str, steps: list[Step], events: Iterable[RecordedEvent]) -> list[Step]:
    """What an older store says of a session, where some of that is here.

    Args:
        steps: All that it says by now, the beginning first.
        events: All that is recorded of the session.

    Returns:
        What is said for good, the statements that are here, and one more where what is stated by now differs from them.
    """
    stated = {_event_id(session_id, step.key): step for step in steps if step.stated}
    wanted = _held(steps[0], *stated.values())
    said = _held(steps[0])
    erased: set[tuple[str, str]] = set()
    before, last = "", steps[0].at
    here: list[Step] = []
    for event in events:
        last = max(last, event.recorded_at)
        gone = {(change.field, change.key) for change in event.changes if change.text is None and not change.removed}
        erased |= gone
        words = _words(event.occurred_at, [(change.field, change.key, change.text) for change in event.changes])
        step = stated.get(event.event_id)  # also where values of it were erased since
        if step is None:
            keys = {_event_id(session_id, key): key for key in (words, _after(words, before))}
            if event.event_id not in keys:
                continue
            changes = [Change(change.field, change.key, change.value, change.removed) for change in event.changes]
            step = Step(event.event_type, event.occurred_at, changes, keys[event.event_id], stated=True)
        _hold(said, step.changes)
        here.append(step)
        before = event.event_id
    # What was erased here must not come back from there.
    changes = [
        Change(*slot, decode(text)) for slot, text in wanted.items() if said.get(slot) != text and slot not in erased
    ]
    changes += [Change(*slot, removed=slot != _END) for slot in said if slot not in wanted]
    at = max([steps[0].at, *(step.at for step in stated.values())])
    for_good = [step for step in steps if not step.stated]
    if not changes and at > max([last, *(step.at for step in for_good)]):  # nothing else says when it was used last
        changes = [change for change in steps[0].changes if change.field != "status"][:1]
    for step in statement(_type_of(changes, steps), at, changes):
        key = _after(step.key, before)
        here.append(Step(step.event_type, at, step.changes, key, stated=True))
        before = _event_id(session_id, key)
    return [*for_good, *here]


def bring_in(read: Callable[[BadRows], Iterator[SessionEvents]], what: str, ledger: SessionLedger) -> Imported:
    """Read all once to find what is bad, then once more to record it: no more is held than a batch."""
    bad = BadRows()
    for _ in read(bad):
        pass
    bad.check(what)
    return record(ledger.store, read(BadRows(ledger.store)))


class BadRows:
    """The rows that cannot be recorded, and why.

    Args:
        store: Where the rows are being recorded, once all are checked; None while they are.
    """

    def __init__(self, store: EventStore | None = None) -> None:
        self._store = store
        self._looks: bool | None = None
        self._rows: list[str] = []
        self._count = 0
        self._ids: set[str] = set()

    def row(self, where: str) -> _Row:
        return _Row(self, where)

    def once(self, session: SessionEvents) -> SessionEvents:
        if session.session_id in self._ids:
            raise InvalidInput(f"there are two rows of {session.session_id}")
        self._ids.add(session.session_id)
        return session

    def new(self, session_id: str, steps: list[Step]) -> list[Step]:
        """What steps say that is not here: all of them, but for what the older store said of the session before."""
        store = self._store
        if store is None or self._looks is False:
            return steps
        page = store.events(check_session_id(session_id), limit=EVENTS_PAGE)
        if self._looks is None:
            # A warehouse takes its time to answer: of an import that is new there, the first session tells as much.
            self._looks = bool(page) or store.capabilities.commit_order
        events = list(page)
        while page.next is not None:
            page = store.events(session_id, after=int(page.next), limit=EVENTS_PAGE)
            events += page
        return said_again(session_id, steps, events) if events else steps

    def found(self, where: str, why: str) -> None:
        self._count += 1
        if len(self._rows) < NAMED:
            self._rows.append(f"{where}: {why.rstrip('.')}")
        if self._store is not None:  # the older store has changed since all was checked
            self.check("the older store")

    def check(self, what: str) -> None:
        if self._count:
            more = f"; and {self._count - len(self._rows)} more" if self._count > len(self._rows) else ""
            raise InvalidInput(
                f"{self._count} rows of {what} cannot be recorded; nothing was written. {'; '.join(self._rows)}{more}."
            )


class _Row:
    """A row that is being read; what is wrong with it is kept, and the next one follows."""

    def __init__(self, bad: BadRows, where: str) -> None:
        self._bad = bad
        self._where = where

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, InvalidInput | ValueTooLarge):
            return False
        self._bad.found(self._where, str(error))
        return True


def session_of(
    session_id: str, user_id: str, where: str, steps: list[Step], ledger: SessionLedger, clock: Clock
) -> SessionEvents:
    """Steps as the events of a session, recorded when they happened.

    Raises:
        InvalidInput: One of them cannot be, or two would be the same.
    """
    check_session_id(session_id)
    twice = [key for key, times in Counter(step.key for step in steps).items() if times > 1]
    if twice:
        raise InvalidInput(f"there is more than one {', '.join(twice)}")
    created_at = created_at_of(session_id) or steps[0].at
    check_created_at(created_at, clock())
    recorded_at = steps[0].at
    events = []
    for version, step in enumerate(steps, 1):
        event_id = _event_id(session_id, step.key)
        event = prepare(
            NewEvent(step.event_type, step.changes, event_id, None, step.at, check_text(user_id, "user_id"))
        )
        recorded_at = max(recorded_at, step.at)  # within a session it never goes backwards
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


def _words(at: datetime, texts: Iterable[tuple[str, str, str | None]]) -> str:
    """What a statement says, in whatever order a store gives its changes back."""
    return canonical([to_text(at), sorted([field, key, text or "null"] for field, key, text in texts)])


def _after(words: str, before: str) -> str:
    """The key of a statement that follows another."""
    return canonical([words, before])


def _held(*steps: Step) -> dict[tuple[str, str], str]:
    """What stands after some steps, as JSON text."""
    held: dict[tuple[str, str], str] = {}
    for step in steps:
        _hold(held, step.changes)
    return held


def _hold(held: dict[tuple[str, str], str], changes: Iterable[Change]) -> None:
    for change in changes:
        slot = (change.field, change.key)
        if change.removed or (slot == _END and change.value is None):  # no end, and none that was ever set, are alike
            held.pop(slot, None)
        else:
            held[slot] = canonical(change.value)


def _type_of(changes: list[Change], steps: list[Step]) -> str:
    """What a further statement amounts to."""
    status = next((change.value for change in changes if (change.field, change.key) == _STATUS), None)
    if status == "active":
        return "session.restored"
    return "session.updated" if status is None else [step for step in steps if step.stated][-1].event_type
