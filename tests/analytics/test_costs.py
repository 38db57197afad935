"""What a warehouse costs: what its jobs were billed, and what its tables cost to store."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ledger import InvalidInput, PermissionDenied, SessionLedger
from ledger.analytics.costs import JobCost, TableCost, bigquery_costs, costs
from ledger.warehouse.answer import Answer
from ledger.warehouse.bigquery.settings import Dataset

DAY = date(2026, 3, 1)
GIB = 2**30


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SessionLedger]:
    with SessionLedger.open(f"sqlite:///{tmp_path / 'l.db'}") as opened:
        yield opened


class Service:
    """What a warehouse asks of BigQuery: its list of jobs, and the sizes of two tables."""

    clients = SimpleNamespace(place=("my-project", "d"), project="my-project", emulator=None)
    dataset = Dataset("my-project", "d")

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def location(self) -> str:
        return "EU"

    def ask(self, operation: str, sql: str, parameters: dict[str, Any]) -> Answer:
        self.asked.append(parameters)
        columns = ("day", "operation", "job_count", "bytes_processed", "bytes_billed")
        return Answer(columns, [(DAY, "query", 2, 5, 2**40), (DAY, "read_states", 1, 0, 0)])

    def table(self, name: str) -> Any:
        sizes = {"session_events": (7, 3 * GIB, GIB), "model_prices": (0, 0, None)}
        if name not in sizes:
            return None
        rows, size, long_term = sizes[name]
        return SimpleNamespace(num_rows=rows, num_bytes=size, _properties={"numLongTermBytes": long_term})


def test_jobs_have_their_list_price_and_tables_that_of_a_month() -> None:
    service: Any = Service()
    found = bigquery_costs(service, DAY, date(2026, 3, 2))
    assert found.warehouse == "bigquery://my-project/d"
    assert found.jobs == (JobCost(DAY, "query", 2, 5, 2**40, 6.25), JobCost(DAY, "read_states", 1, 0, 0, 0.0))
    begin, end = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 3, tzinfo=UTC)
    assert [(it["begin"], it["end"]) for it in service.asked] == [(begin, end)]
    assert sorted(found.tables, key=lambda table: table.table) == [
        TableCost("model_prices", 0, 0, 0, 0.0),
        TableCost("session_events", 7, 2 * GIB, GIB, pytest.approx(0.05)),
    ]


def test_a_duckdb_file_costs_its_bytes_and_is_not_created(ledger: SessionLedger, tmp_path: Path) -> None:
    found = costs(ledger)
    assert (found.jobs, found.tables, found.file_bytes) == ((), (), 0)
    assert not (tmp_path / "l.duckdb").exists()
    (tmp_path / "l.duckdb").write_bytes(b"12345")
    assert costs(ledger).file_bytes == 5


def test_days_in_the_wrong_order_and_the_view_of_a_user_are_refused(ledger: SessionLedger) -> None:
    with pytest.raises(InvalidInput, match="before the first day"):
        costs(ledger, date(2026, 3, 2), DAY)
    with pytest.raises(PermissionDenied):
        costs(ledger.for_user("ann"))
