"""What callers were told of their events in BigQuery, and whether the raw rows say the same."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from faults import soak_sides
from faults.soak_sides import Event, Sides
from ledger.model.integrity import verify
from ledger.outbox.columns import NAMES
from ledger.stores.base import EventStore

_AT = {name: index for index, name in enumerate(NAMES)}


@dataclass
class Told:
    """What callers were told.

    Attributes:
        appended: Event to version.
        contents: Event to its values by field and key.
        invalid, conflicting, unknown, not_written: Events refused with InvalidInput or ValueTooLarge, with
            WrongExpectedVersion, with OutcomeUnknown, and with any other StoreUnavailable.
        returned: Calls that returned; some events are appended twice.
        reads: Sessions read amid the faults.
        shipped, interrupted: Rows that the relay sent, and calls in which the warehouse could not be reached.
        faults, requests: Faults by kind, and by the request that was struck.
        roads: Calls of each road.
    """

    appended: dict[Event, int] = field(default_factory=dict)
    contents: dict[Event, dict[tuple[str, str], Any]] = field(default_factory=dict)
    invalid: set[Event] = field(default_factory=set)
    conflicting: set[Event] = field(default_factory=set)
    unknown: set[Event] = field(default_factory=set)
    not_written: set[Event] = field(default_factory=set)
    faults: Counter[str] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)
    roads: Counter[str] = field(default_factory=Counter)
    returned: int = 0
    reads: int = 0
    shipped: int = 0
    interrupted: int = 0
    there: int = 0
    unknown_there: int = 0

    def __str__(self) -> str:
        return (
            f"{self.faults.total()} faults ({_counts(self.faults)}) of {_counts(self.requests)}; "
            f"{self.roads.total()} appends ({_counts(self.roads)}): "
            f"{self.returned} returned, of {len(self.appended)} events; {self.there} of them are there, once; "
            f"{len(self.invalid)} invalid and {len(self.conflicting)} at a wrong version, none there; "
            f"{len(self.unknown)} of unknown outcome, {self.unknown_there} there; {len(self.not_written)} not written; "
            f"{self.reads} sessions read meanwhile; {self.shipped} rows shipped, {self.interrupted} interruptions"
        )


def check(told: Told, sides: Sides, store: EventStore, *, in_file: set[str]) -> None:
    """Check that every event that was acknowledged is there once, as it was, and that none that was refused is there.

    Args:
        sides: The ledger's file and the raw rows, which are read past all layers.
        store: The dataset as a ledger, with no fault between.
        in_file: Sessions of the ledger's file; its other sessions were appended straight to the dataset.
    """
    rows = list(sides.rows_there())
    shipped = soak_sides.Told(acknowledged={event: at for event, at in told.appended.items() if event[0] in in_file})
    soak_sides.compared(list(sides.rows_here()), [row for row in rows if row[_AT["session_id"]] in in_file], shipped)
    found = _events(rows)
    told.there = len(told.appended.keys() & found.keys())
    told.unknown_there = len((told.unknown - told.appended.keys()) & found.keys())
    for event, version in told.appended.items():
        assert event in found, f"{event} was acknowledged at {version} and is not there"
        assert found[event] == (version, _texts(told.contents[event])), (event, version, found[event])
    unwanted = (told.invalid | told.conflicting) & found.keys()
    assert not unwanted, f"refused, and there: {unwanted}"
    unexplained = found.keys() - told.appended.keys() - told.unknown
    assert not unexplained, f"there, and no caller was told: {unexplained}"
    by_session: dict[str, set[str]] = {}
    for session_id, event_id in found:
        by_session.setdefault(session_id, set()).add(event_id)
    everyone = {event[0] for event in (*told.appended, *told.invalid, *told.conflicting, *told.unknown)}
    for session_id in everyone | by_session.keys():
        events = list(store.events(session_id, limit=10_000))
        assert Counter(event.event_id for event in events) == Counter(by_session.get(session_id, ())), session_id
        verify(events)
        assert (store.state(session_id) is None) == (not events)


def _events(rows: Sequence[tuple[Any, ...]]) -> dict[Event, tuple[int, dict[tuple[str, str], str | None]]]:
    """Each event's version and values in the raw rows, of which none may be there twice."""
    events: dict[Event, tuple[int, dict[tuple[str, str], str | None]]] = {}
    for row in rows:
        session_id, event_id, version, name, key, value = (
            row[_AT[column]] for column in ("session_id", "event_id", "version", "field", "key", "value")
        )
        at, values = events.setdefault((session_id, event_id), (version, {}))
        assert (at, (name, key) in values) == (version, False), f"{row} is there more than once"
        values[name, key] = value
    return events


def _texts(values: Mapping[tuple[str, str], Any]) -> dict[tuple[str, str], str | None]:
    return {slot: json.dumps(value, sort_keys=True) for slot, value in values.items()}


def _counts(numbers: Counter[str]) -> str:
    return ", ".join(f"{number} {name}" for name, number in sorted(numbers.items()))
