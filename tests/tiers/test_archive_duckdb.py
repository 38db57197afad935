"""Archiving, hydrating and deleting for good, with a DuckDB file as the warehouse."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import duckdb
import pytest

from ledger import ANY_VERSION, ArchiveLost, Change, CorruptEvent, NewEvent
from ledger.stores.sqlite.store import SqliteStore
from ledger.testing import START, event
from ledger.tiers.archiving import open_again
from ledger.tiers.store import TwoTierStore
from ledger.warehouse.duckdb.warehouse import DuckDBWarehouse
from support.archives import ArchiveSuite, World


class TestArchiveInDuckDB(ArchiveSuite):
    @pytest.fixture
    def place(self, tmp_path: Path) -> str:
        return f"duckdb:///{tmp_path / 'warehouse.duckdb'}"

    def delete_rows(self, world: World, where: str = "TRUE") -> None:
        with duckdb.connect(str(world.folder / "warehouse.duckdb")) as connection:
            connection.execute(f"DELETE FROM session_events WHERE {where}")

    def by_hand(self, world: World, sql: str) -> None:
        with duckdb.connect(str(world.folder / "warehouse.duckdb")) as connection:
            connection.execute(sql)

    def test_an_archived_session_is_compared_by_what_its_rows_amounted_to(self, world: World) -> None:
        ledger = world.open()
        world.archived(ledger)
        found = world.compare(ledger)
        assert (found.sessions, found.rows, found.differences) == (1, 5, ())
        self.by_hand(world, "INSERT INTO session_events SELECT * FROM session_events WHERE version = 2")
        (difference,) = world.compare(ledger).differences
        assert (difference.doubled, difference.changed, difference.gone) == (1, 0, 0)
        self.by_hand(world, "UPDATE session_events SET value_hash = 'x' WHERE field = 'title'")
        (difference,) = world.compare(ledger).differences
        assert (difference.doubled, difference.changed, difference.version_here) == (1, 1, 3)

    def test_a_changed_value_in_the_warehouse_is_not_hydrated(self, world: World) -> None:
        ledger = world.open()
        made = world.archived(ledger)
        self.by_hand(world, "UPDATE session_events SET value = '\"other\"' WHERE field = 'title'")
        with pytest.raises(CorruptEvent, match="not what was recorded"):
            ledger.hydrate_session(made)
        assert ledger.store.rows_after(0, 10) == []

    def test_whoever_opens_a_session_while_another_appends_to_it_opens_nothing(self, world: World) -> None:
        ledger = world.open()
        made = ledger.create_session("ada", session_id="s")
        ledger.archive_session(made)
        store = ledger.store

        class Overtaken:
            """The store, to which another writer appends first."""

            state = store.state

            def append(self, session_id: str, new: NewEvent, *, expected_version: int) -> object:
                store.append(session_id, event(7, Change("tag", "first", True)))
                return store.append(session_id, new, expected_version=expected_version)

        hydrated = NewEvent("session.hydrated", (), "h1")
        assert open_again(store, made, hydrated, 1, START) is None  # it is at version 2
        assert open_again(Overtaken(), made, hydrated, ANY_VERSION, START) is None
        assert ledger.get_session(made).status == "archived"
        opened = open_again(store, made, hydrated, 3, START)
        assert opened is not None
        assert (opened.version, ledger.get_session(made).status) == (4, "active")
        assert open_again(store, made, hydrated, ANY_VERSION, START) is None

    @pytest.mark.parametrize("operation", ["messages", "events", "version_of"])
    @pytest.mark.parametrize("known", [True, False], ids=["archived here", "of another ledger"])
    def test_a_read_during_which_the_rows_are_restored_sees_the_session_whole(
        self, world: World, monkeypatch: pytest.MonkeyPatch, operation: str, known: bool
    ) -> None:
        first = world.open()
        made = world.archived(first)
        added = first.history(made)[1].event_id
        store = first.store if known else world.open("second").store
        local = SqliteStore(store.path, clock=world.clock)
        read = getattr(local, operation)

        def restored_after_the_first_read(*args: object, **more: object) -> object:
            monkeypatch.setattr(local, operation, read)
            try:
                return read(*args, **more)
            finally:
                assert store.rehydrate(made) == 3

        monkeypatch.setattr(local, operation, restored_after_the_first_read)
        with closing(TwoTierStore(local, lambda: DuckDBWarehouse(world.folder / "warehouse.duckdb"))) as beside:
            asked = {
                "messages": lambda: [it.content for it in beside.messages(made, after=None, limit=9)],
                "events": lambda: [it.version for it in beside.events(made)],
                "version_of": lambda: beside.version_of(made, added),
            }
            assert asked[operation]() == {"messages": ["hello"], "events": [1, 2, 3], "version_of": 2}[operation]

    def test_a_warehouse_that_was_put_back_from_before_is_no_answer_for_an_archived_session(self, world: World) -> None:
        ledger = world.open()
        made = ledger.create_session("ada", "q?", session_id="s")
        ledger.warehouse.sync()
        file = world.folder / "warehouse.duckdb"
        earlier = file.read_bytes()
        ledger.add_message(made, "user", "hello")
        world.archive(ledger, made)
        assert ledger.get_session(made).version == 3
        ledger.close()
        file.write_bytes(earlier)
        ledger = world.open()
        for ask in (ledger.get_session, ledger.get_messages, ledger.history):
            with pytest.raises(ArchiveLost, match="has it only up to version 1"):
                ask(made)

    def test_another_session_under_the_id_of_an_archived_one_is_shown_to_nobody(self, world: World) -> None:
        ledger = world.open()
        world.archived(ledger, "s")
        self.by_hand(world, "UPDATE session_events SET user_id = 'mallory'")
        for read in (ledger.get_session, ledger.get_messages, ledger.history):
            with pytest.raises(ArchiveLost, match="has another session with this id"):
                read("s")
        with pytest.raises(ArchiveLost, match="has another session with this id"):
            ledger.for_user("ada").get_session("s")
        assert ledger.for_user("mallory").get_session("s") is None

    def test_rows_of_a_session_of_which_the_warehouse_has_another_history_are_not_dropped(self, world: World) -> None:
        ledger = world.open()
        made = ledger.create_session("ada", "q?", session_id="s")
        ledger.warehouse.sync()
        ledger.store.backup(world.folder / "earlier.db")
        ledger.add_message(made, "user", "lost")
        ledger.warehouse.sync()
        ledger.close()
        for each in world.folder.glob("first.db*"):
            each.unlink()
        (world.folder / "earlier.db").rename(world.folder / "first.db")
        ledger = world.open()
        ledger.add_message(made, "user", "other")
        ledger.archive_session(made)
        ledger.warehouse.sync()
        assert ledger.drop_archived() == 0
        assert [message.content for message in ledger.get_messages(made)] == ["other"]
