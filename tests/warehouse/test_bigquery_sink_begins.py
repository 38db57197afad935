"""What a relay into BigQuery finds out when it begins: what arrived, who else ships, and what was forgotten."""

from __future__ import annotations

import contextlib
import json
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from faults.proxy import Plan, proxy
from ledger.errors import ConfigurationError, StoreUnavailable, StreamEnded
from ledger.outbox.contract import Batch, Recovery, RelayCheckpoint
from ledger.outbox.rows import Row, row_key
from ledger.warehouse import catalog, seals
from ledger.warehouse.bigquery import streams
from ledger.warehouse.bigquery.settings import Dataset
from ledger.warehouse.bigquery.sink import BigQuerySink
from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse
from support.bigquery_relays import Store, lease, run, sink_of
from support.bigquery_warehouses import count, through
from support.emulator import Emulator


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def own(emulator: Emulator) -> Iterator[Dataset]:
    """A dataset that is not there, for a test that needs one of its own."""
    place = Dataset(emulator.project, f"sink_{uuid.uuid4().hex}", retry_timeout=20)
    yield place
    emulator.client.delete_dataset(place.name, delete_contents=True, not_found_ok=True)


# What became of a batch


def test_the_next_relay_learns_that_the_batch_under_way_has_arrived(sinks, store, direct):
    one, other = sinks(), sinks()
    store.recover(one)
    store.send(one, store.row(1))
    store.hand_over(one, store.row(2))
    found = store.recover(other)
    assert (found.arrived, found.in_doubt_after) == (True, None)
    store.send(other, store.row(3))
    assert count(direct, store.session) == 3


def test_the_next_relay_learns_that_the_batch_under_way_has_not_arrived(sinks, store, direct):
    one, other = sinks(), sinks()
    store.recover(one)
    store.send(one, store.row(1))
    rows = store.row(2)
    store.checkpoint = replace(store.checkpoint, batch=Batch.of(rows))
    found = store.recover(other)
    assert (found.arrived, found.in_doubt_after) == (False, None)
    store.send(other, rows)
    assert count(direct, store.session) == 2


@pytest.mark.parametrize(("kind", "arrived"), [("lost_answer", True), ("unavailable", False)])
def test_when_patience_ends_the_next_beginning_tells(emulator, place, sinks, store, direct, kind, arrived):
    faults = {"AppendRows": dict.fromkeys(range(1, 99), kind)}
    with through(emulator, replace(place, retry_timeout=1e-6), faults) as (_, it):
        sink = BigQuerySink(it)
        store.recover(sink)
        with pytest.raises(StoreUnavailable) as raised:
            store.hand_over(sink, store.row(1))
        assert not isinstance(raised.value, StreamEnded)
    assert store.recover(sinks()).arrived == arrived
    assert count(direct, store.session) == arrived


def test_a_batch_that_arrived_can_be_sent_again_as_it_was(sink, store, direct):
    store.recover(sink)
    rows = store.row(1)
    place = store.hand_over(sink, rows)
    assert store.hand_over(sink, rows) == place
    assert count(direct, store.session) == 1


@pytest.mark.parametrize(
    ("kind", "request_name", "nth"),
    [
        ("lost_answer", "POST query", 1),
        ("lost_answer", "POST query", 2),
        ("lost_answer", "CreateWriteStream", 1),
        ("lost_answer", "FinalizeWriteStream", 1),
        ("unavailable", "POST query", 2),
        ("unavailable", "CreateWriteStream", 1),
        ("unavailable", "GET table", 1),
    ],
)
def test_a_beginning_is_made_again_and_takes_the_fence_once(emulator, place, sinks, store, kind, request_name, nth):
    one = sinks()
    store.recover(one)
    store.hand_over(one, store.row(1))
    with through(emulator, place, {request_name: {nth: kind}}) as (running, it):
        found = store.recover(BigQuerySink(it))
        assert [fault.kind for fault in running.plan.log] == [kind]
    assert (found.arrived, found.in_doubt_after) == (True, None)
    assert lease(emulator, place, store) == (2, store.place["stream"])


def test_a_beginning_that_came_to_nothing_changes_nothing(emulator, place, sinks, store):
    one = sinks()
    store.recover(one)
    store.hand_over(one, store.row(1))
    impatient = replace(place, retry_timeout=1e-6)
    with (
        through(emulator, impatient, {"CreateWriteStream": {1: "lost_answer"}}) as (_, it),
        pytest.raises(StoreUnavailable),
    ):
        store.recover(BigQuerySink(it))
    found = store.recover(sinks())
    assert (found.arrived, found.in_doubt_after) == (True, None)
    assert lease(emulator, place, store)[0] == 3


# Several relays


def test_whoever_began_before_can_add_nothing(sinks, store, direct):
    one, other = sinks(), sinks()
    store.recover(one)
    left = replace(store)
    store.recover(other)
    rows = store.row(1)
    with pytest.raises(StreamEnded, match="finalized"):
        left.hand_over(one, rows)
    store.send(other, rows)
    assert count(direct, store.session) == 1


def test_what_is_on_its_way_while_another_begins_has_arrived_or_never_will(sinks, store, direct):
    one, other = sinks(), sinks()
    store.recover(one)
    batches = [store.row(version) for version in range(1, 31)]

    def ship() -> None:
        with contextlib.suppress(StreamEnded):
            for rows in batches:
                store.send(one, rows)

    with ThreadPoolExecutor(1) as pool:
        shipping = pool.submit(ship)
        while not count(direct, store.session):
            pass
        other.recover(store.id, store.checkpoint)  # of which the store that ships hears nothing
        there = count(direct, store.session)
        shipping.result()
    assert count(direct, store.session) == there
    found = store.recover(sinks())
    assert found.in_doubt_after == store.checkpoint.seq
    assert there - store.checkpoint.seq in (0, 1)


def test_of_relays_that_begin_at_once_one_ships(emulator, place, sinks, store, direct):
    several = [sinks() for _ in range(3)]
    gate = threading.Barrier(len(several))

    def begin(sink: BigQuerySink) -> Store | None:
        copy = replace(store)
        gate.wait()
        with contextlib.suppress(StreamEnded):
            copy.recover(sink)
            return copy
        return None

    with ThreadPoolExecutor(len(several)) as pool:
        begun = list(pool.map(begin, several))
    rows, shipped = store.row(1), 0
    for sink, copy in zip(several, begun, strict=True):
        if copy is not None:
            with contextlib.suppress(StreamEnded):
                copy.send(sink, rows)
                shipped += 1
    assert shipped == count(direct, store.session) == 1
    assert lease(emulator, place, store)[0] == len(several)


def test_a_relay_that_was_overtaken_while_it_began_does_not_ship(sinks, store, direct, monkeypatch):
    one, other, copy = sinks(), sinks(), replace(store)
    create = streams.create

    def overtaken(*args, **more):
        monkeypatch.setattr(streams, "create", create)
        copy.recover(other)
        return create(*args, **more)

    monkeypatch.setattr(streams, "create", overtaken)
    with pytest.raises(StreamEnded, match="at the same time"):
        store.recover(one)
    copy.send(other, store.row(1))
    assert count(direct, store.session) == 1


def test_a_backup_from_before_the_last_beginning_is_unsure_beyond_its_checkpoint(sinks, store):
    one = sinks()
    store.recover(one)
    store.send(one, store.row(1))
    backup = replace(store)
    store.recover(sinks())
    found = backup.recover(sinks())
    assert (found.arrived, found.in_doubt_after) == (False, 1)


@pytest.mark.parametrize("under_way", [True, False])
def test_a_backup_from_before_the_last_batch_is_unsure_beyond_its_checkpoint(sinks, store, under_way):
    one = sinks()
    store.recover(one)
    store.send(one, store.row(1))
    rows = store.row(2)
    batch = Batch.of(rows) if under_way else None
    backup = replace(store, checkpoint=replace(store.checkpoint, batch=batch))
    store.send(one, rows)
    store.send(one, store.row(3))
    found = backup.recover(sinks())
    assert (found.arrived, found.in_doubt_after) == (False, 1)


def test_a_stream_that_is_forgotten_leaves_its_rows_unsure(emulator, place, sink, store):
    store.recover(sink)
    store.send(sink, store.row(1))
    forgotten = store.place["stream"].rpartition("/")[0] + "/gone"
    table = "`${project}.${dataset}.relay_leases`"
    run(emulator, place, f"UPDATE {table} SET stream = '{forgotten}' WHERE store_id = '{store.id}'")
    store.checkpoint = replace(store.checkpoint, sink_state=json.dumps({**store.place, "stream": forgotten}))
    with pytest.raises(StreamEnded, match="Invalid stream name"):
        store.hand_over(sink, store.row(2))
    assert store.recover(sink).in_doubt_after == 1


# Warehouses that are new, old or emptied


def test_the_first_relay_makes_the_tables_and_has_nothing_to_ask(emulator, own, store):
    emulator.client.create_dataset(own.name)
    with contextlib.closing(sink_of(emulator, own)) as sink:
        assert store.recover(sink) == Recovery(store.checkpoint.sink_state)
        store.send(sink, store.row(1))
        assert sink._warehouse.query("SELECT title FROM sessions").rows == [("t1",)]


def test_a_dataset_that_does_not_exist_is_not_made_and_the_command_that_makes_it_is_named(emulator, own, store):
    with contextlib.closing(sink_of(emulator, own)) as sink:
        with pytest.raises(ConfigurationError, match="does not exist, and nothing was written") as refused:
            store.recover(sink)
        assert f"ledger --url 'bigquery://ledger/{own.name}?location=EU' init" in str(refused.value)
        with pytest.raises(ConfigurationError, match="does not exist"):
            seals.send(sink._warehouse, [], "store")
        assert sink._warehouse.describe() is None


def test_a_warehouse_that_was_emptied_is_asked_for_every_row(emulator, own, store):
    emulator.client.create_dataset(own.name)
    with contextlib.closing(sink_of(emulator, own)) as sink:
        store.recover(sink)
        store.send(sink, store.row(1))
        emulator.client.delete_dataset(own.name, delete_contents=True)
        emulator.client.create_dataset(own.name)
        with pytest.raises((StreamEnded, StoreUnavailable)):
            store.hand_over(sink, store.row(2))
        assert store.recover(sink).in_doubt_after == 0
        before = store.checkpoint.sink_state
        run(emulator, own, "DROP TABLE `${project}.${dataset}.session_events`")
        assert store.recover(sink).in_doubt_after == 0
        assert store.checkpoint.sink_state != before
        assert store.recover(sink).in_doubt_after is None
        copy = replace(store)
        run(emulator, own, "DROP TABLE `${project}.${dataset}.session_events`")
        for _ in range(2):  # so that other relays have taken tokens since, as they do for a copy of the store
            copy.recover(sink)
        assert store.checkpoint.seq > 0
        assert store.recover(sink).in_doubt_after == 0


def test_a_warehouse_that_another_store_began_anew_is_asked_for_every_row(emulator, place, sink, store):
    """A fence may be as high as it was: by then another stream is named."""
    store.recover(sink)
    store.send(sink, store.row(1))
    table = "`${project}.${dataset}.relay_leases`"
    run(emulator, place, f"UPDATE {table} SET stream = '' WHERE store_id = '{store.id}'")
    assert store.recover(sink).in_doubt_after == 0


def test_rows_that_were_shipped_before_there_were_fences_are_asked_for(sink, store):
    store.checkpoint = RelayCheckpoint(1, seq=7)
    assert store.recover(sink).in_doubt_after == 0


@pytest.mark.parametrize("name", ["session_index", "session_locks", "relay_leases"])
def test_a_table_that_is_missing_is_made_before_the_first_row(emulator, place, sink, store, direct, name):
    run(emulator, place, f"DROP TABLE `${{project}}.${{dataset}}.{name}`")
    store.recover(sink)
    store.send(sink, store.row(1))
    assert count(direct, store.session) == 1
    assert emulator.client.get_table(f"{place.name}.{name}").num_rows is not None


def test_columns_that_are_missing_are_added_before_the_first_row(emulator, own, store):
    emulator.client.create_dataset(own.name)
    (table,) = (item for item in catalog.objects() if item.name == "session_events")
    lacking = ("  value_salt", "  actor", "  idempotency_key")
    lines = [line for line in catalog.statement(table).splitlines() if not line.startswith(lacking)]
    run(emulator, own, "\n".join(lines).replace(",\n)", "\n)"))
    with contextlib.closing(sink_of(emulator, own)) as sink:
        store.recover(sink)
        store.send(sink, store.row(1))
        names = "session_id, actor, value_salt, idempotency_key"
        assert run(emulator, own, f"SELECT {names} FROM `${{project}}.${{dataset}}.session_events`") == [
            (store.session, None, None, None)
        ]


def test_where_whoever_made_the_tables_was_cut_off_the_rest_is_made(emulator, own, store):
    with contextlib.closing(sink_of(emulator, own)) as sink:
        sink._warehouse.create()
        run(emulator, own, "DELETE FROM `${project}.${dataset}.session_locks` WHERE TRUE")
        run(emulator, own, "DROP VIEW `${project}.${dataset}.sessions`")
        assert store.recover(sink) == Recovery(store.checkpoint.sink_state)
        assert sink._warehouse.query("SELECT COUNT(*) AS n FROM sessions").rows == [(0,)]


def test_without_its_row_the_lock_holds_nobody_off(emulator, place, sink, store, monkeypatch):
    run(emulator, place, "DELETE FROM `${project}.${dataset}.session_locks` WHERE TRUE")
    with monkeypatch.context() as patched:
        patched.setattr(sink._warehouse, "add_missing", lambda: None)
        with pytest.raises(ConfigurationError, match=r"session_locks .* create_sessions_table\.py"):
            store.recover(sink)
    assert store.recover(sink) == Recovery(store.checkpoint.sink_state)


# All of it


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_whatever_fails_every_row_is_there_once(emulator, place, store, direct, seed):
    impatient = replace(place, retry_timeout=1e-6)
    rows = [row for version in range(1, 16) for row in store.row(version)]
    with proxy(emulator.rest, emulator.grpc, Plan(seed, 0.15, delay=0.005)) as running:
        settings = {"BIGQUERY_EMULATOR_HOST": running.rest, "BIGQUERY_EMULATOR_GRPC_HOST": running.grpc}
        while store.checkpoint.seq < rows[-1][0]:
            it = BigQueryWarehouse(impatient, environment=settings)
            with contextlib.closing(it), contextlib.suppress(StoreUnavailable):
                ship(store, BigQuerySink(it), rows)
    assert count(direct, store.session) == len(rows)


def ship(store: Store, sink: BigQuerySink, rows: list[Row]) -> None:
    """What a relay does, in short."""
    batch = store.checkpoint.batch
    found = store.recover(sink)
    if found.arrived:
        store.checkpoint = replace(store.checkpoint, seq=batch.last)
    known = sink.existing(rows) if found.in_doubt_after is not None else ()
    for row in rows[store.checkpoint.seq :]:
        if row_key(row) in known:
            store.checkpoint = replace(store.checkpoint, seq=row[0])
        else:
            store.send(sink, [row])
