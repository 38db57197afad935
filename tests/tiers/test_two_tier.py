"""A store with a warehouse behind it keeps the contract, and reads from there the sessions that it does not hold."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ledger import (
    CapabilityMissing,
    Change,
    InvalidInput,
    SessionNotFound,
    StoreRejected,
    StoreUnavailable,
    UpcastMissing,
    WrongExpectedVersion,
)
from ledger.model.events import RecordedEvent
from ledger.model.upcast import Upcaster
from ledger.relay.loop import Relay
from ledger.stores.base import Capabilities, EventStore
from ledger.stores.sqlite.lease import holder_name
from ledger.stores.sqlite.store import SqliteStore
from ledger.testing import START, CountedIds, OpenStore, SetClock, StoreContract, event, event_id, uuid7
from ledger.testing.harness import ALL, begin, events_of
from ledger.tiers.local import local_tier
from ledger.tiers.store import TwoTierStore
from ledger.warehouse.answer import Answer
from ledger.warehouse.base import Warehouse
from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse
from ledger.warehouse.duckdb.sink import DuckDBSink
from ledger.warehouse.duckdb.warehouse import DuckDBWarehouse
from support.bigquery_stores import Datasets, environment

OWN_ID, UUID_ID = "their:é", uuid7(START, 77)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DuckDB warehouse without rows."""
    path = tmp_path_factory.mktemp("warehouse") / "empty.duckdb"
    DuckDBWarehouse(path).create()
    return path


@pytest.fixture
def open_store(tmp_path: Path, clock: SetClock, empty: Path) -> Iterator[OpenStore]:
    with ExitStack() as opened:

        def open_store(name: str) -> EventStore:
            ids = CountedIds(sum(name.encode()) * 1000)
            local = SqliteStore(tmp_path / f"{name}.db", clock=clock, ids=ids, synchronous="NORMAL")
            return opened.enter_context(closing(TwoTierStore(local, lambda: DuckDBWarehouse(empty))))

        yield open_store


@pytest.fixture
def open_backup(clock: SetClock) -> Iterator[Callable[[Path], EventStore]]:
    with ExitStack() as opened:
        yield lambda path: opened.enter_context(closing(SqliteStore(path, clock=clock, create=False)))


class TestTwoTierStore(StoreContract):
    capabilities = Capabilities(
        compare_and_append=True,
        gapless_versions=True,
        hash_chain=True,
        backup=True,
        commit_order=True,
        outbox=True,
        archive=True,
        purge=True,
        verify=True,
        seals=True,
        tiered=True,
        max_changes=1000,
        max_event_bytes=8_000_000,
    )


def live(store: EventStore, clock: SetClock, session_id: str) -> None:
    """A session of seven events, five messages (one replaced, one removed) and two times."""
    begin(store, session_id, Change("status", value="active"), Change("title", value="ä"))
    for number in range(1, 5):
        clock.move(number % 2)
        value = {"role": "user", "content": f"message {number}", "payload": {"b": [1.5, None], "a": number}}
        store.append(session_id, event(number, Change("message", f"m{number}", value)))
    again = Change("message", "m1", {"role": "assistant", "content": "instead"})
    store.append(session_id, event(5, again, Change("message", "m3", removed=True)))
    store.append(session_id, event(6, Change("title", removed=True), Change("context", "k", {"z": 1, "a": None})))


def in_order(event: RecordedEvent) -> RecordedEvent:
    """An event with its changes in one order: they have none of their own, and a warehouse sorts them."""
    return replace(event, changes=tuple(sorted(event.changes, key=lambda it: (it.field, it.key))))


def answers(
    store: EventStore,
    session_id: str,
    *,
    versions: Iterable[int] = range(1, 8),
    seconds: Iterable[float] = (-1, 0, 0.5, 1, 1.5, 2, 9),
    limits: Iterable[int] = (1, 2, 4, 100),
    pages_of_events: Iterable[tuple[int, int]] = ((0, 1000), (0, 3), (3, 4), (5, 1), (7, 10)),
) -> dict[str, Any]:
    """All that a store can be asked about one session."""
    told: dict[str, Any] = {}
    for with_messages in (False, True):
        told[f"now {with_messages}"] = store.state(session_id, with_messages=with_messages)
        for version in versions:
            told[f"at {version} {with_messages}"] = store.state(
                session_id, version=version, with_messages=with_messages
            )
        for second in seconds:
            at = START + timedelta(seconds=second)
            told[f"then {second} {with_messages}"] = store.state(session_id, at=at, with_messages=with_messages)
    for limit in limits:
        told[f"pages of {limit}"] = pages = []
        page = store.messages(session_id, after=None, limit=limit)
        while True:
            pages.append((list(page), page.next))
            if page.next is None:
                break
            page = store.messages(session_id, after=page.next, limit=limit)
        told[f"newest {limit}"] = list(store.messages(session_id, after=None, limit=limit, newest=True))
    for after, limit in pages_of_events:
        for upcast in (True, False):
            events = store.events(session_id, after=after, limit=limit, upcast=upcast)
            told[f"events {after} {limit} {upcast}"] = [in_order(it) for it in events], events.next
    told["versions"] = [store.version_of(session_id, event_id(number)) for number in range(9)]
    return told


class Behind:
    """A warehouse whose opening is counted, and which may be out of reach."""

    def __init__(self, path: Path) -> None:
        self.warehouse = DuckDBWarehouse(path)
        self.opened = 0
        self.closed = 0
        self.failure: Exception | None = None

    def open(self) -> Warehouse:
        self.opened += 1
        return self

    def create(self) -> None:
        raise AssertionError("reading creates nothing")

    def query(self, *args: Any, **more: Any) -> Answer:
        if self.failure is not None:
            raise self.failure
        return self.warehouse.query(*args, **more)

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def theirs(tmp_path: Path, clock: SetClock) -> Iterator[SqliteStore]:
    """The store that has the sessions."""
    with closing(SqliteStore(tmp_path / "theirs.db", clock=clock, synchronous="NORMAL")) as store:
        for session_id in (OWN_ID, UUID_ID):
            live(store, SetClock() if session_id == OWN_ID else clock, session_id)
        yield store


@pytest.fixture
def behind(theirs: SqliteStore, tmp_path: Path) -> Behind:
    """The warehouse that all their rows were shipped to."""
    found = Behind(tmp_path / "warehouse.duckdb")
    sink = DuckDBSink(found.warehouse, "duckdb:///x")
    with closing(Relay(theirs.outbox(sink.url), sink, holder=holder_name("t"))) as relay:
        relay.sync()
    return found


@pytest.fixture
def ours(tmp_path: Path, clock: SetClock, behind: Behind) -> Iterator[TwoTierStore]:
    """A store of our own, with a session that only we have, before the same warehouse."""
    local = SqliteStore(tmp_path / "ours.db", clock=clock, synchronous="NORMAL")
    with closing(TwoTierStore(local, behind.open)) as store:
        begin(store, "ours")
        yield store


@pytest.mark.duckdb
@pytest.mark.parametrize("session_id", [OWN_ID, UUID_ID])
def test_a_session_only_in_the_warehouse_is_read_as_from_the_store_that_has_it(
    ours: TwoTierStore, theirs: SqliteStore, behind: Behind, session_id: str
) -> None:
    told = answers(ours, session_id)
    assert told == answers(theirs, session_id)
    assert told["now False"] is not None
    assert len(told["newest 100"]) == 3
    assert told["versions"] == [1, 2, 3, 4, 5, 6, 7, None, None]
    assert behind.opened == 1


def test_a_version_that_a_session_in_the_warehouse_never_had_is_refused_as_here(
    ours: TwoTierStore, theirs: SqliteStore
) -> None:
    said = []
    for store in (theirs, ours):
        with pytest.raises(InvalidInput, match="versions 1 to 7; there is no version 8") as refused:
            store.state(OWN_ID, version=8)
        said.append(str(refused.value))
    assert said[0] == said[1]


def test_a_session_that_is_nowhere_is_not_there(ours: TwoTierStore, behind: Behind) -> None:
    nothing = answers(ours, "nope")
    assert nothing == answers(ours, uuid7(START, 5))
    assert {repr(it) for name, it in nothing.items() if name.startswith(("now", "at", "then"))} == {"None"}
    assert nothing["events 0 1000 True"] == ([], None)
    assert nothing["newest 100"] == []
    assert nothing["versions"] == [None] * 9
    assert behind.opened == 1


def test_sessions_that_are_here_never_open_the_warehouse(ours: TwoTierStore, behind: Behind) -> None:
    assert ours.rehydrate("ours") == 0
    answers_of_one_event = {
        "before it began": ours.state("ours", at=START - timedelta(days=1)),
        "messages": list(ours.messages("ours", after=None, limit=5)),
        "newest": list(ours.messages("ours", after=None, limit=5, newest=True)),
        "events beyond the last": list(ours.events("ours", after=1)),
        "version of an event it has not": ours.version_of("ours", event_id(99)),
    }
    assert [it for it in answers_of_one_event.values() if it] == []
    assert ours.version_of("ours", event_id(0)) == 1
    with pytest.raises(InvalidInput, match="no version 2"):
        ours.state("ours", version=2)
    live(ours, SetClock(), "another of ours")
    assert len(ours.sessions(ALL)) == 2
    assert behind.opened == 0


def test_only_a_store_that_ships_archives_and_purges_can_be_the_local_tier(ours: TwoTierStore, tmp_path: Path) -> None:
    class Other:
        def __init__(self, capabilities: Capabilities) -> None:
            self.capabilities = capabilities

    with closing(SqliteStore(tmp_path / "plain.db")) as plain:
        assert local_tier(plain) is plain
        lacking = [replace(plain.capabilities, **{name: False}) for name in ("outbox", "archive", "purge")]
    for store in (ours, *map(Other, lacking)):
        with pytest.raises(CapabilityMissing, match="only a ledger in a SQLite file"):
            local_tier(store)


@pytest.mark.duckdb
def test_an_event_of_a_newer_schema_is_not_read_from_the_warehouse_as_if_it_were_of_this_one(
    theirs: SqliteStore, ours: TwoTierStore, behind: Behind, tmp_path: Path
) -> None:
    with closing(SqliteStore(tmp_path / "newer.db", upcaster=Upcaster(2, {1: lambda it: it}))) as newer:
        begin(newer, "newer")
        sink = DuckDBSink(behind.warehouse, "duckdb:///x")
        with closing(Relay(newer.outbox(sink.url), sink, holder=holder_name("n"))) as relay:
            relay.sync()
    assert [it.schema_version for it in ours.events("newer", upcast=False)] == [2]
    for ask in (lambda: ours.events("newer"), lambda: ours.state("newer"), lambda: ours.state("newer", version=1)):
        with pytest.raises(UpcastMissing):
            ask()


def test_what_cannot_be_asked_never_opens_the_warehouse(ours: TwoTierStore, behind: Behind) -> None:
    for ask in (
        lambda: ours.state(""),
        lambda: ours.state("nope", version=1, at=START),
        lambda: ours.messages("nope", after="x", limit=5),
        lambda: ours.events("nope", limit=0),
        lambda: ours.version_of("nope", ""),
    ):
        with pytest.raises(InvalidInput):
            ask()
    assert behind.opened == 0


def test_an_append_to_a_session_only_in_the_warehouse_is_refused_and_nothing_is_opened(
    ours: TwoTierStore, behind: Behind
) -> None:
    rows = list(ours.rows_after(0, 100))
    for expected in (-1, 7, 3, 0):
        with pytest.raises(SessionNotFound, match="hydrate it with hydrate_session") as refused:
            ours.append(OWN_ID, event(20), expected_version=expected)
        assert refused.value.session_id == OWN_ID
    assert list(ours.rows_after(0, 100)) == rows
    assert behind.opened == 0


def test_a_wrong_version_of_a_session_that_is_here_stays_one(ours: TwoTierStore) -> None:
    with pytest.raises(WrongExpectedVersion) as wrong:
        ours.append("ours", event(20), expected_version=7)
    assert wrong.value.actual == 1


def test_lists_and_rows_are_those_of_this_store(ours: TwoTierStore, theirs: SqliteStore) -> None:
    ours.state(OWN_ID)
    assert [head.session_id for head, _ in ours.sessions(ALL)] == ["ours"]
    assert {row[1] for row in ours.rows_after(0, 100)} == {"ours"}
    assert ours.store_id != theirs.store_id


def test_events_brought_in_are_read_from_here_from_then_on(
    ours: TwoTierStore, theirs: SqliteStore, behind: Behind
) -> None:
    assert ours.ingest(ours.events(OWN_ID, upcast=False)) == 7
    behind.failure = StoreUnavailable("not looked at")
    assert [in_order(it) for it in events_of(ours, OWN_ID)] == [in_order(it) for it in events_of(theirs, OWN_ID)]
    assert ours.append(OWN_ID, event(20)).version == 8


def test_a_warehouse_out_of_reach_is_no_missing_session_and_no_hindrance_to_those_here(
    ours: TwoTierStore, behind: Behind
) -> None:
    behind.failure = StoreUnavailable("The warehouse is out of reach.")
    for ask in (
        lambda: ours.state(OWN_ID),
        lambda: ours.state("nope"),
        lambda: ours.state(UUID_ID, version=3),
        lambda: ours.state(UUID_ID, at=START),
        lambda: ours.messages(OWN_ID, after=None, limit=5),
        lambda: ours.events(OWN_ID),
        lambda: ours.version_of(OWN_ID, event_id(0)),
    ):
        with pytest.raises(StoreUnavailable, match="out of reach"):
            ask()
    assert ours.append("ours", event(1)).version == 2
    assert len(ours.events("ours")) == 2
    behind.failure = None
    assert ours.state(OWN_ID) is not None


def test_a_warehouse_that_could_not_be_opened_is_opened_the_next_time(
    tmp_path: Path, clock: SetClock, behind: Behind
) -> None:
    def out_of_reach() -> Warehouse:
        raise StoreUnavailable("The warehouse is out of reach.")

    tries = [behind.open, out_of_reach]
    local = SqliteStore(tmp_path / "ours.db", clock=clock)
    with closing(TwoTierStore(local, lambda: tries.pop()())) as store:
        with pytest.raises(StoreUnavailable):
            store.state(OWN_ID)
        assert store.state(OWN_ID) is not None
        assert store.state(UUID_ID) is not None
    assert tries == []


def test_threads_that_miss_at_once_open_the_warehouse_once(ours: TwoTierStore, behind: Behind) -> None:
    ready = threading.Barrier(8)

    def read(number: int) -> object:
        ready.wait(timeout=60)
        return ours.state((OWN_ID, UUID_ID)[number % 2])

    with ThreadPoolExecutor(8) as threads:
        assert None not in list(threads.map(read, range(8)))
    assert behind.opened == 1


def test_closing_closes_both_once_and_opens_neither(tmp_path: Path, behind: Behind, ours: TwoTierStore) -> None:
    unused = TwoTierStore(SqliteStore(tmp_path / "unused.db"), behind.open)
    unused.close()
    assert (behind.opened, behind.closed) == (0, 0)
    ours.state(OWN_ID)
    ours.close()
    ours.close()
    assert (behind.opened, behind.closed) == (1, 1)
    with pytest.raises(StoreRejected, match="closed"):
        ours.state(OWN_ID)


@pytest.mark.parametrize("look", ["state", "pending_deletion"])
def test_a_store_closed_while_a_read_misses_opens_no_warehouse(
    tmp_path: Path, behind: Behind, monkeypatch: pytest.MonkeyPatch, look: str
) -> None:
    local = SqliteStore(tmp_path / "ours.db")
    store = TwoTierStore(local, behind.open)
    there = getattr(local, look)

    def closing_meanwhile(*args: Any, **more: Any) -> Any:
        found = there(*args, **more)
        if args == ("nope",) and not more:  # the second look
            store.close()
        return found

    monkeypatch.setattr(local, look, closing_meanwhile)
    with pytest.raises(StoreRejected, match="closed"):
        store.state("nope")
    assert behind.opened == 0


def test_the_file_and_the_outbox_are_those_of_the_embedded_store(ours: TwoTierStore, tmp_path: Path) -> None:
    assert ours.path == tmp_path / "ours.db"
    assert ours.outbox("duckdb:///x").last_seq() == 1
    assert not hasattr(ours, "warehouse")  # which would say that the store is itself in one


FORK = """
import os, sys
from ledger.stores.sqlite.store import SqliteStore
from ledger.tiers.store import TwoTierStore
from ledger.warehouse.answer import Answer

class Warehouse:
    def __init__(self):
        self.process = os.getpid()
    def query(self, sql, parameters=None, *, operation="query"):
        assert os.getpid() == self.process, "of another process"
        return Answer((), [])
    def close(self):
        assert os.getpid() == self.process, "of another process"

store = TwoTierStore(SqliteStore(sys.argv[1]), Warehouse)
store.state("nope")
pid = os.fork()
store.state("nope")
store.close()
if pid:
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    print("done")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="fork")
def test_a_forked_child_opens_a_warehouse_of_its_own(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FORK, str(tmp_path / "l.db")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("done\n", "")


@pytest.mark.emulator
@pytest.mark.slow
@pytest.mark.parametrize(("strict", "session_id"), [(False, OWN_ID), (True, UUID_ID)], ids=["lenient", "strict"])
def test_a_session_of_a_ledger_in_bigquery_is_read_as_that_ledger_reads_it(
    emulator: Any, datasets: Datasets, tmp_path: Path, clock: SetClock, strict: bool, session_id: str
) -> None:
    asked: dict[str, Any] = {
        "versions": (1, 5, 7),
        "seconds": (-1, 0, 1.5, 9),
        "limits": (2, 100),
        "pages_of_events": ((0, 3), (3, 4), (7, 10)),
    }
    with datasets.stores(clock, strict=strict) as open_store:
        remote = open_store("main")
        live(remote, SetClock(), session_id)

        def open_warehouse() -> Warehouse:
            return BigQueryWarehouse(remote.dataset, environment=environment(emulator))

        with closing(TwoTierStore(SqliteStore(tmp_path / "ours.db", clock=clock), open_warehouse)) as ours:
            told = answers(ours, session_id, **asked)
            assert told["versions"] == [1, 2, 3, 4, 5, 6, 7, None, None]
            assert told == answers(remote, session_id, **asked)
            assert ours.state("nope") is None
