"""A DuckDB warehouse for the SQL tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from histories import rows_of, shuffled
from ledger.model.events import RecordedEvent
from sql_targets import OnDuckDB


@pytest.fixture
def warehouse(tmp_path: Any) -> OnDuckDB:
    """An empty DuckDB warehouse."""
    return OnDuckDB(tmp_path)


@pytest.fixture
def ask(warehouse: OnDuckDB) -> Callable[..., list[tuple[Any, ...]]]:
    """Load events, out of order and one of them twice, and ask for rows."""

    def answer(events: list[RecordedEvent], sql: str, **parameters: Any) -> list[tuple[Any, ...]]:
        warehouse.load(shuffled(rows_of([*events, events[0]]), 7))
        return warehouse.query(sql, parameters).rows

    return answer
