"""A store compared with its warehouse: what is found, what repair mends, and what is no difference."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, Phase, given, settings

import histories as h
from bigquery_stores import Datasets, environment
from ledger.errors import StoreUnavailable
from ledger.model.events import Change, RecordedEvent
from ledger.model.integrity import verify
from ledger.relay import reconcile as module
from ledger.relay.base import LeaseHeld
from ledger.relay.opening import outbox_of, relay_between, sink_of
from ledger.relay.reconcile import Difference, Reconciliation, Repaired, reconcile, repair
from ledger.relay.traces import NOTHING, Fingerprint, SessionKey, Trace, fingerprint
from ledger.stores.sqlite import SqliteStore
from ledger.stores.sqlite_outbox import SqliteOutbox
from ledger.testing import START, CountedIds, SetClock
from ledger.testing import event as new_event
from ledger.warehouse import catalog
from ledger.warehouse.base import Answer, Parameters, Warehouse
from ledger.warehouse.duckdb import DuckDBWarehouse
from sql_targets import ROW, OnDuckDB

FROM = datetime(START.year, START.month, START.day, tzinfo=UTC)
UNTIL = FROM + timedelta(days=1)
EVER = datetime(2020, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)


@dataclass
class Ledger:
    """A store in a file and the warehouse that it is shipped to."""

    path: Path
    warehouse: Warehouse
    clock: SetClock = field(default_factory=SetClock)
    ids: CountedIds = field(default_factory=CountedIds)

    @contextlib.contextmanager
    def opened(self) -> Iterator[SqliteStore]:
        with contextlib.closing(SqliteStore(self.path, clock=self.clock, ids=self.ids)) as store:
            yield store

    def outbox(self, store: SqliteStore) -> SqliteOutbox:
        return outbox_of(store, sink_of(self.warehouse).url)

    def append(self, *numbers: int, session: str = "s") -> None:
        """Events of two changes each; the numbers are their identities."""
        with self.opened() as store:
            for number in numbers:
                changes = Change("title", value=f"t{number}"), Change("context", "k", {"n": number})
                store.append(session, new_event(number, *changes, user_id="ada"))

    def sync(self) -> int:
        with self.opened() as store, contextlib.closing(relay_between(store, self.warehouse)) as relay:
            return relay.sync()

    def compare(self, created_from: datetime = FROM, created_until: datetime = UNTIL) -> Reconciliation:
        with self.opened() as store:
            return reconcile(self.outbox(store), self.warehouse, created_from, created_until)

    def differences(self) -> list[Difference]:
        return list(self.compare().differences)

    def repair(self) -> Repaired:
        """What was found is mended, and what the warehouse lacks is shipped."""
        with self.opened() as store:
            outbox = self.outbox(store)
            found = reconcile(outbox, self.warehouse, FROM, UNTIL)
            return repair(found, outbox, store, self.warehouse, holder="here/1/repair")

    def backup(self, path: Path) -> Ledger:
        """The ledger as it will be when it is restored from a backup that is made now."""
        with self.opened() as store:
            store.backup(path)
        return replace(self, path=path, ids=CountedIds(1000))

    def count(self) -> tuple[int, int]:
        """Rows in the warehouse, and how many of them differ."""
        slots = "COUNT(DISTINCT CONCAT(session_id, '/', event_id, '/', field, '/', key))"
        rows = self.warehouse.query(f"SELECT COUNT(*) AS n, {slots} AS slots FROM session_events").rows
        return rows[0][0], rows[0][1]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.db", DuckDBWarehouse(tmp_path / "ledger.duckdb"))


@pytest.fixture
def by_hand(ledger: Ledger) -> Callable[[str], None]:
    """Changes the warehouse's file, as nobody should."""

    def execute(sql: str) -> None:
        with duckdb.connect(str(ledger.warehouse.path)) as connection:  # type: ignore[attr-defined]
            connection.execute(sql)

    return execute


@pytest.fixture
def shipped(ledger: Ledger) -> Ledger:
    """Sessions s, of events 1 to 3, and t, of event 4, that have arrived: eight rows."""
    ledger.append(1, 2, 3)
    ledger.append(4, session="t")
    assert ledger.sync() == 8
    return ledger


def test_nothing_is_found_after_a_sync(shipped):
    assert shipped.compare() == Reconciliation(
        created_from=FROM,
        created_until=UNTIL,
        sessions=2,
        rows=8,
        differences=(),
        elsewhere=(),
        waiting_rows=0,
        refused_events=0,
    )


def test_nothing_is_found_where_there_is_nothing(ledger):
    assert (ledger.compare().sessions, ledger.differences()) == (0, [])


def test_an_erased_value_is_no_difference(shipped, by_hand):
    by_hand("UPDATE session_events SET value = NULL, value_salt = NULL WHERE version = 1")
    assert shipped.differences() == []


@pytest.mark.parametrize(
    ("where", "missing"),
    [
        ("session_id = 's' AND version = 2 AND field = 'title'", {"s": (3,)}),
        ("session_id = 's' AND version = 2", {"s": (3, 4)}),
        ("session_id = 's' AND version = 3", {"s": (5, 6)}),
        ("session_id = 't'", {"t": (7, 8)}),
        ("field = 'title'", {"s": (1, 3, 5), "t": (7,)}),
        ("TRUE", {"s": (1, 2, 3, 4, 5, 6), "t": (7, 8)}),
    ],
    ids=["a row", "an event", "the last event", "a session", "a row of each", "all"],
)
def test_what_is_missing_in_the_warehouse_is_found_and_sent_once(shipped, by_hand, where, missing):
    by_hand(f"DELETE FROM session_events WHERE {where}")
    assert {each.session_id: each.missing for each in shipped.differences()} == missing
    number = sum(map(len, missing.values()))
    assert shipped.repair() == Repaired(number, 0, {})
    assert shipped.differences() == [], "what was asked for waits, and is no difference"
    assert shipped.compare().waiting_rows == number
    assert shipped.sync() == number
    assert shipped.count() == (8, 8)
    assert shipped.differences() == []


def test_what_is_asked_for_twice_is_sent_once(shipped, by_hand):
    by_hand("DELETE FROM session_events WHERE version = 2")
    with shipped.opened() as store:
        outbox = shipped.outbox(store)
        found = reconcile(outbox, shipped.warehouse, FROM, UNTIL)
        repair(found, outbox, store, shipped.warehouse, holder="a")
    assert shipped.sync() == 2
    with shipped.opened() as store:  # what was found then is no longer so
        repair(found, shipped.outbox(store), store, shipped.warehouse, holder="a")
    assert shipped.sync() == 0
    assert shipped.count() == (8, 8)


def test_a_row_that_is_there_twice_is_told_and_left(shipped, by_hand):
    by_hand("INSERT INTO session_events SELECT * FROM session_events WHERE version = 2 AND field = 'title'")
    expected = [Difference("s", START, 3, 3, doubled=1)]
    assert shipped.differences() == expected
    assert shipped.repair() == Repaired(0, 0, {})
    assert shipped.sync() == 0
    assert shipped.differences() == expected


@pytest.mark.parametrize(
    "change",
    [
        "event_hash = 'x'",
        "event_hash = NULL",
        "value_hash = 'x'",
        "version = 7",
    ],
)
def test_a_changed_row_is_told_and_left(shipped, by_hand, change):
    by_hand(f"UPDATE session_events SET {change} WHERE session_id = 's' AND version = 2 AND field = 'title'")
    (found,) = shipped.differences()
    assert replace(found, version_there=3) == Difference("s", START, 3, 3, changed=1)
    assert shipped.repair() == Repaired(0, 0, {})
    assert shipped.sync() == 0
    assert shipped.differences() == [found]


def test_a_row_that_is_there_as_it_was_and_changed_is_both_doubled_and_changed(shipped, by_hand):
    by_hand(
        "INSERT INTO session_events SELECT * REPLACE ('x' AS event_hash) FROM session_events "
        "WHERE session_id = 's' AND version = 2 AND field = 'title'"
    )
    assert shipped.differences() == [Difference("s", START, 3, 3, changed=1, doubled=1)]


# A store that was restored from a backup.


def events_of(ledger: Ledger, session: str) -> list[RecordedEvent]:
    """As they are recorded; the order of an event's changes is nothing."""
    with ledger.opened() as store:
        events = store.events(session, upcast=False)
    return [replace(it, changes=tuple(sorted(it.changes, key=lambda change: change.field))) for it in events]


def test_a_restored_store_gets_its_events_back_and_ships_none_of_them_twice(shipped, tmp_path):
    restored = shipped.backup(tmp_path / "restored.db")
    shipped.append(5, 6)
    shipped.append(7, session="new")
    assert shipped.sync() == 6
    assert restored.differences() == [
        Difference("new", START, 0, 1, unknown=2),
        Difference("s", START, 3, 5, unknown=4),
    ]
    assert restored.repair() == Repaired(0, 3, {})
    assert restored.differences() == []
    assert restored.sync() == 0
    for session in ("s", "t", "new"):
        assert events_of(restored, session) == events_of(shipped, session)
        verify(events_of(restored, session))
    restored.append(8)
    assert restored.sync() == 2
    assert restored.count() == (16, 16)
    assert restored.differences() == []


def test_a_restored_store_that_was_shipped_since_gets_its_events_back_and_ships_none_twice(shipped, tmp_path):
    restored = shipped.backup(tmp_path / "restored.db")
    shipped.append(5, 6)
    shipped.sync()
    restored.append(7, session="t")
    assert restored.sync() == 2, "from now on store and warehouse agree on what was shipped last"
    assert restored.differences() == [Difference("s", START, 3, 5, unknown=4)]
    assert restored.repair() == Repaired(0, 2, {})
    restored.append(8)
    assert restored.sync() == 2
    assert restored.count() == (16, 16)
    assert restored.differences() == []
    assert [event.version for event in events_of(restored, "s")] == [1, 2, 3, 4, 5, 6]


def test_a_new_file_in_place_of_a_lost_one_takes_nothing_that_another_store_wrote(shipped, tmp_path):
    empty = replace(shipped, path=tmp_path / "empty.db", ids=CountedIds(5000))
    found = empty.compare()
    assert (found.sessions, found.differences, found.elsewhere) == (0, (), ())
    assert empty.repair() == Repaired(0, 0, {})


def test_a_session_that_went_on_here_and_there_is_told_and_left(shipped, tmp_path):
    restored = shipped.backup(tmp_path / "restored.db")
    shipped.append(5, 6)
    shipped.sync()
    restored.append(7)
    expected = [Difference("s", START, 4, 5, unknown=4, diverged=True)]
    assert restored.differences() == expected
    before = events_of(restored, "s")
    assert restored.repair() == Repaired(0, 0, {})
    assert events_of(restored, "s") == before
    assert restored.sync() == 2
    assert restored.differences() == expected


def test_events_that_do_not_follow_the_stores_own_are_not_brought_back(shipped, by_hand, tmp_path):
    restored = shipped.backup(tmp_path / "restored.db")
    shipped.append(5)
    shipped.sync()
    by_hand("DELETE FROM session_events WHERE version = 4 AND field = 'title'")
    (found,) = restored.differences()
    assert found == Difference("s", START, 3, 4, unknown=1)
    repaired = restored.repair()
    assert repaired.events == 0
    assert "not what was recorded" in repaired.left["s"]
    assert restored.differences() == [found]


def test_an_id_that_the_index_knows_from_another_time_brings_nothing_back(shipped, by_hand, tmp_path):
    restored = shipped.backup(tmp_path / "restored.db")
    shipped.append(5, session="new")
    shipped.sync()
    by_hand("INSERT INTO session_index VALUES ('new', TIMESTAMP '2026-03-01', 'bob')")
    repaired = restored.repair()
    assert repaired.events == 0
    assert "finds another session" in repaired.left["new"]


def test_of_two_sessions_that_began_with_one_id_on_one_day_the_stores_own_is_brought_back(shipped, tmp_path):
    other = replace(shipped, path=tmp_path / "other.db", clock=SetClock(), ids=CountedIds(5000))
    other.clock.move(-60)
    other.append(1, session="new")
    other.sync()
    restored = shipped.backup(tmp_path / "restored.db")
    shipped.append(5, 6, session="new")
    shipped.sync()
    assert restored.differences() == [Difference("new", START, 0, 2, unknown=4)]
    assert restored.repair() == Repaired(0, 2, {})
    assert events_of(restored, "new") == events_of(shipped, "new")
    assert restored.sync() == 0
    assert restored.differences() == other.differences() == []


def test_what_follows_a_changed_row_is_not_brought_back(shipped, by_hand, tmp_path):
    restored = shipped.backup(tmp_path / "restored.db")
    shipped.append(5)
    shipped.sync()
    by_hand("UPDATE session_events SET value_hash = 'x' WHERE session_id = 's' AND version = 1 AND field = 'title'")
    expected = [Difference("s", START, 3, 4, unknown=2, changed=1)]
    assert restored.differences() == expected
    assert restored.repair() == Repaired(0, 0, {})
    assert restored.differences() == expected


def test_what_was_lost_and_what_is_missing_are_mended_at_once(shipped, by_hand, tmp_path):
    restored = shipped.backup(tmp_path / "restored.db")
    shipped.append(5)
    shipped.sync()
    by_hand("DELETE FROM session_events WHERE version = 2 AND field = 'title'")
    assert restored.differences() == [Difference("s", START, 3, 4, missing=(3,), unknown=2)]
    assert restored.repair() == Repaired(1, 1, {})
    assert restored.sync() == 1
    assert restored.count() == (10, 10)
    assert restored.differences() == []


def test_while_a_relay_ships_nothing_is_brought_back_and_what_is_missing_is_asked_for(shipped, by_hand, tmp_path):
    restored = shipped.backup(tmp_path / "restored.db")
    shipped.append(5)
    shipped.sync()
    by_hand("DELETE FROM session_events WHERE session_id = 't'")
    with restored.opened() as store:
        outbox = restored.outbox(store)
        position = outbox.take("elsewhere/1/x", 60)
        found = reconcile(outbox, restored.warehouse, FROM, UNTIL)
        with pytest.raises(LeaseHeld, match=r"elsewhere/1 ships .* repair again"):
            repair(found, outbox, store, restored.warehouse, holder="here/1/x")
        assert len(outbox.asked(10, max_bytes=1_000_000)) == 2
        assert outbox.position() == position
    assert [event.version for event in events_of(restored, "s")] == [1, 2, 3]


def test_a_repair_that_was_cut_short_makes_nothing_ship_twice(shipped, tmp_path, monkeypatch):
    restored = shipped.backup(tmp_path / "restored.db")
    shipped.append(5, 6)
    shipped.append(7, session="t")
    shipped.sync()
    restored.append(8, session="u")
    restored.sync()
    ingest = SqliteStore.ingest

    def cut_short(store: SqliteStore, events: Any) -> int:
        ingest(store, events)
        raise StoreUnavailable("The power went.")

    monkeypatch.setattr(SqliteStore, "ingest", cut_short)
    with pytest.raises(StoreUnavailable, match="The power went"):
        restored.repair()
    monkeypatch.undo()
    restored.append(9, session="u")
    assert restored.sync() == 2
    assert restored.count() == (18, 18)
    assert restored.repair() == Repaired(0, 1, {})
    assert restored.sync() == 0
    assert restored.count() == (18, 18)
    assert restored.differences() == []
    with restored.opened() as store:
        outbox = restored.outbox(store)
        assert outbox.position().unsure_upto <= outbox.last_seq(), "rows to come are not asked about"


# What is no difference.


def test_rows_that_wait_are_no_difference(shipped):
    shipped.append(5)
    shipped.append(6, session="new")
    found = shipped.compare()
    assert (found.sessions, found.rows, found.differences, found.waiting_rows) == (3, 8, (), 4)


def test_rows_that_were_refused_are_no_difference(shipped, by_hand):
    by_hand("DELETE FROM session_events WHERE session_id = 't'")
    with shipped.opened() as store:
        outbox = shipped.outbox(store)
        outbox.save(outbox.take("here/1/x", 60), aside={7: "unfit", 8: "unfit"})
    found = shipped.compare()
    assert (found.differences, found.refused_events, found.rows) == ((), 1, 6)


def test_the_sessions_of_other_stores_are_none_of_ours(shipped, tmp_path):
    other = replace(shipped, path=tmp_path / "other.db", clock=SetClock(), ids=CountedIds(5000))
    other.append(1, session="theirs")
    other.clock.move(5)
    other.append(2, session="s")  # the same id, begun at another time
    assert other.sync() == 4
    for ledger, sessions in ((shipped, 2), (other, 2)):
        found = ledger.compare()
        assert (found.sessions, found.differences, found.elsewhere) == (sessions, (), ())


def taken_over(ledger: Ledger, path: Path) -> Ledger:
    """Another store, which has taken session s over."""
    other = replace(ledger, path=path, ids=CountedIds(5000))
    with other.opened() as store:
        store.ingest(events_of(ledger, "s"))
        outbox = other.outbox(store)
        position = outbox.take("here/1/x", 60)  # what is in the warehouse already is asked about before it is sent
        outbox.save(replace(position, unsure_upto=outbox.last_seq()))
        outbox.give_back(position)
    return other


def test_a_session_that_another_store_took_over_is_told_and_is_no_difference(shipped, tmp_path):
    other = taken_over(shipped, tmp_path / "other.db")
    other.append(5)
    assert other.sync() == 2
    found = shipped.compare()
    assert (found.differences, found.elsewhere) == ((), (SessionKey("s", START),))
    assert shipped.repair() == Repaired(0, 0, {})
    assert other.differences() == []


def test_a_session_that_went_on_in_two_stores_has_diverged_for_both(shipped, tmp_path):
    other = taken_over(shipped, tmp_path / "other.db")
    other.append(5)
    other.sync()
    shipped.append(6)
    shipped.sync()
    for ledger in (shipped, other):
        found = ledger.compare()
        assert found.differences == (Difference("s", START, 4, 4, unknown=2, diverged=True),)
        assert found.elsewhere == ()


def test_only_sessions_created_on_the_days_are_compared(shipped, by_hand):
    by_hand("DELETE FROM session_events")
    day = timedelta(days=1)
    assert shipped.compare(FROM - day, UNTIL - day).sessions == 0
    assert shipped.compare(FROM + day, UNTIL + day).sessions == 0
    assert shipped.compare(START + timedelta(microseconds=1), UNTIL).sessions == 0
    assert shipped.compare(START, START + timedelta(microseconds=1)).sessions == 2


def test_sessions_are_compared_page_by_page_and_part_by_part(ledger, by_hand, monkeypatch):
    monkeypatch.setattr("ledger.stores.sqlite_traces.PAGE", 2)
    for number in range(7):
        ledger.append(number, session=f"s{number}")
        ledger.clock.move(number % 2)
    ledger.sync()
    by_hand("DELETE FROM session_events WHERE field = 'title'")
    expected = {f"s{number}": (2 * number + 1,) for number in range(7)}
    for sessions, rows in ((500, 200_000), (2, 200_000), (500, 1), (500, 5)):
        monkeypatch.setattr(module, "SESSIONS_AT_ONCE", sessions)
        monkeypatch.setattr(module, "ROWS_AT_ONCE", rows)
        found = ledger.compare()
        assert found.sessions == 7
        assert {each.session_id: each.missing for each in found.differences} == expected
        assert [each.session_id for each in found.differences] == sorted(expected)


# A relay that ships meanwhile.


class Meanwhile:
    """A warehouse to which something happens before, or after, it answers one question."""

    def __init__(self, warehouse: Warehouse, name: str, happens: Callable[[], object], *, after: bool) -> None:
        self._warehouse = warehouse
        self._name = name
        self._happens = happens
        self._after = after

    def query(self, sql: str, parameters: Parameters | None = None, *, operation: str = "query") -> Answer:
        if operation == self._name and not self._after:
            self._happens()
        answer = self._warehouse.query(sql, parameters, operation=operation)
        if operation == self._name and self._after:
            self._happens()
        return answer


MOMENTS = pytest.mark.parametrize(
    ("name", "after"), [(name, after) for name in ("reconcile_sessions", "reconcile_rows") for after in (False, True)]
)


@MOMENTS
def test_what_a_relay_ships_meanwhile_is_no_difference(shipped, by_hand, name, after):
    by_hand("INSERT INTO session_events SELECT * FROM session_events WHERE session_id = 's' AND version = 2")

    def happens() -> None:
        shipped.append(5)
        shipped.append(6, session="t")
        shipped.append(7, session="new")
        shipped.sync()

    with shipped.opened() as store:
        meanwhile: Any = Meanwhile(shipped.warehouse, name, happens, after=after)
        found = reconcile(shipped.outbox(store), meanwhile, FROM, UNTIL)
    (difference,) = found.differences
    assert replace(difference, version_here=0, version_there=0) == Difference("s", START, 0, 0, doubled=2)


@MOMENTS
@pytest.mark.parametrize("first", ["ask", "send"])
def test_what_is_asked_for_and_sent_again_meanwhile_is_no_difference(shipped, by_hand, name, after, first):
    by_hand("INSERT INTO session_events SELECT * FROM session_events WHERE session_id = 's' AND version = 2")
    by_hand("DELETE FROM session_events WHERE session_id = 's' AND version = 1")
    with shipped.opened() as store:
        outbox = shipped.outbox(store)
        if first == "send":
            outbox.ask_for({1: "lacking", 2: "lacking"})
        happens = shipped.sync if first == "send" else lambda: outbox.ask_for({1: "lacking", 2: "lacking"})
        meanwhile: Any = Meanwhile(shipped.warehouse, name, happens, after=after)
        found = reconcile(outbox, meanwhile, FROM, UNTIL)
    assert found.differences == (Difference("s", START, 3, 3, doubled=2),)


# Both sides tell the same of the same rows.


def traces_of(rows: list[tuple[Any, ...]]) -> list[Trace]:
    return [Trace(*(row[ROW.index(column)] for column in Trace._fields)) for row in rows]


def told_by(warehouse: Any, store_id: str = "store") -> dict[SessionKey, tuple[Fingerprint, bool]]:
    parameters = {"created_from": EVER[0], "created_until": EVER[1], "store_id": store_id}
    rows = warehouse.query(catalog.query("reconcile_sessions"), parameters).rows
    return {SessionKey(*row[:2]): (Fingerprint(*row[2:6]), row[6]) for row in rows}


def told_of(items: list[h.History]) -> dict[SessionKey, tuple[Fingerprint, bool]]:
    return {
        SessionKey(item.session_id, item.events[0].created_at): (
            fingerprint(traces_of(h.rows_of(item.events))),
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


def test_store_and_duckdb_tell_the_same_of_every_history(tmp_path):
    warehouse = OnDuckDB(tmp_path)
    path = tmp_path / "ledger.db"
    store = SqliteStore(path, clock=SetClock(), ids=CountedIds())

    def load(rows: list[tuple[Any, ...]]) -> None:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            for table in ("session_events", "session_heads"):
                connection.execute(f"DELETE FROM {table}")
            marks = ", ".join("?" * (len(ROW) + 1))
            connection.executemany(f"INSERT INTO session_events (seq, {', '.join(ROW)}) VALUES ({marks})", rows)
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
        assert dict(outbox.fingerprints(*EVER, upto=len(rows))) == {
            session: told for session, (told, _) in expected.items()
        }
        part = dict(outbox.fingerprints(*EVER, upto=len(rows) // 2))
        for session in expected:
            some = [row[1:] for row in rows[: len(rows) // 2] if row[1] == session.session_id]
            assert part[session] == fingerprint(traces_of(some))

    with contextlib.closing(store):
        check()


def test_the_order_of_rows_is_nothing_and_all_else_counts():
    rows = [Trace(1, "e", "title", "", "h", "v"), Trace(1, "e", "context", "k", "h", None)]
    told = fingerprint(rows)
    assert (told.rows, told.slots, told.version) == (2, 2, 1)
    assert fingerprint(reversed(rows)) == told
    assert fingerprint([]) == NOTHING
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
    ]
    digests = {fingerprint([other, rows[1]]).digest for other in others}
    assert len(digests | {told.digest, fingerprint(rows[:1]).digest, fingerprint([*rows, rows[0]]).digest}) == 12


# BigQuery, on the emulator.


@pytest.fixture(scope="module")
def datasets(emulator: Any) -> Iterator[Datasets]:
    made = Datasets(emulator, "reconcile")
    yield made
    made.drop()


@pytest.fixture
def bigquery(emulator: Any, datasets: Datasets, tmp_path: Path) -> Iterator[Ledger]:
    """A ledger that is shipped to BigQuery; each relay opens the dataset for itself."""
    from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse

    with datasets.emptied("shipped") as place:
        opened: list[BigQueryWarehouse] = []

        class Shipped(Ledger):
            def sync(self) -> int:
                opened.append(BigQueryWarehouse(place, environment=environment(emulator)))
                with self.opened() as store, contextlib.closing(relay_between(store, opened[-1])) as relay:
                    return relay.sync()

        with contextlib.closing(BigQueryWarehouse(place, environment=environment(emulator))) as warehouse:
            yield Shipped(tmp_path / "ledger.db", warehouse)


def test_bigquery_tells_the_same_of_a_history(emulator: Any, datasets: Datasets) -> None:
    from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse
    from ledger.warehouse.rows import record_batch

    @settings(
        max_examples=3, deadline=None, phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck)
    )
    @given(items=h.histories(sessions=3))
    def check(items: list[h.History]) -> None:
        items = mixed(items)
        with (
            datasets.emptied("told") as place,
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
    assert restored.differences() == [Difference("s", START, 2, 3, missing=(3,), unknown=2)]
    assert restored.repair() == Repaired(1, 1, {})
    assert restored.sync() == 1
    assert restored.count() == (6, 6)
    assert restored.differences() == []
