"""The commands cost and sql --estimate: what is billed, and what would be."""

from __future__ import annotations

from datetime import date

import pytest

from ledger.analytics import costs
from support.shell import Shell

COSTS = costs.Costs(
    "bigquery://my-project/d",
    (costs.JobCost(date(2026, 3, 1), "query", 1_200, 5, 10_485_760, 0.0000596),),
    (costs.TableCost("session_events", 7, 1_000, 2_000, 3.5),),
    of_all_users=False,
)


def test_a_file_costs_nothing(shell: Shell) -> None:
    shell.ok("init")
    assert shell.ok("cost").startswith("Nothing is billed: the warehouse is duckdb:///")
    assert shell.json("cost")["bytes_billed"] == 0
    assert (
        shell.ok("sql", "--estimate", "SELECT 1 AS a") == "Nothing would be billed: the warehouse is a DuckDB file.\n"
    )
    assert shell.json("sql", "--estimate", "SELECT 1 AS a") == {"bytes_processed": None, "cost_usd": None}


def test_jobs_and_tables_are_shown_with_their_sums(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.ok("init")
    monkeypatch.setattr(costs, "costs", lambda *given: COSTS)
    said = shell.ok("cost", "--since", "2026-03-01", "--until", "2026-03-03")
    assert "2026-03-01  query      1,200  10,485,760    $0.000060" in said
    assert "10,485,760 bytes billed, $0.000060; only your own jobs" in said
    assert "$3.50 a month" in said
    told = shell.json("cost")
    assert (told["bytes_billed"], told["storage_month_usd"], told["of_all_users"]) == (10_485_760, 3.5, False)


@pytest.mark.parametrize("days", [("--since", "1.3.2026"), ("--since", "2026-03-02", "--until", "2026-03-02")])
def test_a_day_that_is_none_and_days_in_the_wrong_order_are_refused(shell: Shell, days: tuple[str, ...]) -> None:
    shell.ok("init")
    assert shell.fails("cost", *days)[0] == 2


@pytest.mark.emulator
@pytest.mark.usefixtures("emulator_settings")
def test_a_dataset_of_an_emulator_has_tables_and_no_bill(there: Shell) -> None:
    said = there.ok("cost")
    assert "No job was billed on these days." in said
    assert "session_events" in said
    assert there.ok("sql", "--estimate", "SELECT session_id FROM sessions").startswith("0 bytes would be read, $0.00")
    code, error = there.fails("sql", "--estimate", "SELECT nothing FROM sessions")
    assert code == 3, error
