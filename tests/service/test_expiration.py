"""What the ledger does where a table drops the rows of a day that has expired, over the layer."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from faults.proxy_rest import Answer
from ledger import Change, InvalidInput, NewEvent, SessionLedger, SessionNotFound
from ledger.model.ids import created_at_of
from ledger.model.instants import to_text
from ledger.model.queries import SessionQuery
from ledger.relay.reconcile import reconcile
from ledger.stores.bigquery.store import BigQueryStore
from ledger.stores.sqlite.store import SqliteStore
from ledger.testing import CountedIds, SetClock, recorded
from ledger.tiers.opening import outbox_of, relay_between
from ledger.warehouse.bigquery.settings import Dataset
from ledger.warehouse.bigquery.tables import TableOptions, create
from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse
from ledger.warehouse.row_comparison import ComparedRows
from service.layer import Behaviour, Request, refusal, service
from service.rows import ExpiredPartitions
from service.stand_in import behaviours
from support.bigquery_stores import environment
from support.emulator import Emulator

pytestmark = pytest.mark.emulator

DAYS = 30
MODES: list[dict[str, Any]] = [{}, {"strict": True}]


class Requests(Behaviour):
    """Counts requests, and refuses descriptions of tables if it is told to."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.hidden = False

    def rest(self, request: Request, forward: Any) -> Answer:
        self.seen.append(request.name)
        if self.hidden and request.name == "GET table":
            return refusal(403, "accessDenied", "Permission bigquery.tables.get denied on table")
        return forward()


@dataclass
class Stage:
    """A dataset whose tables keep a day for 30 days, by a clock that the layer and the ledger share."""

    emulator: Emulator
    open: contextlib.ExitStack
    requests: Requests
    clock: SetClock = field(default_factory=SetClock)
    ids: CountedIds = field(default_factory=CountedIds)
    place: Dataset = field(default_factory=lambda: Dataset("ledger", f"expiring_{uuid.uuid4().hex}", retry_timeout=20))

    def warehouse(self) -> BigQueryWarehouse:
        made = BigQueryWarehouse(self.place, environment=environment(self.emulator))
        return self.open.enter_context(contextlib.closing(made))

    def store(self, **settings: Any) -> BigQueryStore:
        place = replace(self.place, **settings)
        made = BigQueryStore(place, clock=self.clock, environment=environment(self.emulator))
        return self.open.enter_context(contextlib.closing(made))

    def event(self, *changes: Change, **more: Any) -> NewEvent:
        return NewEvent("test.made", list(changes or [Change("title", value="t")]), self.ids(self.clock()), **more)

    def begin(self, store: Any, session_id: str = "", days: float | None = 1, **fields: Any) -> str:
        session_id = session_id or self.ids(self.clock())
        ends = [] if days is None else [self.end(days)]
        changes = [Change(name, value=value) for name, value in fields.items()]
        store.append(session_id, self.event(Change("title", value="t"), *ends, *changes, user_id="ada"))
        return session_id

    def end(self, days: float) -> Change:
        """Of a session: so many days from now."""
        return Change("expires_at", value=to_text(self.clock() + timedelta(days=days)))

    def pass_days(self, days: int) -> None:
        self.clock.move(days * 86_400)


@pytest.fixture(scope="module")
def made(emulator: Emulator) -> Iterator[Stage]:
    requests, clock = Requests(), SetClock()
    stricter = [it for it in behaviours() if not isinstance(it, ExpiredPartitions)]
    with (
        service(*emulator.bare, [requests, *stricter, ExpiredPartitions(clock)]) as layer,
        contextlib.ExitStack() as opened,
    ):
        stage = Stage(replace(emulator, rest=layer.rest, grpc=layer.grpc), opened, requests, clock)
        create(stage.warehouse(), TableOptions(partition_expiration_days=DAYS, max_ttl_hours=168))
        yield stage
    emulator.client.delete_dataset(stage.place.name, delete_contents=True)


@pytest.fixture
def stage(made: Stage) -> Stage:
    """The dataset, some months after the test before."""
    made.pass_days(100)
    return made


def drop_day(stage: Stage) -> datetime:
    """Let the present day expire, and return when it did."""
    ended = stage.clock().replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=DAYS + 1)
    stage.pass_days(DAYS + 1)
    return ended


@pytest.mark.parametrize("settings", MODES, ids=lambda it: str(it))
def test_an_append_to_a_day_that_has_expired_is_refused_and_says_when_it_did(stage, settings):
    store = stage.store(**settings)
    session = stage.begin(store)
    stage.pass_days(DAYS)
    assert store.append(session, stage.event()).version == 2, "the day ended 30 days ago, less some hours"
    stage.clock.now -= timedelta(days=DAYS)
    ended = drop_day(stage)
    for opened in (store, stage.store(**settings)):  # one that knows the session, and one that does not
        with pytest.raises(InvalidInput) as refused:
            opened.append(session, stage.event())
        assert to_text(ended) in str(refused.value)
        assert session in str(refused.value)
        assert "30 days" in str(refused.value)
    with pytest.raises(InvalidInput, match="was created on"):
        stage.begin(store, session)
    assert store.state(session) is None
    assert list(store.events(session)) == []
    assert session not in {head.session_id for head, _ in store.sessions(SessionQuery())}


def test_a_session_of_a_day_that_has_not_expired_is_missing_as_before(stage):
    with pytest.raises(SessionNotFound):
        stage.store().append(stage.ids(stage.clock()), stage.event())


@pytest.mark.parametrize("settings", MODES, ids=lambda it: str(it))
def test_an_id_of_ones_own_can_be_used_again_once_its_day_has_expired(stage, settings):
    store, name = stage.store(**settings), f"own-{uuid.uuid4().hex}"
    stage.begin(store, name)
    drop_day(stage)
    with pytest.raises(InvalidInput, match="was created on"):
        stage.store(**settings).append(name, stage.event())
    reopened = stage.store(**settings)
    stage.begin(reopened, name)
    head, _ = reopened.state(name)
    assert (head.version, head.created_at) == (1, stage.clock())
    assert reopened.append(name, stage.event()).version == 2


@pytest.mark.parametrize("days", [None, 31.5, 300])
def test_a_session_that_would_outlive_its_rows_is_refused(stage, days):
    store = stage.store()
    with pytest.raises(InvalidInput, match="no end" if days is None else "would end at"):
        stage.begin(store, days=days)


def test_a_session_may_end_until_its_rows_are_dropped_and_an_ended_one_may_be_kept_as_long_as_they_are(stage):
    store = stage.store()
    assert stage.begin(store, days=30)
    assert stage.begin(store, days=None, status="completed")
    session = stage.begin(store)
    assert store.append(session, stage.event(stage.end(20))).version == 2
    for change in (stage.end(32), Change("expires_at", value=None), Change("expires_at", removed=True)):
        with pytest.raises(InvalidInput, match="Nothing was written"):
            store.append(session, stage.event(change))
    assert store.append(session, stage.event(Change("status", value="active"))).version == 3
    assert store.append(session, stage.event(stage.end(300), Change("status", value="completed"))).version == 4


def test_events_of_an_expired_day_or_without_an_end_are_not_ingested(stage):
    store = stage.store()
    old, present = (stage.ids(at) for at in (stage.clock() - timedelta(days=DAYS + 2), stage.clock()))
    title, ends = Change("title", value="t"), stage.end(1)

    def events(session_id: str, *changes: Change) -> list[Any]:
        created_at = created_at_of(session_id)
        return [recorded(1, 1, changes, session_id=session_id, at=created_at, created_at=created_at)]

    with pytest.raises(InvalidInput, match=f"{old} was created on"):
        store.ingest([*events(present, title, ends), *events(old, title, ends)])
    with pytest.raises(InvalidInput, match="no end"):
        store.ingest(events(present, title))
    assert store.state(present) is None
    assert store.ingest(events(present, title, ends)) == 1
    assert store.ingest(events(present, title, ends)) == 0


def test_a_relay_dead_letters_the_events_of_an_expired_day_with_the_reason_and_ships_the_others(
    stage: Stage, tmp_path: Path
):
    store = stage.open.enter_context(
        contextlib.closing(SqliteStore(tmp_path / "ledger.db", clock=stage.clock, ids=stage.ids))
    )
    warehouse = stage.warehouse()

    def sync() -> int:
        with contextlib.closing(relay_between(store, stage.warehouse(), clock=stage.clock)) as relay:
            return relay.sync()

    early = stage.begin(store, days=None)
    assert sync() == 1
    late = stage.begin(store, "own-id")
    ended = drop_day(stage)
    store.append(early, stage.event())
    present = stage.begin(store, days=None)
    assert sync() == 1, "a file keeps sessions without an end; they are shipped"
    outbox = outbox_of(store, f"bigquery://{stage.place.project}/{stage.place.name}")
    refused = {(it.session_id, it.version): it.reason for it in outbox.refused()}
    assert refused.keys() == {(early, 2), (late, 1)}
    assert all(to_text(ended) in reason for reason in refused.values())
    found = {row[0] for row in warehouse.query("SELECT session_id FROM session_events").rows}
    assert present in found
    assert not found & {early, late}
    assert outbox.redrive_event(None) == 3
    assert sync() == 0, "they are refused again"
    assert len(outbox.refused()) == 2
    assert [event.version for event in store.events(early)] == [1, 2], "the file has them"


@pytest.fixture
def ships(stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SessionLedger:
    """A ledger in a file that ships to the dataset."""
    for name, value in environment(stage.emulator).items():
        monkeypatch.setenv(name, value)
    return stage.open.enter_context(
        SessionLedger.open(
            f"sqlite:///{tmp_path}/ledger.db",
            warehouse=f"bigquery://{stage.place.project}/{stage.place.name}?retry_timeout=20",
            relay="off",
            clock=stage.clock,
            ids=stage.ids,
        )
    )


def test_a_session_whose_day_has_expired_in_the_warehouse_is_purged_with_its_dead_letters(stage, ships):
    old = ships.create_session("ada", "What?")
    ships.warehouse.sync()
    drop_day(stage)
    ships.delete_session(old)
    assert ships.warehouse.sync() == 0
    assert ships.warehouse.status().refused_events == 1
    assert ships.warehouse.retry() == 1
    stage.clock.move(1)
    maintained = ships.maintain(retention=timedelta(0))
    assert (maintained.deleted, maintained.held_up) == (0, 1), "what is requeued may reach the warehouse"
    ships.warehouse.sync()
    maintained = ships.maintain(retention=timedelta(0))
    assert (maintained.deleted, maintained.held_up, maintained.waiting) == (1, 0, 0)
    status = ships.warehouse.status()
    assert (status.refused_events, status.waiting_rows, ships.warehouse.refused()) == (0, 0, [])
    assert list(ships.store.rows_after(0, 100)) == []
    assert ships.verify().findings == ()


def test_sessions_of_expired_days_are_not_compared(stage, ships):
    ships.create_session("ada", "What?")
    ships.warehouse.sync()
    drop_day(stage)
    ships.create_session("bob", "Why?")
    ships.warehouse.sync()
    day = timedelta(days=1)
    compared = ComparedRows(stage.warehouse(), clock=stage.clock)
    found = reconcile(ships.warehouse.outbox, compared, stage.clock() - 100 * day, stage.clock() + day)
    assert (found.differences, found.sessions, found.rows, found.expired) == ((), 1, 2, 1)


def test_the_expiration_is_looked_up_once(stage):
    store = stage.store()
    stage.requests.seen.clear()
    stage.begin(store)  # the table is looked up again if it is new and cannot be written to yet
    assert stage.requests.seen.count("GET table") >= 1
    stage.requests.seen.clear()
    for _ in range(2):
        stage.begin(store)
    assert stage.requests.seen.count("GET table") == 0


def test_where_the_description_may_not_be_read_appends_go_on(stage):
    store = stage.store()
    stage.requests.hidden = True
    try:
        assert store.append(stage.begin(store, days=None), stage.event()).version == 2
    finally:
        stage.requests.hidden = False
