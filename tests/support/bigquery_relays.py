"""The BigQuery sink in tests: a store that remembers where its relay stands, and what the lease says."""

from __future__ import annotations

import itertools
import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from ledger.model.events import RecordedEvent
from ledger.outbox.contract import Batch, Recovery, RelayCheckpoint
from ledger.outbox.rows import Row
from ledger.warehouse import catalog
from ledger.warehouse.bigquery.settings import Dataset
from ledger.warehouse.bigquery.sink import BigQuerySink
from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse
from support.bigquery_stores import environment
from support.emulator import Emulator
from support.histories import event, rows_of


@dataclass
class Store:
    """What a store remembers of its relay: copied, it is a backup.

    It has a session that no other has, whose id says that it was created on DAY.
    """

    id: str = field(default_factory=lambda: f"store_{uuid.uuid4().hex}")
    session: str = field(default_factory=lambda: f"019cb624-f000-7000-8000-{uuid.uuid4().hex[:12]}")
    checkpoint: RelayCheckpoint = field(default_factory=lambda: RelayCheckpoint(epoch=1))
    seqs: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def rows(self, *events: RecordedEvent) -> list[Row]:
        return [(next(self.seqs), *row) for row in rows_of(events)]

    def row(self, version: int) -> list[Row]:
        return self.rows(event(version, ("title", "", f"t{version}"), session=self.session))

    def recover(self, sink: BigQuerySink) -> Recovery:
        found = sink.recover(self.id, self.checkpoint)
        self.checkpoint = replace(self.checkpoint, sink_state=found.sink_state, batch=None)
        return found

    def hand_over(self, sink: BigQuerySink, rows: list[Row]) -> str:
        """Send rows, and forget what became of them."""
        number, content = sink.pack(rows)
        assert number == len(rows)
        self.checkpoint = replace(self.checkpoint, batch=Batch.of(rows))
        return sink.send(self.checkpoint.sink_state, self.checkpoint.batch, content)

    def send(self, sink: BigQuerySink, rows: list[Row]) -> None:
        place = self.hand_over(sink, rows)
        self.checkpoint = replace(self.checkpoint, sink_state=place, seq=rows[-1][0], batch=None)

    @property
    def place(self) -> dict[str, Any]:
        return dict(json.loads(self.checkpoint.sink_state))


def sink_of(emulator: Emulator, place: Dataset) -> BigQuerySink:
    def sleep(seconds: float) -> None:
        time.sleep(min(seconds, 0.1))

    return BigQuerySink(BigQueryWarehouse(place, environment=environment(emulator), sleep=sleep), owns=True)


def run(emulator: Emulator, place: Dataset, sql: str) -> list[tuple[Any, ...]]:
    bound = catalog.bind(sql, place.project, place.name)
    return [tuple(row.values()) for row in emulator.client.query_and_wait(bound)]


def lease(emulator: Emulator, place: Dataset, store: Store) -> tuple[int, str]:
    table = "`${project}.${dataset}.relay_leases`"
    ((fence, stream),) = run(emulator, place, f"SELECT fence, stream FROM {table} WHERE store_id = '{store.id}'")
    return fence, stream
