"""Ledgers that are shipped to a warehouse, for tests of what compares the two."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb

from ledger.model.events import Change, RecordedEvent
from ledger.relay.reconcile import Reconciliation, Repaired, SessionDifference, reconcile, repair
from ledger.stores.sqlite.outbox import SqliteOutbox
from ledger.stores.sqlite.store import SqliteStore
from ledger.testing import START, CountedIds, SetClock
from ledger.testing import event as new_event
from ledger.tiers.opening import outbox_of, relay_between, sink_of
from ledger.warehouse.base import Warehouse
from ledger.warehouse.duckdb.warehouse import DuckDBWarehouse
from ledger.warehouse.row_comparison import ComparedRows

FROM = datetime(START.year, START.month, START.day, tzinfo=UTC)
UNTIL = FROM + timedelta(days=1)


@dataclass
class Ledger:
    """A store in a file and the warehouse that it is shipped to."""

    path: Path
    warehouse: Warehouse
    clock: SetClock = field(default_factory=SetClock)
    ids: CountedIds = field(default_factory=CountedIds)

    @contextlib.contextmanager
    def opened(self) -> Iterator[SqliteStore]:
        with contextlib.closing(SqliteStore(self.path, clock=self.clock, ids=self.ids)) as store:
            yield store

    def outbox(self, store: SqliteStore) -> SqliteOutbox:
        return outbox_of(store, sink_of(self.warehouse).url)

    def append(self, *numbers: int, session: str = "s") -> None:
        """Events of two changes each; the numbers are their identities."""
        with self.opened() as store:
            for number in numbers:
                changes = Change("title", value=f"t{number}"), Change("context", "k", {"n": number})
                store.append(session, new_event(number, *changes, user_id="ada"))

    def sync(self) -> int:
        with self.opened() as store, contextlib.closing(relay_between(store, self.warehouse)) as relay:
            return relay.sync()

    def compare(self, created_from: datetime = FROM, created_until: datetime = UNTIL) -> Reconciliation:
        with self.opened() as store:
            return reconcile(self.outbox(store), ComparedRows(self.warehouse), created_from, created_until)

    def differences(self) -> list[SessionDifference]:
        return list(self.compare().differences)

    def repair(self) -> Repaired:
        """What was found is mended, and what the warehouse lacks is shipped."""
        with self.opened() as store:
            outbox = self.outbox(store)
            found = reconcile(outbox, ComparedRows(self.warehouse), FROM, UNTIL)
            return repair(found, outbox, ComparedRows(self.warehouse), holder="here/1/repair")

    def backup(self, path: Path) -> Ledger:
        """The ledger as it will be when it is restored from a backup that is made now."""
        with self.opened() as store:
            store.backup(path)
        return replace(self, path=path, ids=CountedIds(1000))

    def count(self) -> tuple[int, int]:
        """Rows in the warehouse, and how many of them differ."""
        slots = "COUNT(DISTINCT CONCAT(session_id, '/', event_id, '/', field, '/', key))"
        rows = self.warehouse.query(f"SELECT COUNT(*) AS n, {slots} AS slots FROM session_events").rows
        return rows[0][0], rows[0][1]

    def by_hand(self, sql: str) -> None:
        """Change the warehouse's file, as nobody should."""
        assert isinstance(self.warehouse, DuckDBWarehouse)
        with duckdb.connect(str(self.warehouse.path)) as connection:
            connection.execute(sql)


def empty_ledger(folder: Path) -> Ledger:
    """One that is shipped to a DuckDB file."""
    return Ledger(folder / "ledger.db", DuckDBWarehouse(folder / "ledger.duckdb"))


def shipped_ledger(folder: Path) -> Ledger:
    """One with the sessions s, of events 1 to 3, and t, of event 4, which have arrived: eight rows."""
    ledger = empty_ledger(folder)
    ledger.append(1, 2, 3)
    ledger.append(4, session="t")
    assert ledger.sync() == 8
    return ledger


def events_of(ledger: Ledger, session: str) -> list[RecordedEvent]:
    """As they are recorded; the order of an event's changes is nothing."""
    with ledger.opened() as store:
        events = store.events(session, upcast=False)
    return [replace(it, changes=tuple(sorted(it.changes, key=lambda change: change.field))) for it in events]


def taken_over(ledger: Ledger, path: Path) -> Ledger:
    """Another store, which has taken session s over."""
    other = replace(ledger, path=path, ids=CountedIds(5000))
    with other.opened() as store:
        store.ingest(events_of(ledger, "s"))
        outbox = other.outbox(store)
        checkpoint = outbox.acquire("here/1/x", 60)  # what is in the warehouse already is asked about before it is sent
        outbox.save(replace(checkpoint, in_doubt_upto=outbox.last_seq()))
        outbox.release(checkpoint)
    return other
