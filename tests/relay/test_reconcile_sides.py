"""Store and warehouse tell the same of the same rows: SQLite and Python, DuckDB, and BigQuery on the emulator."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from ledger.outbox.columns import NAMES
from ledger.outbox.row_digests import NOTHING, RowDigest, SessionDigest, SessionKey, session_digest
from ledger.relay.reconcile import Repaired, SessionDifference
from ledger.stores.sqlite.store import SqliteStore
from ledger.testing import START, CountedIds, SetClock
from ledger.tiers.opening import relay_between
from ledger.warehouse import catalog
from support import histories as h
from support.bigquery_stores import Datasets, environment
from support.shipped import Ledger
from support.sql_targets import OnDuckDB

EVER = datetime(2020, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)


def traces_of(rows: list[tuple[Any, ...]]) -> list[RowDigest]:
    return [RowDigest(*(row[NAMES.index(column)] for column in RowDigest._fields)) for row in rows]


def told_by(warehouse: Any, store_id: str = "store") -> dict[SessionKey, tuple[SessionDigest, bool]]:
    parameters = {"created_from": EVER[0], "created_until": EVER[1], "store_id": store_id}
    rows = warehouse.query(catalog.query("reconcile_sessions"), parameters).rows
    return {SessionKey(*row[:2]): (SessionDigest(*row[2:6]), row[6]) for row in rows}


def told_of(items: list[h.History]) -> dict[SessionKey, tuple[SessionDigest, bool]]:
    return {
        SessionKey(item.session_id, item.events[0].created_at): (
            session_digest(traces_of(h.rows_of(item.events))),
            any(event.store_id == "store" for event in item.events),
        )
        for item in items
    }


def rows_of(items: list[h.History]) -> list[tuple[Any, ...]]:
    return h.shuffled([row for item in items for row in h.rows_of(item.events)], 7)


def mixed(items: list[h.History]) -> list[h.History]:
    """The histories, of which one has no chain, one was written by two stores, and one by another."""
    chains = [lambda event: replace(event, event_hash=None), lambda event: event, lambda event: event]
    owners = [lambda at: "store", lambda at: ("other", "store")[at % 2], lambda at: "other"]
    return [
        replace(item, events=tuple(replace(chain(event), store_id=owner(at)) for at, event in enumerate(item.events)))
        for item, chain, owner in zip(items, chains, owners, strict=True)
    ]


@pytest.mark.duckdb
def test_store_and_duckdb_tell_the_same_of_every_history(tmp_path):
    warehouse = OnDuckDB(tmp_path)
    path = tmp_path / "ledger.db"
    store = SqliteStore(path, clock=SetClock(), ids=CountedIds())

    def load(rows: list[tuple[Any, ...]]) -> None:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            for table in ("session_events", "session_heads"):
                connection.execute(f"DELETE FROM {table}")
            marks = ", ".join("?" * (len(NAMES) + 1))
            connection.executemany(f"INSERT INTO session_events (seq, {', '.join(NAMES)}) VALUES ({marks})", rows)
            connection.execute(
                "INSERT INTO session_heads SELECT session_id, user_id, created_at, MAX(version), 0, NULL, store_id "
                "FROM session_events GROUP BY session_id"
            )

    @settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
    @given(items=h.histories(sessions=3))
    def check(items: list[h.History]) -> None:
        items = mixed(items)
        rows = rows_of(items)
        warehouse.load(rows)
        load(rows)
        expected = told_of(items)
        assert told_by(warehouse) == expected
        outbox = store.outbox("duckdb:///x")
        assert dict(outbox.session_digests(*EVER, upto=len(rows))) == {
            session: told for session, (told, _) in expected.items()
        }
        part = dict(outbox.session_digests(*EVER, upto=len(rows) // 2))
        for session in expected:
            some = [row[1:] for row in rows[: len(rows) // 2] if row[1] == session.session_id]
            assert part[session] == session_digest(traces_of(some))

    with contextlib.closing(store):
        check()


def test_the_order_of_rows_is_nothing_and_all_else_counts():
    rows = [RowDigest(1, "e", "title", "", "h", "v", None), RowDigest(1, "e", "context", "k", "h", None, "job\n1")]
    told = session_digest(rows)
    assert (told.rows, told.distinct_rows, told.version) == (2, 2, 1)
    assert session_digest(reversed(rows)) == told
    assert session_digest([]) == NOTHING
    first = rows[0]
    others = [
        first._replace(version=2),
        first._replace(event_id="f"),
        first._replace(field="summary"),
        first._replace(key="k"),
        first._replace(event_hash="i"),
        first._replace(event_hash=None),
        first._replace(value_hash="w"),
        first._replace(value_hash=None),
        first._replace(event_hash=None, value_hash="hv"),
        first._replace(idempotency_key="k"),
    ]
    digests = {session_digest([other, rows[1]]).digest for other in others}
    assert len(digests | {told.digest, session_digest(rows[:1]).digest, session_digest([*rows, rows[0]]).digest}) == 13


# BigQuery, on the emulator.


@pytest.fixture
def bigquery(emulator: Any, datasets: Datasets, tmp_path: Path) -> Iterator[Ledger]:
    """A ledger that is shipped to BigQuery; each relay opens the dataset for itself."""
    from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse

    with datasets.emptied("main") as place:
        opened: list[BigQueryWarehouse] = []

        class Shipped(Ledger):
            def sync(self) -> int:
                opened.append(BigQueryWarehouse(place, environment=environment(emulator)))
                with self.opened() as store, contextlib.closing(relay_between(store, opened[-1])) as relay:
                    return relay.sync()

        with contextlib.closing(BigQueryWarehouse(place, environment=environment(emulator))) as warehouse:
            yield Shipped(tmp_path / "ledger.db", warehouse)


def test_bigquery_tells_the_same_of_a_history(emulator: Any, datasets: Datasets) -> None:
    from ledger.warehouse.arrow_rows import record_batch
    from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse

    @settings(
        max_examples=3, deadline=None, phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck)
    )
    @given(items=h.histories(sessions=3))
    def check(items: list[h.History]) -> None:
        items = mixed(items)
        with (
            datasets.emptied("main") as place,
            contextlib.closing(BigQueryWarehouse(place, environment=environment(emulator))) as warehouse,
        ):
            warehouse.append("session_events", record_batch([row[1:] for row in rows_of(items)]))
            assert told_by(warehouse) == told_of(items)

    check()


def test_bigquery_is_compared_and_mended(bigquery: Ledger, tmp_path: Path) -> None:
    ledger: Any = bigquery
    ledger.append(1, 2)
    assert ledger.sync() == 4
    assert ledger.differences() == []
    restored = ledger.backup(tmp_path / "restored.db")
    ledger.append(3)
    assert ledger.sync() == 2
    sql = "DELETE FROM `${project}.${dataset}.session_events` WHERE version = 2 AND field = 'title'"
    ledger.warehouse.run("by_hand", sql)
    assert restored.differences() == [SessionDifference("s", START, 2, 3, missing=(3,), unknown=2)]
    assert restored.repair() == Repaired(1, 1, {})
    assert restored.sync() == 1
    assert restored.count() == (6, 6)
    assert restored.differences() == []
