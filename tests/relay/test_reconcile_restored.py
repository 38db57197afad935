"""A store that lacks what its warehouse has: what is brought back, what is not, and that nothing ships twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ledger.errors import LeaseHeld, LeaseLost, StoreUnavailable
from ledger.model.integrity import verify
from ledger.relay.reconcile import Repaired, SessionDifference, reconcile, repair
from ledger.stores.sqlite.outbox import SqliteOutbox
from ledger.testing import START, CountedIds, SetClock
from ledger.warehouse.row_comparison import ComparedRows
from support.shipped import FROM, UNTIL, Ledger, events_of, shipped_ledger


@pytest.fixture
def shipped(tmp_path: Path) -> Ledger:
    """Sessions s, of events 1 to 3, and t, of event 4, that have arrived: eight rows."""
    return shipped_ledger(tmp_path)


def test_a_restored_store_gets_its_events_back_and_ships_none_of_them_twice(shipped, tmp_path):
    restored = shipped.backup(tmp_path / "restored.db")
    shipped.append(5, 6)
    shipped.append(7, session="new")
    assert shipped.sync() == 6
    assert restored.differences() == [
        SessionDifference("new", START, 0, 1, unknown=2),
        SessionDifference("s", START, 3, 5, unknown=4),
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
    assert restored.differences() == [SessionDifference("s", START, 3, 5, unknown=4)]
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
    expected = [SessionDifference("s", START, 4, 5, unknown=4, diverged=True)]
    assert restored.differences() == expected
    before = events_of(restored, "s")
    assert restored.repair() == Repaired(0, 0, {})
    assert events_of(restored, "s") == before
    assert restored.sync() == 2
    assert restored.differences() == expected


def test_events_that_do_not_follow_the_stores_own_are_not_brought_back(shipped, tmp_path):
    restored = shipped.backup(tmp_path / "restored.db")
    shipped.append(5)
    shipped.sync()
    shipped.by_hand("DELETE FROM session_events WHERE version = 4 AND field = 'title'")
    (found,) = restored.differences()
    assert found == SessionDifference("s", START, 3, 4, unknown=1)
    repaired = restored.repair()
    assert repaired.events == 0
    assert "not what was recorded" in repaired.left["s"]
    assert restored.differences() == [found]


def test_an_id_that_the_index_knows_from_another_time_brings_nothing_back(shipped, tmp_path):
    restored = shipped.backup(tmp_path / "restored.db")
    shipped.append(5, session="new")
    shipped.sync()
    shipped.by_hand("INSERT INTO session_index VALUES ('new', TIMESTAMP '2026-03-01', 'bob')")
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
    assert restored.differences() == [SessionDifference("new", START, 0, 2, unknown=4)]
    assert restored.repair() == Repaired(0, 2, {})
    assert events_of(restored, "new") == events_of(shipped, "new")
    assert restored.sync() == 0
    assert restored.differences() == other.differences() == []


def test_what_follows_a_changed_row_is_not_brought_back(shipped, tmp_path):
    restored = shipped.backup(tmp_path / "restored.db")
    shipped.append(5)
    shipped.sync()
    shipped.by_hand(
        "UPDATE session_events SET value_hash = 'x' WHERE session_id = 's' AND version = 1 AND field = 'title'"
    )
    expected = [SessionDifference("s", START, 3, 4, unknown=2, changed=1)]
    assert restored.differences() == expected
    assert restored.repair() == Repaired(0, 0, {})
    assert restored.differences() == expected


def test_what_was_lost_and_what_is_missing_are_mended_at_once(shipped, tmp_path):
    restored = shipped.backup(tmp_path / "restored.db")
    shipped.append(5)
    shipped.sync()
    shipped.by_hand("DELETE FROM session_events WHERE version = 2 AND field = 'title'")
    assert restored.differences() == [SessionDifference("s", START, 3, 4, missing=(3,), unknown=2)]
    assert restored.repair() == Repaired(1, 1, {})
    assert restored.sync() == 1
    assert restored.count() == (10, 10)
    assert restored.differences() == []


def test_while_a_relay_ships_nothing_is_brought_back_and_what_is_missing_is_asked_for(shipped, tmp_path):
    restored = shipped.backup(tmp_path / "restored.db")
    shipped.append(5)
    shipped.sync()
    shipped.by_hand("DELETE FROM session_events WHERE session_id = 't'")
    with restored.opened() as store:
        outbox = restored.outbox(store)
        checkpoint = outbox.acquire("elsewhere/1/x", 60)
        found = reconcile(outbox, ComparedRows(restored.warehouse), FROM, UNTIL)
        with pytest.raises(LeaseHeld, match=r"elsewhere/1 ships .* repair again"):
            repair(found, outbox, ComparedRows(restored.warehouse), holder="here/1/x")
        assert len(outbox.rows_to_redrive(10, max_bytes=1_000_000)) == 2
        assert outbox.checkpoint() == checkpoint
    assert [event.version for event in events_of(restored, "s")] == [1, 2, 3]


@pytest.fixture
def restored(shipped: Ledger, tmp_path: Path) -> Ledger:
    """One that lost the events 5 to 7, of two sessions, and went on with another one."""
    restored = shipped.backup(tmp_path / "restored.db")
    shipped.append(5, 6)
    shipped.append(7, session="t")
    shipped.sync()
    restored.append(8, session="u")
    restored.sync()
    return restored


def test_a_repair_that_was_cut_short_makes_nothing_ship_twice(restored, monkeypatch):
    restore = SqliteOutbox.restore

    def cut_short(outbox: SqliteOutbox, *arguments: Any) -> Any:
        restore(outbox, *arguments)
        raise StoreUnavailable("The power went.")

    monkeypatch.setattr(SqliteOutbox, "restore", cut_short)
    with pytest.raises(StoreUnavailable, match="The power went"):
        restored.repair()
    monkeypatch.undo()
    restored.append(9, session="u")
    assert restored.sync() == 2
    assert restored.count() == (18, 18)
    with restored.opened() as store:
        outbox = restored.outbox(store)
        assert outbox.checkpoint().in_doubt_upto < outbox.last_seq(), "rows to come are not asked about"
    assert restored.repair() == Repaired(0, 1, {})
    assert restored.sync() == 0
    assert restored.count() == (18, 18)
    assert restored.differences() == []


def test_a_repair_that_loses_its_lease_to_a_relay_brings_nothing_back(restored, monkeypatch):
    restore = SqliteOutbox.restore

    def late(outbox: SqliteOutbox, *arguments: Any) -> Any:
        monkeypatch.undo()
        restored.clock.move(61)  # the process was suspended, or the warehouse slow to answer
        restored.append(9, session="u")
        assert restored.sync() == 2
        return restore(outbox, *arguments)

    monkeypatch.setattr(SqliteOutbox, "restore", late)
    with pytest.raises(LeaseLost):
        restored.repair()
    assert [event.version for event in events_of(restored, "s")] == [1, 2, 3]
    assert restored.repair() == Repaired(0, 3, {})
    assert restored.sync() == 0
    assert restored.count() == (18, 18)
    assert restored.differences() == []
