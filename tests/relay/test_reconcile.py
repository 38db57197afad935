"""A store compared with its warehouse: what is found, what repair has sent again, and what is no difference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ledger.outbox import comparison
from ledger.outbox.row_digests import SessionKey
from ledger.relay.reconcile import Reconciliation, Repaired, SessionDifference, reconcile, repair
from ledger.testing import START, CountedIds, SetClock
from ledger.warehouse.answer import Answer
from ledger.warehouse.base import Parameters, Warehouse
from ledger.warehouse.row_comparison import ComparedRows
from support.shipped import FROM, UNTIL, Ledger, empty_ledger, shipped_ledger, taken_over

pytestmark = pytest.mark.duckdb


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """Nothing recorded yet."""
    return empty_ledger(tmp_path)


@pytest.fixture
def shipped(tmp_path: Path) -> Ledger:
    """Sessions s, of events 1 to 3, and t, of event 4, that have arrived: eight rows."""
    return shipped_ledger(tmp_path)


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


def test_an_erased_value_is_no_difference(shipped):
    shipped.by_hand("UPDATE session_events SET value = NULL, value_salt = NULL WHERE version = 1")
    assert shipped.differences() == []


def test_while_a_relay_ships_a_repair_that_restores_nothing_needs_no_lease(shipped):
    shipped.by_hand("DELETE FROM session_events WHERE session_id = 't'")
    with shipped.opened() as store:
        shipped.outbox(store).acquire("elsewhere/1/x", 60)
    assert shipped.repair().asked_rows == 2


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
def test_what_is_missing_in_the_warehouse_is_found_and_sent_once(shipped, where, missing):
    shipped.by_hand(f"DELETE FROM session_events WHERE {where}")
    assert {each.session_id: each.missing for each in shipped.differences()} == missing
    number = sum(map(len, missing.values()))
    assert shipped.repair() == Repaired(number, 0, {})
    assert shipped.differences() == [], "what was asked for waits, and is no difference"
    assert shipped.compare().waiting_rows == number
    assert shipped.sync() == number
    assert shipped.count() == (8, 8)
    assert shipped.differences() == []


def test_what_is_asked_for_twice_is_sent_once(shipped):
    shipped.by_hand("DELETE FROM session_events WHERE version = 2")
    with shipped.opened() as store:
        outbox = shipped.outbox(store)
        found = reconcile(outbox, ComparedRows(shipped.warehouse), FROM, UNTIL)
        repair(found, outbox, ComparedRows(shipped.warehouse), holder="a")
    assert shipped.sync() == 2
    with shipped.opened() as store:  # what was found then is no longer so
        repair(found, shipped.outbox(store), ComparedRows(shipped.warehouse), holder="a")
    assert shipped.sync() == 0
    assert shipped.count() == (8, 8)


def test_a_row_that_is_there_twice_is_told_and_left(shipped):
    shipped.by_hand("INSERT INTO session_events SELECT * FROM session_events WHERE version = 2 AND field = 'title'")
    expected = [SessionDifference("s", START, 3, 3, doubled=1)]
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
def test_a_changed_row_is_told_and_left(shipped, change):
    shipped.by_hand(f"UPDATE session_events SET {change} WHERE session_id = 's' AND version = 2 AND field = 'title'")
    (found,) = shipped.differences()
    assert replace(found, version_there=3) == SessionDifference("s", START, 3, 3, changed=1)
    assert shipped.repair() == Repaired(0, 0, {})
    assert shipped.sync() == 0
    assert shipped.differences() == [found]


def test_a_row_that_is_there_as_it_was_and_changed_is_both_doubled_and_changed(shipped):
    shipped.by_hand(
        "INSERT INTO session_events SELECT * REPLACE ('x' AS event_hash) FROM session_events "
        "WHERE session_id = 's' AND version = 2 AND field = 'title'"
    )
    assert shipped.differences() == [SessionDifference("s", START, 3, 3, changed=1, doubled=1)]


# What is no difference.


def test_rows_that_wait_are_no_difference(shipped):
    shipped.append(5)
    shipped.append(6, session="new")
    found = shipped.compare()
    assert (found.sessions, found.rows, found.differences, found.waiting_rows) == (3, 8, (), 4)


def test_rows_that_were_refused_are_no_difference(shipped):
    shipped.by_hand("DELETE FROM session_events WHERE session_id = 't'")
    with shipped.opened() as store:
        outbox = shipped.outbox(store)
        outbox.save(outbox.acquire("here/1/x", 60), dead_letters={7: "unfit", 8: "unfit"})
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
        assert found.differences == (SessionDifference("s", START, 4, 4, unknown=2, diverged=True),)
        assert found.elsewhere == ()


def test_only_sessions_created_on_the_days_are_compared(shipped):
    shipped.by_hand("DELETE FROM session_events")
    day = timedelta(days=1)
    assert shipped.compare(FROM - day, UNTIL - day).sessions == 0
    assert shipped.compare(FROM + day, UNTIL + day).sessions == 0
    assert shipped.compare(START + timedelta(microseconds=1), UNTIL).sessions == 0
    assert shipped.compare(START, START + timedelta(microseconds=1)).sessions == 2


def test_sessions_are_compared_page_by_page_and_part_by_part(ledger, monkeypatch):
    monkeypatch.setattr("ledger.stores.sqlite.row_digests.PAGE", 2)
    for number in range(7):
        ledger.append(number, session=f"s{number}")
        ledger.clock.move(number % 2)
    ledger.sync()
    ledger.by_hand("DELETE FROM session_events WHERE field = 'title'")
    expected = {f"s{number}": (2 * number + 1,) for number in range(7)}
    for sessions, rows in ((500, 200_000), (2, 200_000), (500, 1), (500, 5)):
        monkeypatch.setattr(comparison, "SESSIONS_AT_ONCE", sessions)
        monkeypatch.setattr(comparison, "ROWS_AT_ONCE", rows)
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

    def has_dropped(self, created_at: datetime, now: datetime) -> bool:
        return False

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
def test_what_a_relay_ships_meanwhile_is_no_difference(shipped, name, after):
    shipped.by_hand("INSERT INTO session_events SELECT * FROM session_events WHERE session_id = 's' AND version = 2")

    def happens() -> None:
        shipped.append(5)
        shipped.append(6, session="t")
        shipped.append(7, session="new")
        shipped.sync()

    with shipped.opened() as store:
        meanwhile: Any = Meanwhile(shipped.warehouse, name, happens, after=after)
        found = reconcile(shipped.outbox(store), ComparedRows(meanwhile), FROM, UNTIL)
    (difference,) = found.differences
    assert replace(difference, version_here=0, version_there=0) == SessionDifference("s", START, 0, 0, doubled=2)


@MOMENTS
@pytest.mark.parametrize("first", ["ask", "send"])
def test_what_is_asked_for_and_sent_again_meanwhile_is_no_difference(shipped, name, after, first):
    shipped.by_hand("INSERT INTO session_events SELECT * FROM session_events WHERE session_id = 's' AND version = 2")
    shipped.by_hand("DELETE FROM session_events WHERE session_id = 's' AND version = 1")
    with shipped.opened() as store:
        outbox = shipped.outbox(store)
        if first == "send":
            outbox.redrive({1: "lacking", 2: "lacking"})
        happens = shipped.sync if first == "send" else lambda: outbox.redrive({1: "lacking", 2: "lacking"})
        meanwhile: Any = Meanwhile(shipped.warehouse, name, happens, after=after)
        found = reconcile(outbox, ComparedRows(meanwhile), FROM, UNTIL)
    assert found.differences == (SessionDifference("s", START, 3, 3, doubled=2),)
