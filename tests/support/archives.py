"""What archiving, hydrating and deleting for good promise, whatever the warehouse: one suite, run over each."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ledger import (
    CorruptEvent,
    SessionEnded,
    SessionLedger,
    SessionNotFound,
    StoreRejected,
    StoreUnavailable,
    WrongExpectedVersion,
)
from ledger.model.integrity import verify
from ledger.relay.reconcile import Reconciliation, reconcile
from ledger.testing import START, SetClock
from ledger.tiers import archiving
from ledger.warehouse.row_comparison import ComparedRows
from support.shipped import FROM, UNTIL

OWN, DAY = "their:é", timedelta(days=1)


@dataclass
class World:
    """Ledgers in one folder that are shipped to one warehouse."""

    folder: Path
    place: str
    opened: ExitStack
    clock: SetClock = field(default_factory=SetClock)

    def open(self, name: str = "first", *, relay: str = "off", behind: bool = True) -> SessionLedger:
        ledger = SessionLedger(
            f"sqlite:///{self.folder / name}.db",
            warehouse=self.place if behind else None,
            relay=relay,
            default_ttl_hours=None,
            max_ttl_hours=None,
            clock=self.clock,
        )
        return self.opened.enter_context(ledger)

    def archived(self, ledger: SessionLedger, session_id: str | None = OWN) -> str:
        """A session of three events that is archived, and whose rows are only in the warehouse."""
        made = ledger.create_session("ada", "q?", session_id=session_id, fields={"status": "waiting", "title": "T"})
        ledger.add_message(made, "user", "hello", event_id="m1")
        self.archive(ledger, made)
        return made

    def archive(self, ledger: SessionLedger, session_id: str) -> None:
        assert ledger.archive_session(session_id) is not None
        ledger.warehouse.sync()
        assert ledger.drop_archived() == 1

    def compare(self, ledger: SessionLedger) -> Reconciliation:
        return reconcile(ledger.warehouse.outbox, ComparedRows(ledger.warehouse.opened), FROM, UNTIL)

    def check(self, ledger: SessionLedger, *versions: int) -> None:
        """One unbroken history in the warehouse, no row twice, and nothing that differs."""
        ledger.warehouse.sync()
        counts = "COUNT(*) AS n, COUNT(DISTINCT CONCAT(session_id, '/', event_id, '/', field, '/', key)) AS differ"
        ((rows, differ),) = ledger.warehouse.query(
            f"SELECT {counts} FROM session_events WHERE created_at >= @day", {"day": FROM}
        ).rows
        assert rows == differ
        found = self.compare(ledger)
        assert (found.differences, found.waiting_rows, found.refused_events) == ((), 0, 0)
        for session, version in zip(ledger.list_sessions(), versions, strict=True):
            history = ledger.store.events(session.session_id, upcast=False)
            assert [event.version for event in history] == list(range(1, version + 1))
            assert verify(history) == version


def rows_here(ledger: SessionLedger) -> int:
    return len(ledger.store.rows_after(0, 10_000))


def types(ledger: SessionLedger, session_id: str) -> list[str]:
    return [event.event_type.partition(".")[2] for event in ledger.history(session_id)]


class Crash(BaseException):
    """The process ends here."""


class ArchiveSuite:
    """Tests that subclasses run: they give ``place``, the URL of an empty warehouse."""

    @pytest.fixture
    def world(self, tmp_path: Path, place: str) -> Iterator[World]:
        with ExitStack() as opened:
            yield World(tmp_path, place, opened)

    @pytest.mark.duckdb
    @pytest.mark.parametrize("session_id", [OWN, None])
    def test_archived_dropped_read_hydrated_continued_and_synced_is_one_history(self, world, session_id):
        ledger = world.open()
        made = world.archived(ledger, session_id)
        assert rows_here(ledger) == 0
        assert ledger.get_session(made, messages=True).messages[0].content == "hello"
        assert ledger.get_session(made, version=1).status == "waiting"
        assert types(ledger, made) == ["created", "added", "archived"]
        world.check(ledger, 3)
        hydrated = ledger.hydrate_session(made)
        assert (hydrated.version, ledger.get_session(made).status) == (4, "waiting")
        assert ledger.hydrate_session(made) is None
        ledger.add_message(made, "assistant", "hi")
        world.check(ledger, 5)
        world.archive(ledger, made)
        assert rows_here(ledger) == 0
        world.check(ledger, 6)

    def test_only_what_is_new_is_shipped_after_hydrating(self, world):
        ledger = world.open()
        made = world.archived(ledger)
        ledger.hydrate_session(made)
        assert ledger.warehouse.sync() == 1
        assert ledger.warehouse.outbox.refused() == []

    def test_an_append_to_an_archived_session_brings_it_back_first(self, world):
        ledger = world.open()
        made = world.archived(ledger)
        assert ledger.add_message(made, "user", "again", expected_version=3).version == 5
        assert types(ledger, made)[3:] == ["hydrated", "added"]
        assert ledger.get_session(made).status == "waiting"
        world.check(ledger, 5)

    def test_what_ended_sessions_take_brings_the_rows_back_and_leaves_it_archived(self, world):
        ledger = world.open()
        made = world.archived(ledger)
        ledger.add_tags(made, "seen")
        assert (ledger.get_session(made).status, ledger.get_session(made).tags) == ("archived", ("seen",))
        ledger.warehouse.sync()
        assert ledger.drop_archived() == 1
        world.check(ledger, 4)

    @pytest.mark.duckdb
    def test_a_second_ledger_takes_over_what_the_first_has_archived(self, world):
        first, second = world.open("first"), world.open("second")
        world.archived(first)
        assert second.hydrate_session(OWN).version == 4
        second.add_message(OWN, "user", "from the second")
        world.check(second, 5)
        found = world.compare(first)
        assert (found.differences, [key.session_id for key in found.elsewhere]) == ((), [OWN])
        world.archive(second, OWN)
        assert first.hydrate_session(OWN).version == 7
        first.add_message(OWN, "user", "from the first")
        world.check(first, 8)
        assert world.compare(second).differences == ()
        with pytest.raises(SessionNotFound):
            second.hydrate_session("nobody")

    def test_a_relay_in_the_background_ships_meanwhile_and_nothing_twice(self, world):
        ledger = world.open(relay="background")
        made = [ledger.create_session("ada", session_id=f"s{number}") for number in range(4)]
        for session_id in made:
            ledger.archive_session(session_id)
        ledger.warehouse.sync()
        assert ledger.drop_archived() == 4
        threads = [
            threading.Thread(target=lambda it=session_id: ledger.add_message(it, "user", "x")) for session_id in made
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        ledger.close(drain=60)
        world.check(world.open(), 4, 4, 4, 4)

    @pytest.mark.parametrize("step", ["archive", "ship", "drop", "rehydrate", "hydrate"])
    def test_a_crash_after_any_step_loses_nothing_and_the_next_call_goes_on(self, world, step):
        ledger = world.open()
        made = ledger.create_session("ada", session_id=OWN)

        def crashing(patch: pytest.MonkeyPatch, owner: Any, name: str, *, after: bool = True) -> None:
            real = getattr(owner, name)

            def call(*args, **more):
                if after:
                    real(*args, **more)
                raise Crash

            patch.setattr(owner, name, call)

        def go_through(patch: pytest.MonkeyPatch) -> None:
            if step == "archive":
                crashing(patch, ledger, "_drop", after=False)
                ledger.archive_session(made)
            ledger.archive_session(made)
            if step == "ship":
                ledger.warehouse.sync()
                crashing(patch, ComparedRows, "rows_of")
                ledger.drop_archived()
            ledger.warehouse.sync()
            if step == "drop":
                crashing(patch, type(ledger.store._local), "drop")
            ledger.drop_archived()
            if step == "rehydrate":
                crashing(patch, archiving, "rehydrate")
                ledger.hydrate_session(made)
            ledger.hydrate_session(made)
            raise Crash

        with pytest.MonkeyPatch.context() as patch, pytest.raises(Crash):
            go_through(patch)
        ledger.close()
        again = world.open()
        again.warehouse.sync()
        again.drop_archived()
        if step == "hydrate":
            assert again.get_session(made).status == "active"
        else:
            assert again.get_session(made).status == "archived"
            assert again.archive_session(made) is None
            assert again.hydrate_session(made).version == 3
        again.add_message(made, "user", "after the crash")
        world.check(again, 4)

    @pytest.mark.parametrize("moment", ["begun", "archived", "dropped"])
    def test_an_older_backup_goes_on_where_the_warehouse_is(self, world, moment):
        ledger = world.open()
        made = ledger.create_session("ada", session_id=OWN)
        ledger.warehouse.sync()
        backup = world.folder / "second.db"
        if moment == "begun":
            ledger.store.backup(backup)
        ledger.archive_session(made)
        ledger.warehouse.sync()
        if moment == "archived":
            ledger.store.backup(backup)
        ledger.drop_archived()
        if moment == "dropped":
            ledger.store.backup(backup)
        ledger.add_message(made, "user", "hello")
        ledger.warehouse.sync()
        ledger.close()
        (world.folder / "first.db").unlink()
        shutil.move(backup, world.folder / "first.db")
        again = world.open()
        if moment == "dropped":  # what came after is taken over with the rest
            assert [each.lost for each in world.compare(again).differences] == [True]
            assert again.hydrate_session(made).version == 5
        else:
            from ledger.relay.reconcile import repair

            repair(world.compare(again), again.warehouse.outbox, ComparedRows(again.warehouse.opened), holder="h/1/r")
            assert again.hydrate_session(made) is None
            again.add_tags(made, "t")
        world.check(again, 5)

    def test_rows_that_the_warehouse_has_lost_are_not_dropped(self, world):
        ledger = world.open()
        made = ledger.create_session("ada", session_id=OWN)
        ledger.archive_session(made)
        ledger.warehouse.sync()
        self.delete_rows(world)
        assert ledger.drop_archived() == 0
        assert rows_here(ledger) > 0

    def test_what_the_warehouse_lost_afterwards_is_told_and_not_hydrated(self, world):
        ledger = world.open()
        made = world.archived(ledger)
        self.delete_rows(world, "version = 2")
        (difference,) = world.compare(ledger).differences
        assert (difference.gone, difference.changed, difference.missing) == (1, 0, ())
        with pytest.raises((StoreRejected, CorruptEvent), match="nothing was written"):
            ledger.hydrate_session(made)
        with pytest.raises((StoreRejected, CorruptEvent)):
            ledger.add_message(made, "user", "x")
        assert rows_here(ledger) == 0

    def test_an_archived_session_that_the_warehouse_lost_is_told_whoever_asks(self, world):
        ledger = world.open()
        made = world.archived(ledger)
        self.delete_rows(world)
        for ask in (
            lambda: ledger.get_session(made),
            lambda: ledger.get_session(made, version=1),
            lambda: ledger.get_session(made, at=START),
            lambda: ledger.get_messages(made),
            lambda: ledger.history(made),
            lambda: ledger.store.version_of(made, "nothing"),
            lambda: ledger.hydrate_session(made),
            lambda: ledger.add_message(made, "user", "x"),
            lambda: ledger.for_user("ada").get_session(made),
        ):
            with pytest.raises(StoreRejected, match=f"{made} is archived, and {world.place.partition(':')[0]}:.* none"):
                ask()
        assert ledger.for_user("ben").get_session(made) is None
        assert [each.status for each in ledger.list_sessions()] == ["archived"]
        assert ledger.get_session("nobody") is None

    def test_an_archived_session_that_is_there_has_no_messages_without_being_lost(self, world):
        ledger = world.open()
        made = ledger.create_session("ada")
        world.archive(ledger, made)
        assert [*ledger.get_messages(made), *ledger.history(made, after=2)] == []
        assert ledger.get_session(made, at=START - DAY) is None

    @pytest.mark.parametrize("end", ["comes", "came"])
    def test_an_append_past_the_end_of_an_archived_session_writes_nothing(self, world, end):
        ledger = world.open()
        made = ledger.create_session("ada", ttl=timedelta(hours=1))
        if end == "came":
            ledger.expire_session(made)
        world.archive(ledger, made)
        world.clock.now = START + DAY
        version = ledger.get_session(made).version
        with pytest.raises(
            SessionEnded, match=r"nothing was written\. Open it with hydrate_session\(\), then restore_session"
        ) as ended:
            ledger.add_message(made, "user", "too late")
        assert ended.value.status == "archived"
        assert (ledger.get_session(made).status, ledger.get_session(made).version) == ("archived", version)
        ledger.hydrate_session(made)
        ledger.restore_session(made)
        assert ledger.add_message(made, "user", "now").version == version + 3

    def test_an_append_at_a_version_that_went_on_elsewhere_leaves_the_session_archived(self, world):
        first, second = world.open("first"), world.open("second")
        world.archived(first)
        second.hydrate_session(OWN)
        world.archive(second, OWN)
        with pytest.raises(WrongExpectedVersion) as wrong:
            first.add_message(OWN, "user", "x", expected_version=3)
        assert (wrong.value.actual, first.get_session(OWN).status) == (5, "archived")

    @pytest.mark.duckdb
    def test_what_is_deleted_for_good_is_nowhere_and_its_id_can_be_used_again(self, world):
        ledger = world.open()
        kept = ledger.create_session("ada", session_id="kept")
        made = world.archived(ledger)
        other = world.archived(ledger, None)
        world.clock.now = START + 10 * DAY
        assert ledger.delete_old_sessions(11 * DAY) == 0
        assert ledger.delete_old_sessions(9 * DAY) == 2
        assert ledger.delete_old_sessions(9 * DAY) == 0
        assert ledger.get_session(made) is None
        assert ledger.get_session(other) is None
        for table in ("session_events", "session_index", "session_heads"):
            sql = f"SELECT COUNT(*) AS n FROM {table} WHERE session_id != @kept AND created_at >= @day"
            assert ledger.warehouse.query(sql, {"kept": kept, "day": FROM}).rows == [(0,)]
        assert ledger.create_session("ben", session_id=made) == made
        world.check(ledger, 1, 1)
        assert ledger.get_session(made).user_id == "ben"

    def test_deleting_that_was_cut_off_is_finished_and_until_then_nothing_comes_back(self, world):
        ledger = world.open()
        made = world.archived(ledger)
        world.clock.now = START + 10 * DAY

        def cut_off(*args):
            raise StoreUnavailable("cut off")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(archiving, "_unchanged", cut_off)
            with pytest.raises(StoreUnavailable):
                ledger.delete_old_sessions(DAY)
        assert len(ledger.store.pending_deletions()) == 1
        assert world.compare(ledger).differences == ()
        with pytest.raises(StoreUnavailable, match="was purged here"):
            ledger.create_session("ben", session_id=made)
        with pytest.raises(StoreUnavailable, match="was purged here"):
            ledger.hydrate_session(made)
        assert ledger.maintain(retention=DAY).waiting == 0
        assert ledger.get_session(made) is None
        world.check(ledger)

    @pytest.mark.parametrize("session_id", [OWN, None])
    def test_what_a_process_without_the_warehouse_deleted_for_good_is_read_no_more(self, world, session_id):
        made = world.archived(world.open(), session_id)
        world.clock.now = START + 10 * DAY
        assert world.open(behind=False).delete_old_sessions(DAY) == 1
        ledger = world.open()
        assert ledger.get_session(made, messages=True) is None
        assert ledger.get_session(made, version=1) is None
        assert ledger.get_session(made, at=START + DAY) is None
        assert list(ledger.store.messages(made, after=None, limit=9)) == []
        assert list(ledger.store.events(made)) == []
        assert ledger.store.version_of(made, "m1") is None
        with pytest.raises(SessionNotFound):
            ledger.get_messages(made)
        assert ledger.maintain().waiting == 0
        assert ledger.store.purge_warehouse() == 0
        assert ledger.get_session(made) is None

    def test_a_session_that_another_ledger_went_on_with_is_read_before_and_after_it_is_deleted_here(self, world):
        first, second = world.open("first"), world.open("second")
        world.archived(first)
        second.hydrate_session(OWN)
        second.warehouse.sync()
        world.clock.now = START + 10 * DAY
        assert world.open("first", behind=False).delete_old_sessions(DAY) == 1
        assert first.get_session(OWN).version == 4
        assert first.store.purge_warehouse() == 0
        assert first.get_session(OWN).version == 4

    def test_another_session_that_a_ledger_began_under_the_id_of_a_deleted_one_is_read_here(self, world):
        first, second = world.open("first"), world.open("second")
        world.archived(first)
        second.hydrate_session(OWN)
        world.archive(second, OWN)
        assert world.open("first", behind=False).store.purge(OWN, 3)
        world.clock.now = START + 10 * DAY
        assert second.delete_old_sessions(DAY) == 1
        assert first.get_session(OWN) is None
        second.create_session("ben", session_id=OWN)
        second.warehouse.sync()
        assert first.get_session(OWN).user_id == "ben"
        assert first.store.purge_warehouse() == 1  # of which nothing is left to delete
        assert first.get_session(OWN).user_id == "ben"

    def test_a_session_that_went_on_in_another_ledger_is_not_deleted_there(self, world):
        first, second = world.open("first"), world.open("second")
        world.archived(first)
        second.add_message(OWN, "user", "x") if second.hydrate_session(OWN) else None
        second.warehouse.sync()
        world.clock.now = START + 10 * DAY
        assert first.delete_old_sessions(DAY) == 1
        assert first.get_session(OWN).version == 5
        world.check(second, 5)

    def test_both_histories_of_a_session_are_deleted_also_if_the_lost_one_is_at_a_higher_version(self, world):
        lost = world.open("lost")
        lost.create_session("ada", session_id=OWN)
        lost.store.backup(world.folder / "first.db")
        for number in range(5):
            lost.add_message(OWN, "user", f"lost {number}")
        lost.warehouse.sync()
        lost.close()
        ledger = world.open("first")
        ledger.add_message(OWN, "user", "here")
        ledger.delete_session(OWN)
        ledger.warehouse.sync()
        world.clock.now = START + 10 * DAY
        assert ledger.maintain(retention=DAY).deleted == 1
        assert ledger.get_session(OWN) is None
        world.check(ledger)

    def test_maintaining_ends_what_is_over_drops_and_deletes(self, world):
        ledger = world.open()
        over = ledger.create_session("ada", ttl=timedelta(hours=1))
        world.archived(ledger)
        world.clock.now = START + DAY / 2
        assert ledger.maintain().expired == 1
        ledger.archive_session(over)
        ledger.warehouse.sync()
        assert ledger.maintain().dropped == 1
        world.clock.now = START + 10 * DAY
        done = ledger.maintain(retention=DAY)
        assert (done.expired, done.dropped, done.deleted, done.waiting) == (0, 0, 2, 0)
        world.check(ledger)

    def test_a_reader_sees_the_session_whole_whatever_becomes_of_it(self, world):
        ledger = world.open()
        made = ledger.create_session("ada", session_id=OWN)
        ledger.add_message(made, "user", "hello")
        seen: set[tuple[int, int]] = set()
        stop = threading.Event()

        def read():
            while not stop.is_set():
                seen.add((len(ledger.history(made, limit=2)), len(ledger.get_messages(made))))

        thread = threading.Thread(target=read)
        thread.start()
        try:
            for _ in range(3):
                ledger.archive_session(made)
                ledger.warehouse.sync()
                ledger.drop_archived()
                ledger.hydrate_session(made)
        finally:
            stop.set()
            thread.join()
        assert seen == {(2, 1)}
        world.check(ledger, 8)

    def delete_rows(self, world: World, where: str = "TRUE") -> None:
        """As nobody should."""
        raise NotImplementedError
