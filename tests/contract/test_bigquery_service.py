"""The same contract over the real BigQuery, and the facts about it that no emulator can show.

Runs where LEDGER_TEST_BIGQUERY=project.dataset and credentials exist (`make test-remote`), in datasets of its own
beside that one, in its location. They are emptied again and again, and removed at the end; their tables expire after a
day. It takes an hour or two, within the free tier.

tests/contract/test_bigquery_service_over_emulator.py runs what an emulator can run.
"""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from google.api_core.exceptions import NotFound
from google.cloud import bigquery

from contract.test_bigquery import TestLenientStore as LenientContract
from contract.test_bigquery import TestStrictStore as StrictContract
from ledger import Change, NewEvent, StoreRejected, WrongExpectedVersion
from ledger.cli.doctor.deep.check import Check
from ledger.cli.doctor.deep.examination import CHECKS
from ledger.cli.doctor.deep.scratch import Scratch, scratch
from ledger.clock import new_id, utc_now
from ledger.model.values import canonical
from ledger.settings import process_environment
from ledger.stores.bigquery.store import BigQueryStore
from ledger.testing import OpenStore, SetClock
from ledger.warehouse.bigquery.settings import Dataset
from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse
from support.bigquery_stores import TABLES

pytestmark = [pytest.mark.remote, pytest.mark.slow]

DAY_MS = 86_400_000
VALUES = [2**64 - 1, -(2**63), 1, 1.0, -0.0, 5e-324, 1e300, 0.1, "é😀\x00\x7f</", {"b": 1, "a": [None, True]}]
#: A statement may wait for those of earlier tests: BigQuery limits DML on one table.
SECONDS = 300.0


class Service:
    """Datasets of the tests' own beside the one that was named, made at their first use."""

    def __init__(self) -> None:
        project, self._named = os.environ["LEDGER_TEST_BIGQUERY"].split(".")
        self.beside = Dataset(project, self._named, location=self._location(project), retry_timeout=SECONDS)
        self._run = uuid.uuid4().hex[:8]
        self._made: dict[str, Dataset] = {}

    def _location(self, project: str) -> str | None:
        with closing(BigQueryWarehouse(Dataset(project, self._named))) as warehouse:
            try:
                return warehouse.clients.rest.get_dataset(self._named).location
            except NotFound:
                return None

    def place(self, name: str, **settings: Any) -> Dataset:
        """A dataset with the ledger's tables and without rows."""
        if name in self._made:
            with closing(BigQueryWarehouse(self._made[name])) as warehouse:
                # Not TRUNCATE, which rows that were just streamed do not allow.
                emptied = (f"DELETE FROM `${{project}}.${{dataset}}.{table}` WHERE TRUE;" for table in TABLES)
                warehouse.ask("empty", " ".join(emptied))
        else:
            self._made[name] = self._make(name)
        return replace(self._made[name], **settings)

    def _make(self, name: str) -> Dataset:
        place = replace(self.beside, name=f"{self._named}_test_{self._run}_{name}")
        made = bigquery.Dataset(f"{place.project}.{place.name}")
        made.location = place.location
        made.default_table_expiration_ms = DAY_MS
        with closing(BigQueryWarehouse(place)) as warehouse:
            warehouse.clients.rest.create_dataset(made)
            warehouse.create()
        return place

    def stores(self, clock: SetClock, **settings: Any) -> Iterator[OpenStore]:
        opened: list[BigQueryStore] = []
        places: dict[str, Dataset] = {}

        def open_store(name: str) -> BigQueryStore:
            place = places.get(name) or places.setdefault(name, self.place(name, **settings))
            opened.append(BigQueryStore(place, clock=clock))
            return opened[-1]

        yield open_store
        for store in opened:
            store.close()

    def drop(self) -> None:
        with closing(BigQueryWarehouse(self.beside)) as warehouse:
            for place in self._made.values():
                warehouse.clients.rest.delete_dataset(place.name, delete_contents=True, not_found_ok=True)


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    made = Service()
    yield made
    made.drop()


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
    made = BigQueryStore(service.place("main"))
    yield made
    made.close()


def ask(store: BigQueryStore, sql: str) -> Any:
    return store.warehouse.query(sql).rows[0][0]


def test_transactions_that_meet_abort_one_another_and_one_writer_wins_each_version(service: Service) -> None:
    place = service.place("main", strict=True)
    stores = [BigQueryStore(place) for _ in range(4)]
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


def test_values_come_back_exactly_by_stream_and_by_statement(store: BigQueryStore) -> None:
    changes = [Change("context", str(number), value) for number, value in enumerate(VALUES)]
    for strict in (False, True):
        with closing(BigQueryStore(replace(store.dataset, strict=strict))) as one:
            session_id = new_id(utc_now())
            one.append(session_id, NewEvent("t.made", changes, new_id(utc_now()), user_id="ada"))
            found = one.state(session_id)
        assert found is not None
        assert [found[1]["context", change.key].text for change in changes] == [canonical(value) for value in VALUES]


def test_rows_of_the_stream_are_seen_and_can_be_erased_at_once(store: BigQueryStore) -> None:
    session_id = new_id(utc_now())
    store.append(session_id, NewEvent("t.made", [Change("title", value="x")], new_id(utc_now()), user_id="ada"))
    assert store.state(session_id) is not None
    sql = "UPDATE `${project}.${dataset}.session_events` SET value = NULL WHERE session_id = @session_id"
    store.warehouse.ask("erase", sql, {"session_id": session_id})
    found = store.state(session_id)
    assert found is not None
    assert found[1]["title", ""].text is None


def test_a_statement_over_its_budget_is_refused(service: Service) -> None:
    """The budget is compared with an estimate, which leaves out streamed rows, but not those of a strict session."""
    place = service.place("main", strict=True)
    with closing(BigQueryStore(place)) as store:
        session_id = new_id(utc_now())
        store.append(session_id, NewEvent("t.made", [Change("title", value="x")], new_id(utc_now()), user_id="ada"))
        assert store.warehouse.estimate("test", "SELECT * FROM session_events") > 0
    with (
        closing(BigQueryWarehouse(replace(place, maximum_bytes_billed=1))) as poor,
        pytest.raises(StoreRejected, match="maximum_bytes_billed"),
    ):
        poor.query("SELECT * FROM session_events")


@pytest.fixture(scope="module")
def experiments(service: Service) -> Iterator[Scratch]:
    with scratch(service.beside, process_environment(), kept=pytest.fail) as it:
        yield it


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_bigquery_does_what_the_deep_checks_assume(experiments: Scratch, check: Check) -> None:
    outcome, detail = check.run(experiments)
    assert outcome == "as assumed", detail
