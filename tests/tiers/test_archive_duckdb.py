"""Archiving, hydrating and deleting for good, with a DuckDB file as the warehouse."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from ledger import CorruptEvent
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
