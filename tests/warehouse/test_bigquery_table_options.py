"""Options of the ledger's tables in a dataset, and tables that must be filtered."""

from __future__ import annotations

import contextlib
import uuid
from dataclasses import replace

import pytest

from ledger.errors import ConfigurationError, InvalidInput, StoreUnavailable
from ledger.model.events import Change as FieldChange
from ledger.model.queries import SessionQuery
from ledger.stores.bigquery.store import BigQueryStore
from ledger.testing import CountedIds, SetClock
from ledger.testing import event as new_event
from ledger.warehouse import catalog
from ledger.warehouse.bigquery.settings import Dataset
from ledger.warehouse.bigquery.tables import (
    CATALOG_LABEL,
    TableOptions,
    create,
    digest,
    statements,
)
from support.bigquery_stores import environment
from support.googlesql import GoogleSql
from support.histories import DAY
from support.table_datasets import KEY, TABLES, Datasets, done, through

#: Of these, those over the emulator are among the slow tests.
pytestmark = pytest.mark.slow


# Options


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"partition_expiration_days": 30}, "sessions may have no end"),
        ({"partition_expiration_days": 7, "max_ttl_hours": 168}, "sessions live up to 168 hours .* set 8 or more"),
        ({"partition_expiration_days": 30, "max_ttl_hours": 720}, "set 31 or more"),
        ({"partition_expiration_days": 30, "max_ttl_hours": None}, "sessions may have no end"),
        ({"partition_expiration_days": 30, "max_ttl_hours": 0}, "max_ttl_hours"),
        ({"partition_expiration_days": 30, "max_ttl_hours": float("nan")}, "max_ttl_hours"),
        ({"partition_expiration_days": 0, "max_ttl_hours": 168}, "partition_expiration_days is 0.* set 8 or more"),
        ({"partition_expiration_days": -30, "max_ttl_hours": 168}, "partition_expiration_days is -30.* set 8 or more"),
        ({"location": "the moon"}, "location"),
        ({"location": ""}, "location"),
        ({"kms_key_name": "k"}, "key"),
        ({"kms_key_name": "projects/p/locations/l/keyRings/r"}, "key"),
        ({"kms_key_name": f"{KEY}'); DROP SCHEMA d; --"}, "key"),
        ({"labels": {"Team": "x"}}, "label"),
        ({"labels": {"team": "x'), ('y"}}, "label"),
        ({"labels": {"": "x"}}, "label"),
    ],
)
def test_an_option_that_cannot_be_is_refused_and_named(options, named):
    with pytest.raises(ConfigurationError, match=named):
        TableOptions(**options)


def test_partitions_may_go_as_soon_as_their_sessions_have():
    assert TableOptions(partition_expiration_days=8, max_ttl_hours=168).partition_expiration_days == 8
    assert TableOptions(partition_expiration_days=31, max_ttl_hours=720).partition_expiration_days == 31
    assert TableOptions(max_ttl_hours=None).partition_expiration_days is None


def test_labels_are_put_on_dataset_and_tables_and_others_stay(datasets, kept):
    place, it, _ = kept
    client = datasets.emulator.client
    table = client.get_table(f"{place.name}.session_events")
    table.labels = {"owner": "ann"}
    client.update_table(table, ["labels"])
    options = TableOptions(labels={"team": "analytics", "env": "test"})
    changes = create(it, options)
    assert set(done(changes)) == {changes[0].name, *TABLES}
    assert client.get_dataset(place.name).labels.items() >= options.labels.items()
    for name in TABLES:
        assert client.get_table(f"{place.name}.{name}").labels.items() >= options.labels.items()
    assert done(create(it, options)) == {}
    assert client.get_dataset(place.name).labels[CATALOG_LABEL] == digest()


def test_the_statement_of_the_dataset_labels_it_with_the_release(emulator):
    name = f"labelled_{uuid.uuid4().hex[:8]}"
    schema, *_ = statements(emulator.project, name, TableOptions(labels={"team": "analytics"}))
    try:
        emulator.client.query_and_wait(schema)
        assert emulator.client.get_dataset(name).labels == {"team": "analytics", CATALOG_LABEL: digest()}
    finally:
        emulator.client.delete_dataset(name, not_found_ok=True)


def test_the_statements_carry_every_option():
    options = TableOptions(
        "EU",
        30,
        KEY,
        max_ttl_hours=168,
        require_partition_filter=True,
        labels={"team": "analytics", "env": "test"},
    )
    schema, *rest = statements("my-project", "my_dataset", options)
    assert schema == (
        f"CREATE SCHEMA IF NOT EXISTS `my-project.my_dataset` "
        f"OPTIONS (location = 'EU', default_kms_key_name = '{KEY}', "
        f"labels = [('env', 'test'), ('{CATALOG_LABEL}', '{digest()}'), ('team', 'analytics')]);\n"
    )
    altered = {
        name: [it for it in rest if it.startswith(f"ALTER TABLE `my-project.my_dataset.{name}`")] for name in TABLES
    }
    labels = "labels = [('env', 'test'), ('team', 'analytics')]"
    for name in ("session_events", "session_heads", "sessions_latest"):
        assert [it.split(" SET OPTIONS ")[1] for it in altered[name]] == [
            "(require_partition_filter = FALSE);\n",
            f"(partition_expiration_days = 30, require_partition_filter = TRUE, kms_key_name = '{KEY}', {labels});\n",
        ]
    for name in ("daily_rollup", "model_prices", "relay_leases", "seals", "session_index", "session_locks"):
        assert [it.split(" SET OPTIONS ")[1] for it in altered[name]] == [f"(kms_key_name = '{KEY}', {labels});\n"]
    assert sum(it.startswith("ALTER ") for it in rest) == 12


ALL_OPTIONS = TableOptions(
    "EU", 30, KEY, max_ttl_hours=168, require_partition_filter=True, labels={"team": "analytics"}
)


@pytest.mark.parametrize("options", [TableOptions(), ALL_OPTIONS], ids=["none", "all"])
def test_googles_analyzer_resolves_every_statement_in_its_order(options):
    google, bare = GoogleSql(), list(statements(None, None, options))
    objects = iter(catalog.objects())
    for sql in bare:
        if sql.startswith(("CREATE TABLE ", "CREATE OR REPLACE ")):
            item = next(objects)
            assert sql == catalog.bind(catalog.statement(item))
            google.create(item)
        else:
            assert google.analyze(sql) is not None
    assert next(objects, None) is None
    schema, *named = statements("my-project", "my_dataset", options)
    assert google.analyze(schema) is not None
    assert [sql.replace("`my-project.my_dataset.", "`") for sql in named] == bare


def test_the_statements_make_by_hand_what_creating_makes(datasets):
    place = datasets.new()
    for sql in statements(place.project, place.name, TableOptions()):
        assert sql.rstrip().endswith(";")
        datasets.emulator.client.query_and_wait(sql)
    assert datasets.kinds(place) == {item.name: item.kind for item in catalog.objects()}
    assert datasets.run(place, "SELECT name FROM `${project}.${dataset}.session_locks`") == [("appends",)]
    changes = create(datasets.warehouse(place))
    assert {change.done for change in changes if change.what == "table"} == {"unchanged"}


# Tables that must be filtered


@pytest.fixture(scope="module")
def filtered(datasets: Datasets) -> Dataset:
    """A dataset whose tables are not read without a range of created_at."""
    place = datasets.new()
    create(datasets.warehouse(place), TableOptions(require_partition_filter=True))
    return place


def requirements(datasets: Datasets, place: Dataset) -> set[str]:
    client = datasets.emulator.client
    return {name for name in TABLES if client.get_table(f"{place.name}.{name}").require_partition_filter}


def test_a_filter_is_required_and_the_views_pass_one_on(datasets, filtered):
    it = datasets.warehouse(filtered)
    assert requirements(datasets, filtered) == {"session_events", "session_heads", "sessions_latest"}
    with pytest.raises(InvalidInput, match="without a filter"):
        it.query("SELECT COUNT(*) AS n FROM session_events")
    for view in ("session_events", "sessions", "session_versions", "messages", "tool_calls", "conflicts"):
        assert it.query(f"SELECT * FROM {view} WHERE created_at >= @day", {"day": DAY}) is not None


def test_views_are_made_again_over_tables_that_require_a_filter(datasets, filtered):
    it = datasets.warehouse(filtered)
    datasets.run(filtered, "DROP VIEW `${project}.${dataset}.sessions`")
    assert done(create(it)) == {"sessions": "created"}
    assert requirements(datasets, filtered) == {"session_events", "session_heads", "sessions_latest"}
    assert done(create(it, TableOptions(require_partition_filter=True))) == {}


def test_where_making_a_view_fails_the_filter_is_required_as_before(datasets, filtered):
    datasets.run(filtered, "DROP VIEW `${project}.${dataset}.tool_calls`")
    # Two statements lift the requirement, the third makes the view.
    impatient = replace(filtered, retry_timeout=1e-6)
    faults = {"POST query": {3: "unavailable"}}
    with through(datasets, impatient, faults) as (_, it), pytest.raises(StoreUnavailable):
        create(it)
    assert requirements(datasets, filtered) == {"session_events", "session_heads", "sessions_latest"}
    assert done(create(datasets.warehouse(filtered))) == {"tool_calls": "created"}


@pytest.mark.parametrize("strict", [False, True], ids=["lenient", "strict"])
def test_the_store_works_where_a_filter_is_required(datasets, filtered, strict):
    clock = SetClock()
    settings = environment(datasets.emulator)
    place = replace(filtered, strict=strict)
    with contextlib.closing(BigQueryStore(place, clock=clock, environment=settings)) as store:
        by_id, own = CountedIds(10 + strict)(clock()), f"own-{strict}"
        begun = new_event(0, FieldChange("title", value="t"), user_id=f"ada-{strict}")
        said = FieldChange("message", "m1", {"role": "user", "content": "hello"})
        tagged = new_event(1, said, FieldChange("tag", "x", True))
        for session_id in (by_id, own):
            assert store.append(session_id, begun, expected_version=0).version == 1
            assert store.append(session_id, tagged).version == 2
            head, state = store.state(session_id, with_messages=True)
            assert (head.version, state["title", ""].value) == (2, "t")
        assert store.append(own, tagged).replayed
        assert store.state(own, version=1)[0].version == 1
        assert store.state(own, at=clock.now)[0].version == 2
        assert [it.version for it in store.events(own)] == [1, 2]
        assert [it.content for it in store.messages(own, after=None, limit=10)] == ["hello"]
        assert [it.content for it in store.messages(own, after=None, limit=10, newest=True)] == ["hello"]
        assert store.version_of(own, tagged.event_id) == 2
        found = store.sessions(SessionQuery(user_id=f"ada-{strict}", tag="x"))
        assert {head.session_id for head, _ in found} == {by_id, own}
        copied = [
            replace(it, session_id=f"copied-{strict}", prev_hash=None, event_hash=None) for it in store.events(own)
        ]
        assert store.ingest(copied) == 2
        assert store.ingest(copied) == 0
        assert store.state(f"copied-{strict}")[0].version == 2
