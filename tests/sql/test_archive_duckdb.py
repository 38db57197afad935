"""Archiving, hydrating and deleting for good, with a DuckDB file as the warehouse."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from archives import ArchiveSuite, World


class TestArchiveInDuckDB(ArchiveSuite):
    @pytest.fixture
    def place(self, tmp_path: Path) -> str:
        return f"duckdb:///{tmp_path / 'warehouse.duckdb'}"

    def delete_rows(self, world: World, where: str = "TRUE") -> None:
        with duckdb.connect(str(world.folder / "warehouse.duckdb")) as connection:
            connection.execute(f"DELETE FROM session_events WHERE {where}")
