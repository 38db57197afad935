"""What a soak compares: the rows of the store's file, the raw rows of the warehouse, and what callers were told."""

from __future__ import annotations

import json
import random
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ledger import SessionLedger
from ledger.model.instants import to_micros
from ledger.outbox.columns import NAMES
from ledger.outbox.contract import RelayCheckpoint
from support.emulator import Emulator

#: An event: its session's id and its own.
Event = tuple[str, str]
#: The columns of a row that tell it from every other.
_SLOT = [NAMES.index(name) for name in ("session_id", "event_id", "field", "key")]
_VERSION = NAMES.index("version")
#: Rows that are read at once.
_AT_ONCE = 5_000


@dataclass
class Told:
    """What appenders were told, and how long that took.

    Attributes:
        acknowledged: Event to version.
        lost: What was acknowledged and is no more, since an older backup was restored.
        milliseconds: Of each append, while a relay was alive and while none was.
        last: The last token of each thread, ``sessions-worker-thread-number``.
        errors: Of appends; there should be none.
    """

    acknowledged: dict[Event, int] = field(default_factory=dict)
    lost: set[Event] = field(default_factory=set)
    milliseconds: dict[str, list[float]] = field(default_factory=lambda: {"alive": [], "dead": []})
    last: dict[int, str] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    shipping: bool = False

    @property
    def appends(self) -> int:
        """How many were acknowledged, those of one event each for itself."""
        return sum(len(times) for times in self.milliseconds.values())

    def hear(self, line: Mapping[str, Any]) -> None:
        """Take note of what an appender says."""
        if "error" in line:
            self.errors.append(f"{line['token']}: {line['error']}")
            return
        session_id, event_id, version = line["event"]
        there = self.acknowledged.setdefault((session_id, event_id), version)
        if there != version:
            self.errors.append(f"{session_id} {event_id} was acknowledged at {there}, and then at {version}")
        self.milliseconds["alive" if self.shipping else "dead"].append(line["ms"])
        if line["token"]:
            self.last[int(line["token"].split("-")[2])] = line["token"]

    def unanswered(self) -> list[str]:
        """The tokens that a killed appender was at, if it got so far."""
        found = []
        for token in self.last.values():
            *rest, number = token.split("-")
            found.append("-".join([*rest, str(int(number) + 1)]))
        self.last.clear()
        return found

    def lose(self, kept: Iterable[Event]) -> int:
        """Forget what is not kept; how many events that is."""
        lost = self.acknowledged.keys() - set(kept)
        for event in lost:
            del self.acknowledged[event]
        self.lost |= lost
        return len(lost)


@dataclass(frozen=True)
class Sides:
    """A store's file and the dataset that it is shipped to, each read without the other's help.

    Attributes:
        path: The file.
        emulator: With the dataset, and no fault in between.
        dataset: Its name.
    """

    path: Path
    emulator: Emulator
    dataset: str

    @property
    def url(self) -> str:
        return f"sqlite:///{self.path}"

    @property
    def warehouse(self) -> str:
        return f"bigquery://{self.emulator.project}/{self.dataset}"

    def checkpoint(self) -> tuple[RelayCheckpoint, int]:
        """Where the relay stands, and the place of the last row."""
        with SessionLedger.open(self.url, create=False) as ledger:
            outbox: Any = ledger.store.outbox(self.warehouse)  # type: ignore[attr-defined]
            return outbox.checkpoint(), outbox.last_seq()

    def waiting(self) -> int:
        """Rows beyond the checkpoint."""
        checkpoint, last = self.checkpoint()
        return last - checkpoint.seq

    def land(self) -> None:
        """Have what is on its way to the warehouse arrive now or never: the streams that may take it are ended."""
        for (stream,) in self._ask(f"SELECT stream FROM `{self._table('relay_leases')}`"):
            if stream:
                self.emulator.write.finalize_write_stream(name=stream)

    def events_here(self, path: Path | None = None) -> dict[Event, int]:
        """The events of the file, or of a backup of it, and their versions."""
        with closing(sqlite3.connect(path or self.path)) as connection:
            found = connection.execute("SELECT DISTINCT session_id, event_id, version FROM session_events")
            return {(session_id, event_id): version for session_id, event_id, version in found}

    def events_there(self) -> dict[Event, int]:
        """The events of the raw table."""
        sql = f"SELECT DISTINCT session_id, event_id, version FROM `{self._table('session_events')}`"
        return {(session_id, event_id): version for session_id, event_id, version in self._ask(sql)}

    def delete_there(self, chance: random.Random) -> int:
        """Delete some rows of a session in the raw table; how many that is."""
        table = self._table("session_events")
        sizes = self._ask(f"SELECT session_id, MAX(version) FROM `{table}` GROUP BY session_id ORDER BY session_id")
        session_id, version = chance.choice(sizes)
        first = chance.randrange(version)
        where = f"session_id = {json.dumps(session_id)} AND version BETWEEN {first} AND {first + chance.randrange(60)}"
        ((count,),) = self._ask(f"SELECT COUNT(*) FROM `{table}` WHERE {where}")
        self._ask(f"DELETE FROM `{table}` WHERE {where}")
        return int(count)

    def rows_here(self) -> Iterator[tuple[Any, ...]]:
        """Every row of the file, as the table has it."""
        with SessionLedger.open(self.url, create=False) as ledger:
            yield from rows_of(ledger)

    def rows_there(self) -> Iterator[tuple[Any, ...]]:
        """Every row of the raw table, as often as it is there."""
        table = self._table("session_events")
        sizes = self._ask(f"SELECT session_id, COUNT(*) FROM `{table}` GROUP BY session_id ORDER BY session_id")
        for sessions in _parts(sizes):
            names = ", ".join(json.dumps(name) for name in sessions)
            # Of a value that is not there and of one that is null the client says the same.
            sql = f"SELECT *, value IS NOT NULL FROM `{table}` WHERE session_id IN ({names})"
            for *row, has_value in self._ask(sql):
                values = dict(zip(NAMES, row, strict=True))
                text = json.dumps(values["value"]) if has_value else None
                times = {name: to_micros(values[name]) for name in ("occurred_at", "recorded_at", "created_at")}
                yield row_of(values | times | {"value": text})

    def compare(self, told: Told) -> dict[str, int]:
        """Check that both sides have the same rows, each once, and all that was acknowledged; see ``compared``."""
        return compared(list(self.rows_here()), list(self.rows_there()), told)

    def _table(self, name: str) -> str:
        return f"{self.emulator.project}.{self.dataset}.{name}"

    def _ask(self, sql: str) -> list[tuple[Any, ...]]:
        return [tuple(row.values()) for row in self.emulator.client.query_and_wait(sql)]


def rows_of(ledger: SessionLedger) -> Iterator[tuple[Any, ...]]:
    """Every row of a ledger's file, in the order of ``NAMES``."""
    seq = 0
    while rows := ledger.store.rows_after(seq, _AT_ONCE):
        seq = rows[-1][0]
        for _, *row in rows:
            values = dict(zip(NAMES, row, strict=True))
            yield row_of(values | {"removed": bool(values["removed"])})


def compared(here: Sequence[tuple[Any, ...]], there: Sequence[tuple[Any, ...]], told: Told) -> dict[str, int]:
    """Check that rows are the same here and there, each once, and that all is there that was acknowledged.

    Args:
        here, there: Rows in the order of ``NAMES``.

    Returns:
        How much that is.

    Raises:
        AssertionError: Of what is missing, doubled, unknown or different.
    """
    by_slot = {_slot(row): row for row in here}
    assert len(by_slot) == len(here), "the store has a slot twice"
    copies = Counter(_slot(row) for row in there)
    _nothing("rows that the warehouse lacks", by_slot.keys() - copies.keys())
    _nothing("rows that the store does not know", copies.keys() - by_slot.keys())
    _nothing("rows that are there more than once", [slot for slot, times in copies.items() if times != 1])
    _nothing("rows that differ", [(row, by_slot[_slot(row)]) for row in there if row != by_slot[_slot(row)]])
    versions: dict[str, set[int]] = {}
    for row in here:
        versions.setdefault(row[_SLOT[0]], set()).add(row[_VERSION])
    _nothing("sessions with a gap", [name for name, of in versions.items() if of != set(range(1, max(of) + 1))])
    found = {(row[_SLOT[0]], row[_SLOT[1]]): row[_VERSION] for row in here}
    at_version = {(session_id, version) for (session_id, _), version in found.items()}
    assert len(at_version) == len(found), "two events have one version"
    _nothing("acknowledged events", [event for event, at in told.acknowledged.items() if found.get(event) != at])
    return {"rows": len(here), "events": len(found), "acknowledged": len(told.acknowledged), "lost": len(told.lost)}


def row_of(values: Mapping[str, Any]) -> tuple[Any, ...]:
    """A row in the order of ``NAMES``; the value as text that is the same for the same JSON."""
    text = values["value"]
    value = None if text is None else json.dumps(json.loads(text), sort_keys=True)
    return tuple(value if name == "value" else values[name] for name in NAMES)


def _slot(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(row[index] for index in _SLOT)


def _parts(sizes: Iterable[tuple[Any, ...]]) -> Iterator[list[str]]:
    """Sessions in parts of about so many rows that one answer holds them."""
    part: list[str] = []
    rows = 0
    for name, size in sizes:
        if part and rows + size > _AT_ONCE:
            yield part
            part, rows = [], 0
        part.append(name)
        rows += size
    if part:
        yield part


def _nothing(what: str, found: Any) -> None:
    some = list(found)
    assert not some, f"{len(some)} {what}, such as {some[:3]}"
