"""The same contract over the real BigQuery, and the facts about it that no emulator can show.

Runs where LEDGER_TEST_BIGQUERY=project.dataset and credentials exist (`make test-remote`), in datasets of its own whose
names begin with that one's; their tables are emptied again and again. It takes an hour or two, within the free tier.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from contract.test_bigquery import TestLenientStore as LenientContract
from contract.test_bigquery import TestStrictStore as StrictContract
from ledger import Change, NewEvent, WrongExpectedVersion
from ledger.clock import new_id, utc_now
from ledger.model.values import canonical
from ledger.stores.bigquery.store import BigQueryStore
from ledger.testing import OpenStore, SetClock
from ledger.warehouse import catalog
from ledger.warehouse.bigquery.settings import Dataset
from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse
from ledger.warehouse.projection import Projection

pytestmark = [pytest.mark.remote, pytest.mark.slow]

TABLES = ("session_events", "session_heads", "session_index")


class Service:
    """Datasets of the tests' own beside the one that was named, made at their first use."""

    def __init__(self) -> None:
        self.project, self.dataset = os.environ["LEDGER_TEST_BIGQUERY"].split(".")
        self._made: set[str] = set()

    def place(self, name: str, **settings: Any) -> Dataset:
        place = Dataset(self.project, f"{self.dataset}_{name}", **settings)
        warehouse = BigQueryWarehouse(place, environment={})
        if name not in self._made:
            warehouse.create()
            self._made.add(name)
        for table in TABLES:
            warehouse.run("empty", f"TRUNCATE TABLE `${{project}}.${{dataset}}.{table}`")
        warehouse.close()
        return place

    def stores(self, clock: SetClock, **settings: Any) -> Iterator[OpenStore]:
        opened: list[BigQueryStore] = []
        places: dict[str, Dataset] = {}

        def open_store(name: str) -> BigQueryStore:
            place = places.get(name) or places.setdefault(name, self.place(name, **settings))
            opened.append(BigQueryStore(place, clock=clock, environment={}))
            return opened[-1]

        yield open_store
        for store in opened:
            store.close()


@pytest.fixture(scope="module")
def service() -> Service:
    return Service()


class TestLenientService(LenientContract):
    @pytest.fixture
    def open_store(self, service: Service, clock: SetClock) -> Iterator[OpenStore]:
        yield from service.stores(clock)


class TestStrictService(StrictContract):
    @pytest.fixture
    def open_store(self, service: Service, clock: SetClock) -> Iterator[OpenStore]:
        yield from service.stores(clock, strict=True)


@pytest.fixture
def store(service: Service) -> Iterator[BigQueryStore]:
    made = BigQueryStore(service.place("facts"), environment={})
    yield made
    made.close()


def ask(store: BigQueryStore, sql: str) -> Any:
    return store.warehouse.query(sql).rows[0][0]


def test_transactions_that_meet_abort_one_another_and_one_writer_wins_each_version(service: Service) -> None:
    place = service.place("race", strict=True)
    stores = [BigQueryStore(place, environment={}) for _ in range(4)]
    begin = NewEvent("test.begun", [Change("status", value="active")], new_id(utc_now()), user_id="ada")
    stores[0].append("shared", begin, expected_version=0)
    won: list[int] = []
    lost: list[int] = []

    def race(number: int) -> None:
        event = NewEvent("test.made", [Change("context", "who", number)], new_id(utc_now()))
        try:
            won.append(stores[number].append("shared", event, expected_version=1).version)
        except WrongExpectedVersion as error:
            lost.append(error.actual)

    threads = [threading.Thread(target=race, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    events = list(stores[0].events("shared"))
    for each in stores:
        each.close()
    assert (won, lost) == ([2], [2, 2, 2])
    assert [event.version for event in events] == [1, 2]


def test_any_value_passes_over_nulls(store: BigQueryStore) -> None:
    assert ask(store, "SELECT ANY_VALUE(IF(x = 3, x, NULL)) AS found FROM UNNEST([1, 2, 3, 4]) AS x") == 3


@pytest.mark.parametrize(
    "value",
    [2**64 - 1, -(2**63), 1, 1.0, -0.0, 5e-324, 1e300, 0.1, "é😀\x00\x7f</", {"b": 1, "a": [None, True]}],
    ids=repr,
)
def test_values_come_back_exactly_by_stream_and_by_statement(store: BigQueryStore, value: Any) -> None:
    for strict in (False, True):
        one = BigQueryStore(replace(store.dataset, strict=strict), environment={})
        session_id = new_id(utc_now())
        one.append(session_id, NewEvent("t.made", [Change("strategy", value=value)], new_id(utc_now()), user_id="ada"))
        found = one.state(session_id)
        one.close()
        assert found is not None
        assert found[1]["strategy", ""].text == canonical(value)


def test_a_look_up_by_id_reads_one_day(store: BigQueryStore) -> None:
    """Parameters prune partitions, in the statement itself and through a table function."""
    from google.cloud import bigquery

    days = [datetime.now(UTC) - timedelta(days=day) for day in range(3)]
    ids = [new_id(day) for day in days]
    for session_id in ids:
        changes = [Change("context", f"k{number}", "x" * 10_000) for number in range(500)]
        store.append(session_id, NewEvent("t.made", changes, new_id(utc_now()), user_id="ada"))

    def bytes_of(sql: str, **parameters: Any) -> int:
        kinds = {str: "STRING", int: "INT64", datetime: "TIMESTAMP", bool: "BOOL"}
        config = bigquery.QueryJobConfig(
            dry_run=True,
            use_query_cache=False,
            query_parameters=[
                bigquery.ArrayQueryParameter(name, "STRING", value)
                if isinstance(value, list)
                else bigquery.ScalarQueryParameter(name, kinds[type(value)], value)
                for name, value in parameters.items()
            ],
        )
        bound = catalog.bind(sql, store.dataset.project, store.dataset.name)
        return int(store.warehouse.clients.rest.query(bound, job_config=config).total_bytes_processed)

    span = {"created_from": days[0], "created_until": days[0] + timedelta(seconds=1)}
    whole = {"created_from": days[2] - timedelta(days=1), "created_until": days[0] + timedelta(days=1)}
    rest = {"session_ids": [ids[0]], "at_version": 10, "with_messages": True}
    assert bytes_of(catalog.query("read_states"), **span, **rest) * 2 < bytes_of(
        catalog.query("read_states"), **whole, **rest
    )
    function = "SELECT value FROM `${project}.${dataset}.session_state`(@id, @first, @next, NULL)"
    first = days[0].replace(hour=0, minute=0, second=0, microsecond=0)
    one = bytes_of(function, id=ids[0], first=first, next=first + timedelta(days=1))
    three = bytes_of(function, id=ids[0], first=first - timedelta(days=2), next=first + timedelta(days=1))
    assert one * 2 < three


def test_rows_of_the_stream_are_seen_and_can_be_changed_at_once(store: BigQueryStore) -> None:
    session_id = new_id(utc_now())
    store.append(session_id, NewEvent("t.made", [Change("title", value="x")], new_id(utc_now()), user_id="ada"))
    assert Projection(store.warehouse).state(session_id) is not None
    store.warehouse.run("erase", "UPDATE `${project}.${dataset}.session_events` SET value = NULL WHERE TRUE")
    found = store.state(session_id)
    assert found is not None
    assert found[1]["title", ""].text is None


def test_a_statement_over_its_budget_is_refused(service: Service, store: BigQueryStore) -> None:
    from ledger import StoreRejected

    poor = BigQueryStore(replace(store.dataset, maximum_bytes_billed=1), environment={})
    with pytest.raises(StoreRejected, match="maximum_bytes_billed"):
        poor.warehouse.query("SELECT * FROM session_events")
    poor.close()
