"""What the ledger's statements are billed, by the model, in a dataset of declared sizes; and what budgets refuse."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from ledger import Change, NewEvent, StoreRejected
from ledger.clock import new_id, utc_now
from ledger.model.ids import created_at_of
from ledger.model.queries import SessionQuery
from ledger.outbox.contract import RelayCheckpoint
from ledger.outbox.row_digests import SessionKey
from ledger.stores.bigquery.store import BigQueryStore
from ledger.tiers.archiving import purge_warehouse
from ledger.warehouse import catalog
from ledger.warehouse.bigquery.jobs import LOOKUPS
from ledger.warehouse.bigquery.settings import Dataset
from ledger.warehouse.bigquery.sink import BigQuerySink
from service.billing import MB, Bill, BytesBilled
from service.bytes_billed import Purged
from service.layer import service
from service.stand_in import behaviours
from support.bigquery_stores import environment
from support.emulator import Emulator

#: MB of events of a day.
A_DAY = 200
EVERYTHING = "SELECT value FROM `${project}.${dataset}.session_events`"


class Stage:
    """A dataset of sessions of 40 days, and the bills of what is run over it."""

    def __init__(self, emulator: Emulator, billing: BytesBilled) -> None:
        self.emulator, self.billing = emulator, billing
        self.place = Dataset(emulator.project, f"cheap_{uuid.uuid4().hex}", retry_timeout=60)
        self.now = utc_now().replace(hour=12)

    @contextlib.contextmanager
    def store(self, **settings: Any) -> Iterator[BigQueryStore]:
        place = replace(self.place, **settings)
        with contextlib.closing(
            BigQueryStore(place, clock=lambda: self.now, environment=environment(self.emulator))
        ) as store:
            yield store

    def declare(self) -> None:
        days = [(self.now - timedelta(days=back)).date() for back in range(40)]
        for table, size in {"session_events": A_DAY, "session_heads": 1, "session_index": 1}.items():
            name = f"{self.place.project}.{self.place.name}.{table}"
            self.billing.declare(name, days if table != "session_index" else days[:1], size * MB)

    def bills(self) -> dict[str, Bill]:
        """The last bill of each operation since the last call."""
        found = {bill.operation: bill for bill in self.billing.bills}
        self.billing.bills.clear()
        return found


def begin(store: BigQueryStore, session_id: str) -> str:
    event = NewEvent("session.created", [Change("title", value="t" * 100)], new_id(utc_now()), user_id="ada")
    store.append(session_id, replace(event, creates_stream=True))
    return session_id


@pytest.fixture(scope="module")
def stage(emulator: Emulator) -> Iterator[Stage]:
    billing = BytesBilled(block=10 * MB)
    others = [it for it in behaviours() if not isinstance(it, BytesBilled)]
    with service(*emulator.bare, [billing, *others]) as layer:
        made = Stage(replace(emulator, rest=layer.rest, grpc=layer.grpc), billing)
        with made.store() as store:
            store.warehouse.create()
            for back in (0, 1, 2, 30):
                begin(store, new_id(made.now - timedelta(days=back)))
            begin(store, "of-its-own-id")
        with made.store(strict=True) as strict:
            begin(strict, new_id(made.now))
        yield made
    emulator.client.delete_dataset(made.place.name, delete_contents=True)


@pytest.fixture
def bills(stage: Stage) -> Any:
    stage.declare()
    stage.bills()
    return stage.bills


def test_a_page_reads_the_states_of_its_own_days_alone(stage, bills):
    with stage.store() as store:
        assert len(list(store.sessions(SessionQuery(user_id="ada"), limit=6))) == 6
    states = bills()["read_states"]
    assert states.upper_bound <= 4 * (A_DAY + 1) * MB


def test_a_page_that_the_last_days_fill_reads_these_alone(stage, bills):
    with stage.store() as store:
        store.sessions(SessionQuery(user_id="ada"), limit=2)
    listed = [bill for bill in stage.billing.bills if bill.operation == "list_sessions"]
    assert [bill.processed <= 2 * A_DAY * MB for bill in listed] == [True]


def test_an_estimate_is_refused_by_no_budget(stage: Stage) -> None:
    with stage.store(maximum_bytes_billed=1, lookup_maximum_bytes_billed=1) as store:
        with pytest.raises(StoreRejected, match="more bytes than allowed"):
            store.warehouse.ask("doctor", EVERYTHING)
        assert store.warehouse.estimate("doctor", EVERYTHING) > MB


def test_each_operation_with_the_budget_of_look_ups_is_a_statement_of_the_ledger() -> None:
    # find_lost_event runs read_heads.
    assert {name for name in LOOKUPS if not (catalog.sql_folder() / "statements" / f"{name}.sql").is_file()} == {
        "find_lost_event"
    }


def test_a_look_up_by_id_has_a_budget_of_its_own(stage, bills):
    ids = [new_id(stage.now)]
    with stage.store() as store:
        begin(store, ids[0])
    stage.declare()
    with stage.store(maximum_bytes_billed=20 * MB) as store:
        assert store.state(ids[0]) is not None
        assert len(list(store.messages(ids[0], after=None, limit=3))) == 0
        store.append(ids[0], NewEvent("test.made", [Change("title", value="u")], new_id(stage.now)))
        with pytest.raises(StoreRejected, match=r"range of created_at, or raise maximum_bytes_billed"):
            store.sessions(SessionQuery())
    with (
        stage.store(lookup_maximum_bytes_billed=20 * MB) as store,
        pytest.raises(StoreRejected, match="lookup_maximum_bytes_billed"),
    ):
        store.state(ids[0])


def test_rows_are_staged_in_a_table_that_is_made_of_nothing(stage, bills):
    with stage.store() as store:
        events = list(store.events(next(iter(store.sessions(SessionQuery(), limit=1)))[0].session_id))
        copied = [replace(event, session_id=new_id(event.created_at)) for event in events]
        copied = [replace(event, created_at=created_at_of(event.session_id)) for event in copied]
        assert store.ingest(copied) == len(copied)
    found = bills()
    assert (found["create_staging"].processed, found["create_staging"].billed) == (0, 0)


@pytest.mark.parametrize(
    ("days", "own", "strict", "operations"),
    [
        ((3, 4, 5), False, False, ["read_heads", "delete_sessions", "delete_latest"]),
        ((3, 5), False, False, ["read_heads", "delete_sessions", "delete_latest"] * 2),
        (tuple(range(3, 11)), False, False, ["read_heads", "delete_sessions", "delete_latest"] * 2),
        ((3,), True, False, ["read_heads", "delete_sessions", "delete_latest", "delete_creations"]),
        ((3,), False, True, ["read_heads", "delete_sessions", "delete_latest", "delete_heads"]),
    ],
)
def test_a_deletion_names_the_days_and_tables_that_have_rows_of_the_sessions(
    stage, bills, days, own, strict, operations
):
    sessions = [(new_id(at), at) for at in (stage.now - timedelta(days=back) for back in sorted(days, reverse=True))]
    sessions = [(f"own-{session_id}" if own else session_id, created_at_of(session_id)) for session_id, _ in sessions]
    with stage.store(strict=strict) as store:
        if strict:
            begin(store, sessions[0][0])
            stage.declare()
        stage.bills()
        purge_warehouse(Purged([SessionKey(*each) for each in sessions]), store.warehouse, "it")
        ran = list(stage.billing.bills)
        assert [bill.operation for bill in ran] == operations
        changed = sum(bill.processed for bill in ran if bill.operation == "delete_sessions")
        assert round(changed / MB / A_DAY) == len(days)
        assert store.state(sessions[0][0]) is None


def test_a_relay_begins_for_sixty_mb(stage, bills):
    with stage.store() as store:
        for _ in range(2):
            bills()
            with contextlib.closing(BigQuerySink(store.warehouse)) as sink:
                sink.recover("store", RelayCheckpoint(1))
    assert sum(bill.billed for bill in bills().values()) == 60 * MB
