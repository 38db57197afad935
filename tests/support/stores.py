"""Fixtures of an embedded store with a clock that stands still and counted ids."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.stores.sqlite.store import SqliteStore
from ledger.testing import CountedIds, SetClock


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def store(tmp_path: Path, clock: SetClock) -> Iterator[SqliteStore]:
    opened = SqliteStore(tmp_path / "ledger.db", clock=clock, ids=CountedIds(1))
    yield opened
    opened.close()
