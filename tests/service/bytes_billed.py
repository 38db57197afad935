"""Print what the ledger's operations would be billed in a dataset of a stated size, by the model of `service.billing`.

``cd tests && ../.venv/bin/python -m service.bytes_billed --day-mb 500 --buffer-mb 100``. Nothing of that size is
stored: the operations run over an emulator that holds a few sessions, and the model takes the sizes as declared. With
``PYTHONPATH=FOLDER`` the package `ledger` of another checkout is measured.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ledger.clock import new_id
from ledger.model.events import Change, NewEvent
from ledger.model.queries import SessionQuery
from ledger.outbox.contract import RelayCheckpoint
from ledger.outbox.row_digests import SessionKey
from ledger.stores.base import PendingDeletion
from ledger.stores.bigquery.store import BigQueryStore
from ledger.tiers.archiving import purge_warehouse
from ledger.warehouse.bigquery.settings import Dataset
from ledger.warehouse.bigquery.sink import BigQuerySink
from service.billing import MB, BytesBilled
from service.layer import service
from support.emulator import PROJECT, connect

DATASET = "costs"
MESSAGES = 6


class Purged:
    """A store that purged sessions, as far as a deletion in the warehouse asks it."""

    store_id = "store"

    def __init__(self, sessions: Sequence[tuple[str, datetime]]) -> None:
        self._sessions = sessions

    def pending_deletions(self, name: str) -> list[PendingDeletion]:
        return [PendingDeletion(SessionKey(*each), 9) for each in self._sessions]

    def deleted(self, sessions: Sequence[PendingDeletion], name: str) -> None:
        """Nothing is pending any more."""


@contextlib.contextmanager
def emulator(folder: Path) -> Iterator[tuple[str, str]]:
    from ledger.cli.demo.emulator import serve
    from support.emulator_catalog import keep_in_memory

    with serve(folder) as (rest, grpc):
        keep_in_memory()
        yield rest, grpc


class Costs:
    """A dataset of declared sizes, and the operations."""

    def __init__(self, rest: str, grpc: str, billing: BytesBilled, now: datetime) -> None:
        self._environment = {"BIGQUERY_EMULATOR_HOST": rest, "BIGQUERY_EMULATOR_GRPC_HOST": grpc}
        self._billing, self._now = billing, now
        #: MB billed for each operation.
        self.billed: dict[str, int] = {}

    def store(self, *, strict: bool = False) -> Any:
        place = Dataset(PROJECT, DATASET, strict=strict)
        return contextlib.closing(BigQueryStore(place, clock=lambda: self._now, environment=self._environment))

    def session(self, store: BigQueryStore, created_at: datetime, session_id: str = "", messages: int = 0) -> str:
        session_id = session_id or new_id(created_at)
        changes = [
            Change("question", value="How many orders last week?"),
            Change("status", value="active"),
            Change("strategy", value="A step. " * 500),
        ]
        event = NewEvent("session.created", changes, new_id(self._now), user_id="ada", creates_stream=True)
        store.append(session_id, event)
        for number in range(messages):
            value = {"role": "assistant", "content": "An answer. " * 100, "tools_used": ["sql"]}
            store.append(session_id, self.event(Change("message", f"message-{number}", value)))
        return session_id

    def event(self, change: Change) -> NewEvent:
        return NewEvent("message.added", [change], new_id(self._now))

    def declare(self, days: int, day_mb: int, buffer_mb: int) -> None:
        """Sessions of the table of events, a tenth of their number strict and a tenth with ids of their own."""
        dates = [(self._now - timedelta(days=back)).date() for back in range(days)]
        name = f"{PROJECT}.{DATASET}"
        self._billing.declare(f"{name}.session_events", dates, day_mb * MB, buffer_mb * MB)
        self._billing.declare(f"{name}.session_heads", dates, day_mb * MB // 500)
        self._billing.declare(f"{name}.session_index", [dates[0]], days * day_mb * MB // 1000)

    def measure(self, name: str, run: Callable[[], object]) -> None:
        self._billing.bills.clear()
        run()
        bills = list(self._billing.bills)
        whole = self.billed[name] = sum(bill.billed for bill in bills) // MB
        print(f"| {name} | {len(bills)} | {whole:,} |")

    def dashboards(self, store: BigQueryStore) -> None:
        """Print what one reading of views and functions for dashboards is billed, for the last 7 days."""
        midnight = self._now.replace(hour=0, minute=0, second=0, microsecond=0)
        span = {"first": midnight - timedelta(days=6), "next": midnight + timedelta(days=1), "back": 8}
        for name in ("daily_activity", "tool_usage", "model_usage"):
            statement = f"SELECT * FROM {name}(@first, @next, @back)"
            self.measure(f"{name} of 7 days", lambda statement=statement: store.warehouse.query(statement, span))
        of_creation = {name: value for name, value in span.items() if name != "back"}
        statement = "SELECT * FROM session_metrics WHERE created_at >= @first AND created_at < @next"
        self.measure("session_metrics of 7 days", lambda: store.warehouse.query(statement, of_creation))

    def run(self, days: int, day_mb: int, buffer_mb: int) -> None:
        """Print a line of a table for each operation: its requests, and the MB billed for them."""
        with self.store() as store:
            store.warehouse.create()
            recent = [self.session(store, self._now - timedelta(minutes=back)) for back in range(60)]
            spread = [self.session(store, self._now - timedelta(days=8 + 2 * back)) for back in range(55)]
            long = self.session(store, self._now - timedelta(days=3), messages=MESSAGES)
            self.session(store, self._now, "of-its-own-id")
            sink = BigQuerySink(store.warehouse)
            sink.recover("store", RelayCheckpoint(1))
            sink.close()
        with self.store(strict=True) as strict:
            of_strict = self.session(strict, self._now - timedelta(days=2), messages=1)
            self.declare(days, day_mb, buffer_mb)
            change = Change("message", "one-more", {"role": "user", "content": "Thank you."})
            self.measure("one strict append", lambda: strict.append(of_strict, self.event(change)))
        with self.store() as store:
            self.measure("one look-up by id", lambda: store.state(long, with_messages=True))
            page = SessionQuery(user_id="ada", without=("deleted",))
            self.dashboards(store)
            self.measure("one page of 50 sessions, of the last day", lambda: store.sessions(page))
            older = f"{round((self._now - timedelta(days=5)).timestamp() * 1e6)}:0"
            span = replace(page, created_from=self._now - timedelta(days=120))
            self.measure("one page of 50 sessions, of every second day", lambda: store.sessions(span, after=older))
            assert len(recent) > len(spread)
            sink = BigQuerySink(store.warehouse)
            self.measure("one start of a relay", lambda: sink.recover("store", RelayCheckpoint(1)))
            sink.close()
            times = [self._now - timedelta(days=30 - number * 30 / 500) for number in range(500)]
            purged: Any = Purged([(new_id(at), at) for at in times])
            self.measure(
                "one deletion of 500 sessions of 30 days", lambda: purge_warehouse(purged, store.warehouse, "it")
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--day-mb", type=int, default=500, help="MB of events of a day")
    parser.add_argument("--buffer-mb", type=int, default=100, help="MB of events in the streaming buffer")
    wanted = parser.parse_args()
    billing = BytesBilled()
    with (
        tempfile.TemporaryDirectory() as folder,
        emulator(Path(folder)) as (rest, grpc),
        connect(rest, grpc),
        service(rest, grpc, [billing]) as layer,
    ):
        print(f"{wanted.days} days of {wanted.day_mb} MB, and {wanted.buffer_mb} MB in the buffer\n")
        print("| Operation | Requests | MB billed |\n|---|---|---|")
        now = datetime.now(UTC).replace(hour=12)
        Costs(layer.rest, layer.grpc, billing, now).run(wanted.days, wanted.day_mb, wanted.buffer_mb)


if __name__ == "__main__":
    main()
