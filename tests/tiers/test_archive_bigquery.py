"""Archiving, hydrating and deleting for good, with BigQuery as the warehouse."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from support.archives import OWN, ArchiveSuite, World
from support.bigquery_stores import Datasets, environment

pytestmark = [pytest.mark.emulator, pytest.mark.slow]


class TestArchiveInBigQuery(ArchiveSuite):
    @pytest.fixture
    def place(self, emulator: Any, datasets: Datasets, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
        for name, value in environment(emulator).items():
            monkeypatch.setenv(name, value)
        self.emulator = emulator
        with datasets.emptied("main") as place:
            yield f"bigquery://{place.project}/{place.name}"

    def delete_rows(self, world: World, where: str = "TRUE") -> None:
        project, dataset = world.place.removeprefix("bigquery://").split("/")
        self.emulator.client.query_and_wait(f"DELETE FROM `{project}.{dataset}.session_events` WHERE {where}")

    def test_a_purge_makes_the_table_that_a_dataset_of_an_earlier_release_lacks(self, world: World) -> None:
        ledger = world.open()
        ledger.create_session("ada", "a secret", session_id=OWN)
        ledger.delete_session(OWN)
        ledger.warehouse.sync()
        project, dataset = world.place.removeprefix("bigquery://").split("/")
        self.emulator.client.query_and_wait(f"DROP TABLE `{project}.{dataset}.sessions_latest`")
        assert ledger.purge_sessions([OWN]).sessions == ()
        for table in ("session_events", "session_index", "sessions_latest"):
            assert ledger.sql(f"SELECT COUNT(*) AS n FROM {table}").rows == [(0,)]
