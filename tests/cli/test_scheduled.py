"""``ledger refresh`` keeps the tables of a file's warehouse; a purge empties them of its sessions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from support.shell import Shell

pytestmark = pytest.mark.duckdb
LATEST = "SELECT session_id, status, question, event_count FROM sessions_latest ORDER BY session_id"


def yesterday() -> str:
    return f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}"


def test_refresh_makes_the_tables_and_repeats_without_a_change(shell: Shell) -> None:
    shell.ok("init")
    assert shell.ok("refresh") == "sessions_latest: 0 sessions; daily_rollup: 0 days.\n"
    session_id = shell.ok("new", "How many?").strip()
    shell.ok("complete", session_id)
    assert shell.json("refresh") == {"sessions": 1, "days": 0, "last_day": None}, "today is not over"
    rows = shell.json("sql", LATEST)["rows"]
    assert rows == [{"session_id": session_id, "status": "completed", "question": "How many?", "event_count": 2}]
    for options in ([], ["--full"], ["--day", yesterday()], ["--lookback-days", "1"]):
        assert shell.ok("refresh", *options).startswith("sessions_latest: 1 session; ")
        assert shell.json("sql", LATEST)["rows"] == rows


def test_a_day_that_is_not_over_is_refused(shell: Shell) -> None:
    shell.ok("init")
    for day in (f"{datetime.now(UTC):%Y-%m-%d}", "9999-12-31"):
        code, said = shell.fails("refresh", "--day", day)
        assert (code, "has not ended in UTC; nothing was computed" in said) == (3, True)


@pytest.mark.parametrize("number", ["0", "-1", "1.5", "x", "36526"])
def test_a_number_of_days_is_whole_and_positive(shell: Shell, number: str) -> None:
    for command in ("refresh", "deploy"):
        assert shell(command, "--lookback-days", number).exit_code == 2
    assert shell("deploy", "--retention-days", number).exit_code == 2


def test_deploy_says_what_to_do_for_a_file(shell: Shell) -> None:
    shell.ok("init")
    code, said = shell.fails("deploy", "--dry-run")
    assert code == 11
    assert "ledger --url bigquery://PROJECT/DATASET deploy" in said
    assert "`ledger refresh` from cron" in said


def test_a_purged_session_is_in_no_table_any_more(shell: Shell) -> None:
    shell.ok("init")
    gone, kept = (shell.ok("new", question).strip() for question in ("secret", "kept"))
    shell.ok("refresh")
    shell.ok("delete", gone)
    shell.ok("sync")
    shell.ok("purge", gone)
    assert [row["question"] for row in shell.json("sql", LATEST)["rows"]] == ["kept"]
    shell.ok("refresh")
    assert [row["session_id"] for row in shell.json("sql", LATEST)["rows"]] == [kept]
