"""The ledger's objects in a dataset: made from nothing, brought up to date, and never taken from anybody else."""

from __future__ import annotations

import json
import re
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from ledger.errors import ConfigurationError, StoreRejected, StoreUnavailable
from ledger.stores.bigquery.store import BigQueryStore
from ledger.testing import SetClock
from ledger.testing import event as new_event
from ledger.warehouse import catalog
from ledger.warehouse.arrow_rows import record_batch
from ledger.warehouse.bigquery.tables import CATALOG_LABEL, ObjectChange, TableOptions, create, digest
from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse
from ledger.warehouse.schema import table_columns
from support.bigquery_stores import environment
from support.histories import DAY, event, rows_of
from support.table_datasets import KEY, TABLES, done, through

#: Of these, those over the emulator are among the slow tests.
pytestmark = pytest.mark.slow


OBJECTS = {item.name: item for item in catalog.objects()}
PARTITIONED = ("session_events", "session_heads", "sessions_latest")


# From nothing


def test_everything_is_made_from_nothing_in_an_order_that_works(datasets, kept):
    place, _, changes = kept
    assert changes[0] == ObjectChange("dataset", f"{place.project}.{place.name}", "created")
    assert [(change.what, change.name, change.done) for change in changes[1:]] == [
        (item.kind, item.name, "created") for item in catalog.objects()
    ]
    assert datasets.kinds(place) == {item.name: item.kind for item in catalog.objects()}
    assert datasets.run(place, "SELECT name FROM `${project}.${dataset}.session_locks`") == [("appends",)]
    labels = datasets.emulator.client.get_dataset(place.name).labels
    assert labels == {CATALOG_LABEL: digest()}


def test_the_tables_are_partitioned_clustered_and_described_as_their_files_say(datasets, kept):
    place, _, _ = kept
    for name in TABLES:
        table = datasets.emulator.client.get_table(f"{place.name}.{name}")
        partition = table.time_partitioning.field if table.time_partitioning else None
        assert partition == ("created_at" if name in PARTITIONED else None)
        assert table.clustering_fields == (
            None
            if name in ("daily_rollup", "model_prices", "relay_leases", "seals", "session_locks")
            else ["session_id"]
        )
        assert [(column.name, bool(column.description)) for column in table.schema] == [
            (column.name, True) for column in table_columns(OBJECTS[name])
        ]


def test_made_again_everything_is_unchanged_and_no_object_is_touched(datasets, kept):
    place, _, _ = kept
    with through(datasets, place, {}) as (running, it):
        assert done(create(it)) == {}
        counts = running.counts
        assert counts["POST query"] == 1  # the lock, where it is missing
        assert {name for name in counts if name.split()[0] != "GET"} == {"POST query"}
    assert datasets.run(place, "SELECT COUNT(*) FROM `${project}.${dataset}.session_locks`") == [(1,)]


def test_a_new_dataset_is_where_and_encrypted_as_the_options_say(datasets):
    place = datasets.new()
    it = datasets.warehouse(place)
    sent: list[dict[str, Any]] = []

    def note(answer: Any, *_: Any, **__: Any) -> None:
        if answer.request.method == "POST" and answer.request.url.split("?")[0].endswith("/datasets"):
            sent.append(json.loads(answer.request.body))

    it.clients.rest._http.hooks["response"].append(note)
    changes = create(it, TableOptions(location="europe-west3", kms_key_name=KEY))
    assert changes[0] == ObjectChange("dataset", f"{place.project}.{place.name}", "created", "europe-west3")
    (body,) = sent
    assert (body["location"], body["defaultEncryptionConfiguration"]) == ("europe-west3", {"kmsKeyName": KEY})
    assert [change.detail for change in changes if change.what == "table"] == [f"kms_key_name = '{KEY}'"] * len(TABLES)
    with pytest.raises(ConfigurationError, match="is in europe-west3, not in US"):
        create(it, TableOptions(location="US"))
    elsewhere = datasets.warehouse(replace(place, location="EU"))
    with pytest.raises(ConfigurationError, match="is in europe-west3, not in EU"):
        create(elsewhere)
    assert create(it, TableOptions(location="EUROPE-WEST3"))[0].done == "unchanged"


# Brought up to date


@pytest.mark.parametrize("name", ["sessions", "session_state", "session_locks"])
def test_an_object_that_was_dropped_is_made_again_and_no_other(datasets, kept, name):
    place, it, _ = kept
    kind = {"function": "TABLE FUNCTION"}.get(OBJECTS[name].kind, OBJECTS[name].kind.upper())
    datasets.run(place, f"DROP {kind} `${{project}}.${{dataset}}.{name}`")
    assert done(create(it)) == {name: "created"}
    assert datasets.kinds(place) == {item.name: item.kind for item in catalog.objects()}
    assert datasets.run(place, "SELECT name FROM `${project}.${dataset}.session_locks`") == [("appends",)]


def test_a_column_that_is_missing_is_added_and_the_rows_are_kept(datasets, kept):
    place, it, _ = kept
    head = "('s1', 'ann', TIMESTAMP '2026-03-04', 1, TIMESTAMP '2026-03-04', 'store')"
    columns = "session_id, user_id, created_at, version, updated_at, store_id"
    datasets.run(place, "ALTER TABLE `${project}.${dataset}.session_heads` DROP COLUMN event_hash")
    datasets.run(place, f"INSERT INTO `${{project}}.${{dataset}}.session_heads` ({columns}) VALUES {head}")
    assert [change for change in create(it) if change.done != "unchanged"] == [
        ObjectChange("table", "session_heads", "updated", "added event_hash")
    ]
    assert it.query("SELECT session_id, version, event_hash FROM session_heads").rows == [("s1", 1, None)]
    column = datasets.emulator.client.get_table(f"{place.name}.session_heads").schema[-1]
    assert (column.name, column.field_type, column.mode) == ("event_hash", "STRING", "NULLABLE")
    assert column.description.startswith("The hash of its last event")


def test_the_tables_of_an_older_release_are_brought_up_to_this_one(datasets):
    place = datasets.new(made=True)
    table = "`${project}.${dataset}.session_events`"
    datasets.run(
        place,
        f"""
        CREATE TABLE {table} (
          session_id STRING NOT NULL, version INT64 NOT NULL, event_id STRING NOT NULL, event_type STRING NOT NULL,
          field STRING NOT NULL, key STRING NOT NULL, value JSON, removed BOOL NOT NULL, user_id STRING NOT NULL,
          recorded_at TIMESTAMP NOT NULL, created_at TIMESTAMP NOT NULL
        ) PARTITION BY DATE(created_at) CLUSTER BY session_id
        """,
    )
    at = "TIMESTAMP '2026-03-04'"
    datasets.run(
        place,
        f"INSERT INTO {table} VALUES ('s1', 1, 'e', 'x.y', 'title', '', JSON '\"old\"', FALSE, 'ann', {at}, {at})",
    )
    it = datasets.warehouse(place)
    missing = "actor, occurred_at, schema_version, store_id, value_hash, value_salt, prev_hash, event_hash, "
    missing += "idempotency_key"
    changes = {change.name: change for change in create(it)}
    assert changes["session_events"] == ObjectChange("table", "session_events", "updated", f"added {missing}")
    assert changes["sessions"].done == "created"
    assert it.query("SELECT title, version FROM sessions WHERE created_at >= @day", {"day": DAY}).rows == [("old", 1)]
    assert it.query("SELECT store_id, actor FROM session_events").rows == [(None, None)]
    it.append("session_events", record_batch(rows_of([event(2, ("title", "", "new"))])))
    assert it.query("SELECT title, version FROM sessions").rows == [("new", 2)]
    assert done(create(it)) == {}


@pytest.mark.parametrize("strict", [False, True])
def test_a_ledger_in_a_dataset_of_the_release_before_says_that_it_must_be_brought_up(datasets, strict):
    place = replace(datasets.new(), strict=strict)
    create(datasets.warehouse(place))
    recorded = partial(new_event, 1, user_id="ada", idempotency_key="job-1")
    more = {"environment": environment(datasets.emulator), "sleep": lambda _: None}
    with closing(BigQueryStore(place, clock=SetClock(), **more)) as store:
        store.append("s", new_event(1, user_id="ada"))
        for name in ("session_history", "session_changes"):
            datasets.run(place, re.sub(r"\n *idempotency_key,", "", catalog.statement(OBJECTS[name])))
        datasets.run(place, "ALTER TABLE `${project}.${dataset}.session_events` DROP COLUMN idempotency_key")
        relabel(datasets, place, "0123456789abcdef")
        with pytest.raises(ConfigurationError, match=r"Unrecognized name: idempotency_key.*`ledger init`"):
            store.events("s")
        with pytest.raises((ConfigurationError, StoreRejected)):
            store.append("t", recorded())
        create(datasets.warehouse(place))
        assert [event.idempotency_key for event in store.events("s")] == [None]
        store.append("t", recorded())
        assert [event.idempotency_key for event in store.events("t")] == ["job-1"]


def relabel(datasets, place, digest, **labels):
    """Label a dataset with the digest of another release's views and functions."""
    dataset = datasets.emulator.client.get_dataset(place.name)
    dataset.labels = {**dataset.labels, CATALOG_LABEL: digest, **labels}
    datasets.emulator.client.update_dataset(dataset, ["labels"])


def test_a_column_of_the_users_own_is_kept(datasets, kept):
    place, it, _ = kept
    datasets.run(place, "ALTER TABLE `${project}.${dataset}.session_events` ADD COLUMN cost_center STRING")
    assert done(create(it)) == {}
    it.append("session_events", record_batch(rows_of([event(1, ("title", "", "t"), session="own")])))
    sql = "SELECT title FROM sessions WHERE session_id = 'own' AND created_at >= @day"
    assert it.query(sql, {"day": DAY}).rows == [("t",)]
    assert it.query("SELECT DISTINCT cost_center FROM session_events").rows == [(None,)]


def test_another_releases_views_and_functions_are_made_anew_and_its_tables_stay(datasets, kept):
    place, it, _ = kept
    datasets.run(place, "CREATE OR REPLACE VIEW `${project}.${dataset}.sessions` AS SELECT 1 AS older")
    relabel(datasets, place, "0123456789abcdef", team="analytics")
    assert done(create(it)) == {item.name: "updated" for item in catalog.objects() if item.kind != "table"}
    assert it.query("SELECT COUNT(title) AS n FROM sessions WHERE session_id = 's1'").rows == [(1,)]
    labels = datasets.emulator.client.get_dataset(place.name).labels
    assert labels == {CATALOG_LABEL: digest(), "team": "analytics"}
    assert done(create(it)) == {}


# What others made


FOREIGN = {
    "type": (
        "CREATE TABLE {session_events} (version STRING, created_at TIMESTAMP) PARTITION BY DATE(created_at)",
        "version is STRING, not INT64",
    ),
    "list": (
        "CREATE TABLE {session_index} (session_id STRING, user_id ARRAY<STRING>) CLUSTER BY session_id",
        "user_id is a list",
    ),
    "required": (
        "CREATE TABLE {session_index} (session_id STRING, mine INT64 NOT NULL) CLUSTER BY session_id",
        "mine is required, but not a column of the ledger's",
    ),
    "no partitions": (
        "CREATE TABLE {session_events} (session_id STRING, created_at TIMESTAMP) CLUSTER BY session_id",
        "partitioned by nothing",
    ),
    "partitions of another column": (
        "CREATE TABLE {session_heads} (updated_at TIMESTAMP) PARTITION BY DATE(updated_at)",
        "partitioned by the DAY of updated_at",
    ),
    "partitions of a month": (
        "CREATE TABLE {session_events} (created_at TIMESTAMP) PARTITION BY TIMESTAMP_TRUNC(created_at, MONTH)",
        "partitioned by the MONTH of created_at",
    ),
    "partitions by the time of ingestion": (
        "CREATE TABLE {session_index} (session_id STRING) PARTITION BY _PARTITIONDATE CLUSTER BY session_id",
        "partitioned by the DAY of its ingestion",
    ),
    "no clusters": (
        "CREATE TABLE {session_events} (session_id STRING, created_at TIMESTAMP) PARTITION BY DATE(created_at)",
        "clustered by nothing",
    ),
    "other clusters": (
        "CREATE TABLE {session_index} (session_id STRING, user_id STRING) CLUSTER BY user_id, session_id",
        "clustered by user_id, session_id",
    ),
    "a view for a table": ("CREATE VIEW {session_index} AS SELECT 's' AS session_id", "is a VIEW"),
    "a table for a view": ("CREATE TABLE {sessions} (title STRING)", "is a TABLE"),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_a_table_that_is_not_the_ledgers_is_refused_and_nothing_is_changed(datasets, what):
    ddl, said = FOREIGN[what]
    place = datasets.new(made=True)
    names = {name: f"`${{project}}.${{dataset}}.{name}`" for name in OBJECTS}
    datasets.run(place, ddl.format_map(names))
    client = datasets.emulator.client
    before = datasets.kinds(place)
    (name,) = before
    schema = client.get_table(f"{place.name}.{name}").schema
    with through(datasets, place, {}) as (running, it):
        with pytest.raises(ConfigurationError, match=rf"\.{name} .*{said}.*Nothing was changed"):
            create(it, TableOptions(labels={"team": "x"}))
        assert {request for request in running.counts if not request.startswith("GET ")} == set()
    assert datasets.kinds(place) == before
    assert client.get_table(f"{place.name}.{name}").schema == schema
    assert client.get_dataset(place.name).labels == {}


# Interrupted, and at once


@pytest.mark.parametrize("nth", [2, 9])
def test_a_run_that_was_interrupted_is_completed_by_the_next(datasets, nth):
    place = datasets.new()
    faults = {"POST query": dict.fromkeys(range(nth, 99), "unavailable")}
    with through(datasets, replace(place, retry_timeout=1e-6), faults) as (running, it):
        with pytest.raises(StoreUnavailable):
            create(it)
        assert len(datasets.kinds(place)) == nth - 1
        running.plan.off()
        changes = create(it)
        assert [change.done for change in changes].count("created") == len(OBJECTS) - nth + 1
        assert done(create(it)) == {}
    assert datasets.kinds(place) == {item.name: item.kind for item in catalog.objects()}
    assert datasets.run(place, "SELECT name FROM `${project}.${dataset}.session_locks`") == [("appends",)]


def test_requests_that_fail_on_the_way_and_answers_that_are_lost_are_made_good(datasets):
    place = datasets.new()
    kinds = ["unavailable", "lost_answer", "reset_before", "quota", "cut_answer"]
    faults = {
        "POST query": {number: kinds[number % 5] for number in range(1, 40, 2)},
        "POST datasets": {1: "lost_answer"},
        "GET dataset": {1: "quota_403", 3: "reset_before"},
        "GET table": {1: "rate_403", 4: "unavailable"},
        "GET routines": {1: "unavailable"},
        "PATCH dataset": {1: "lost_answer"},
    }
    with through(datasets, place, faults) as (_, it):
        assert len(create(it)) == len(OBJECTS) + 1
    assert datasets.kinds(place) == {item.name: item.kind for item in catalog.objects()}
    assert datasets.run(place, "SELECT name FROM `${project}.${dataset}.session_locks`") == [("appends",)]
    assert done(create(datasets.warehouse(place))) == {}


def create_beside_another(it: BigQueryWarehouse) -> list[ObjectChange]:
    """Create; again where the emulator noted a table twice, which it does outside of the transaction that makes it."""
    for _ in range(len(OBJECTS)):
        try:
            return create(it)
        except StoreRejected as error:
            if "primary key" not in str(error).lower():
                raise
    pytest.fail("the emulator refuses every time")


@pytest.mark.parametrize("warehouses", [1, 2])
def test_two_who_create_at_once_make_everything_once(datasets, warehouses):
    # The emulator answers nothing to the second of two who make a dataset at once; BigQuery says that it is there.
    place = datasets.new(made=True)
    creators = [datasets.warehouse(place) for _ in range(warehouses)] * (2 // warehouses)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(create_beside_another, creators))
    assert [len(changes) for changes in found] == [len(OBJECTS) + 1] * 2
    assert datasets.kinds(place) == {item.name: item.kind for item in catalog.objects()}
    assert datasets.run(place, "SELECT DISTINCT name FROM `${project}.${dataset}.session_locks`") == [("appends",)]
    assert done(create(creators[0])) == {}


def test_a_dataset_that_is_labelled_meanwhile_is_no_obstacle(datasets, kept):
    place, it, _ = kept
    client = datasets.emulator.client
    labels = client.get_dataset(place.name)
    labels.labels = {**labels.labels, CATALOG_LABEL: "0123456789abcdef"}
    client.update_dataset(labels, ["labels"])

    def label(answer: Any, *_: Any, **__: Any) -> None:
        """Somebody else labels the dataset after it was looked up."""
        if answer.request.method == "GET" and answer.request.url.split("?")[0].endswith(f"/datasets/{place.name}"):
            dataset = client.get_dataset(place.name)
            dataset.labels = {**dataset.labels, "seen": uuid.uuid4().hex}
            client.update_dataset(dataset, ["labels"])

    it.clients.rest._http.hooks["response"].append(label)
    try:
        create(it)
    finally:
        it.clients.rest._http.hooks["response"].remove(label)
    labels = client.get_dataset(place.name).labels
    assert labels[CATALOG_LABEL] == digest()
    assert "seen" in labels
