"""Doubles and recorded runs by each road into BigQuery, over the stricter layer, and back, unchanged to the bit.

The roads are streams, insertAll, strict transactions, and a ledger in a file whose relay ships to BigQuery. By hand, in
an emulator of its own, from the folder ``tests``: ``python -m service.roads --doubles 100000 --seed 1``, which
``make doubles`` runs. ``--runs FILE`` adds recorded runs in the OpenAI chat format, one to a line: every float in them
is among the doubles, and the runs themselves go by each road, after which each row is compared with the file's.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import random
import struct
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from faults import soak_sides
from faults.soak_sides import Sides
from ledger import Change, NewEvent, SessionLedger
from ledger.clock import new_id, utc_now
from ledger.formats.openai_chat import import_runs
from ledger.model.events import RecordedChange, RecordedEvent
from ledger.model.integrity import verify
from ledger.model.values import canonical
from ledger.outbox.columns import NAMES
from ledger.relay.reconcile import reconcile
from ledger.warehouse.bigquery.settings import Dataset
from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse
from ledger.warehouse.row_comparison import ComparedRows
from support.bigquery_stores import environment
from support.emulator import Emulator, forget_answers

#: The roads of appends straight to BigQuery, by the options of their URLs.
STRAIGHT = {"stream": "", "insertAll": "?transport=insertall", "strict": "?appends=strict"}
RELAY = "relay"
#: Columns of a row that are the same by each road; versions are, as each session has one writer.
_SAME = ("version", "event_type", "field", "key", "value", "removed", "user_id", "actor")
#: Of a strict session, which takes several events as one: a transaction takes long.
_SAME_STRICT = ("field", "key", "value", "removed", "user_id")
#: Type of a run's last event.
_ENDED = "session.completed"
_SESSION, _TYPE = NAMES.index("session_id"), NAMES.index("event_type")


@dataclass
class Carried:
    """What went by a road and came back.

    Attributes:
        doubles: How many came back with the same bits.
        verified: Events of them whose hashes were verified.
        runs, rows: Recorded runs, and their rows that are those of the file.
    """

    doubles: int = 0
    verified: int = 0
    runs: int = 0
    rows: int = 0


def doubles(seed: int) -> Iterator[float]:
    """Doubles by turns: random bits, short decimals, amounts, and shares."""
    chance = random.Random(seed)
    while True:
        (number,) = struct.unpack("<d", chance.randbytes(8))
        if number - number == 0:  # neither infinite nor no number
            yield number
        yield round(chance.uniform(-100, 100), chance.randrange(1, 9))
        yield round(chance.uniform(0, 2e9), 6)
        yield chance.random()


def floats_of(value: Any) -> Iterator[float]:
    """Every float in a JSON value, those in JSON texts included."""
    if isinstance(value, float):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from floats_of(item)
    elif isinstance(value, str) and value[:1] in ("{", "["):
        with contextlib.suppress(ValueError):
            yield from floats_of(json.loads(value))


class Roads:
    """The roads to one dataset.

    Args:
        emulator: Behind its layer; the process's environment names it too.
        dataset: Name of a dataset with the ledger's tables.
        folder: Empty; for the ledger in a file.
    """

    def __init__(self, emulator: Emulator, dataset: str, folder: Path) -> None:
        self.sides = Sides(folder / "ledger.db", emulator, dataset)
        self.url = self.sides.warehouse

    def carry_doubles(self, road: str, numbers: Sequence[float], each: int) -> Carried:
        """Record doubles, so many to an event; read them back, and compare bits, texts and hashes."""
        parts = [list(numbers[start : start + each]) for start in range(0, len(numbers), each)]
        with SessionLedger.open(self._opened_by(road), warehouse=self.url if road == RELAY else None) as ledger:
            session = ledger.create_session("ada", "Which doubles?")
            for number, part in enumerate(parts):
                ledger.append(session, "doubles.recorded", [Change("result", f"part-{number}", part)])
            if road == RELAY:
                ledger.warehouse.sync()
        carried = Carried()
        with SessionLedger.open(self.url) as ledger:
            events = _history(ledger, session)
            found = ledger.get_session(session)
            assert found is not None
            for number, (part, event) in enumerate(zip(parts, events[1:], strict=True)):
                (change,) = event.changes
                assert change.text == canonical(part), (road, number)  # what a value's hash covers
                for values in (change.value, found.results[f"part-{number}"]):
                    assert _bits(values) == _bits(part), (road, number, _differing(part, values))
                carried.doubles += len(part)
        carried.verified = verify(events)
        assert carried.verified == (len(events) if road in ("strict", RELAY) else 0)
        if road == RELAY:
            self._hydrate(session)
        return carried

    def carry_runs(self, lines: Sequence[bytes]) -> dict[str, Carried]:
        """Ship recorded runs from the file, and append their events by the other roads; then compare every row."""
        with SessionLedger.open(self.sides.url, warehouse=self.url) as ledger:
            imported = import_runs(ledger.store, lines)
            ledger.warehouse.sync()
            self._reconcile(ledger)
            ended = {row[_SESSION] for row in self.sides.rows_here() if row[_TYPE] == _ENDED}
            runs = {session: _history(ledger, session) for session in sorted(ended)}
            assert len(runs) == imported.sessions
        for road, options in STRAIGHT.items():
            with SessionLedger.open(f"{self.url}{options}") as ledger:
                for session, events in runs.items():
                    _append(ledger, f"{road} {session}", _merged(events) if road == "strict" else events)
                    forget_answers()
        here, there = list(self.sides.rows_here()), list(self.sides.rows_there())
        own = {row[_SESSION] for row in here}
        soak_sides.compared(here, [row for row in there if row[_SESSION] in own], soak_sides.Told())
        with SessionLedger.open(self.url) as ledger:
            return {road: self._compare(ledger, road, runs, here, there) for road in (*STRAIGHT, RELAY)}

    def _compare(
        self,
        ledger: SessionLedger,
        road: str,
        runs: Mapping[str, list[RecordedEvent]],
        here: list[tuple[Any, ...]],
        there: list[tuple[Any, ...]],
    ) -> Carried:
        """Compare the raw rows of each run with those of the file, its events likewise, and verify the hashes."""
        carried = Carried(runs=len(runs))
        same = _SAME_STRICT if road == "strict" else _SAME
        expected, found = _by_session(here, same), _by_session(there, same)
        for session, recorded in runs.items():
            name = session if road == RELAY else f"{road} {session}"
            assert found[name] == expected[session], f"{name} differs from the file"
            carried.rows += len(expected[session])
            events = _history(ledger, name)
            if road != "strict":
                assert [_content(event) for event in events] == [_content(event) for event in recorded], name
            assert _state(events) == _state(recorded), name
            verified = verify(events)
            assert verified == (len(events) if road in ("strict", RELAY) else 0)
            carried.verified += verified
            forget_answers()
        return carried

    def _opened_by(self, road: str) -> str:
        return self.sides.url if road == RELAY else f"{self.url}{STRAIGHT[road]}"

    def _hydrate(self, session: str) -> None:
        """Drop a session from the file and bring it back from BigQuery, which verifies its hashes."""
        with SessionLedger.open(self.sides.url, warehouse=self.url) as ledger:
            ledger.archive_session(session)
            ledger.warehouse.sync()
            assert ledger.drop_archived() == 1
            ledger.hydrate_session(session)
            verification = ledger.verify(session)
            assert not verification.findings, verification
            assert (verification.unchained, verification.archived) == (0, 0)

    def _reconcile(self, ledger: SessionLedger) -> None:
        place = Dataset(self.sides.emulator.project, self.sides.dataset)
        with contextlib.closing(BigQueryWarehouse(place)) as warehouse:
            day = timedelta(days=1)
            outcome = reconcile(ledger.warehouse.outbox, ComparedRows(warehouse), utc_now() - day, utc_now() + day)
        assert outcome.sessions, outcome
        assert (outcome.differences, outcome.waiting_rows, outcome.refused_events) == ((), 0, 0), outcome


def _history(ledger: SessionLedger, session_id: str) -> list[RecordedEvent]:
    page = ledger.history(session_id, limit=1_000)
    assert page.next is None
    return list(page)


def _merged(events: Sequence[RecordedEvent]) -> Iterator[RecordedEvent]:
    """The events' changes in as few events as may hold them: none sets a value twice."""
    merged, version = events[0], 1
    for event in events[1:]:
        if {_slot(change) for change in merged.changes}.isdisjoint(_slot(change) for change in event.changes):
            merged = replace(merged, changes=merged.changes + event.changes)
        else:
            yield replace(merged, version=version)
            merged, version = event, version + 1
    yield replace(merged, version=version)


def _slot(change: RecordedChange) -> tuple[str, str]:
    return change.field, change.key


def _state(events: Iterable[RecordedEvent]) -> dict[tuple[str, str], str | None]:
    return {_slot(change): change.text for event in events for change in event.changes}


def _append(ledger: SessionLedger, session_id: str, events: Iterable[RecordedEvent]) -> None:
    """Append another session's events one by one."""
    for event in events:
        changes = [Change(change.field, change.key, change.value, change.removed) for change in event.changes]
        made = NewEvent(
            event.event_type,
            changes,
            new_id(utc_now()),
            event.actor,
            user_id=event.user_id,
            creates_stream=event.version == 1,
            check_duplicate=False,
        )
        assert ledger.store.append(session_id, made).version == event.version


def _content(event: RecordedEvent) -> tuple[Any, ...]:
    changes = sorted((change.field, change.key, change.text, change.removed) for change in event.changes)
    return event.version, event.event_type, event.user_id, event.actor, changes


def _by_session(rows: Iterable[tuple[Any, ...]], columns: Sequence[str]) -> dict[str, list[tuple[Any, ...]]]:
    """Some columns of each session's rows, in an order of their own."""
    places = [NAMES.index(name) for name in columns]
    found: dict[str, list[tuple[Any, ...]]] = {}
    for row in rows:
        found.setdefault(row[_SESSION], []).append(tuple(row[place] for place in places))
    return {session: sorted(rows, key=repr) for session, rows in found.items()}


def _bits(values: Any) -> bytes:
    assert all(type(value) is float for value in values)
    return struct.pack(f"<{len(values)}d", *values)


def _differing(sent: Sequence[float], back: Sequence[float]) -> list[tuple[float, float]]:
    return [(one, other) for one, other in zip(sent, back, strict=False) if _bits([one]) != _bits([other])][:3]


def main(arguments: list[str] | None = None) -> None:
    """Carry doubles and runs by each road, and print figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--doubles", type=int, default=100_000)
    parser.add_argument("--each", type=int, default=500, help="doubles to an event")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--runs", type=Path, metavar="FILE", help="recorded runs in the OpenAI chat format")
    wanted = parser.parse_args(arguments)
    from support.emulator import emulator

    for name in ("ledger", "sqlglot"):  # what is waited for is a warning
        logging.getLogger(name).setLevel(logging.ERROR)
    drawn = doubles(wanted.seed)
    numbers = [next(drawn) for _ in range(wanted.doubles)]
    lines = wanted.runs.read_bytes().splitlines() if wanted.runs else []
    recorded = [number for line in lines for number in floats_of(json.loads(line))]
    with tempfile.TemporaryDirectory() as parent, emulator(Path(parent)) as running:
        os.environ.update(environment(running))
        (folder := Path(parent) / "ledger").mkdir()
        with contextlib.closing(BigQueryWarehouse(Dataset(running.project, "roads"))) as warehouse:
            warehouse.create()
        roads = Roads(running, "roads", folder)
        for road in (*STRAIGHT, RELAY):
            began = time.monotonic()
            carried = roads.carry_doubles(road, [*numbers, *recorded], wanted.each)
            print(
                f"{road}: {carried.doubles} doubles, {len(recorded)} of them of the runs, have the same bits; "
                f"{carried.verified} events verified ({time.monotonic() - began:.0f} s)",
                flush=True,
            )
        if lines:
            began = time.monotonic()
            for road, carried in roads.carry_runs(lines).items():
                print(f"{road}: {carried.runs} runs, {carried.rows} rows as in the file, {carried.verified} verified")
            print(f"reconcile found no difference; {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
