"""``ledger reconcile``: what it says, what it mends, and what it ends with."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from ledger.stores.sqlite.store import SqliteStore
from ledger.testing import SetClock
from support.shell import Shell

DAY = "2026-03-05"  # of the clock that stands still


@pytest.fixture
def here(shell: Shell, still: SetClock) -> tuple[Shell, str]:
    """A ledger with a session of two events and three rows, which have arrived; and the session's id."""
    session_id = shell.ok("new", "What?").strip()
    shell.ok("set", session_id, "summary", "That.")
    shell.ok("sync")
    return shell, session_id


def by_hand(shell: Shell, sql: str) -> None:
    with duckdb.connect(str(shell.path.with_suffix(".duckdb"))) as connection:
        connection.execute(sql)


def ends_with(shell: Shell, code: int, *args: str) -> str:
    result = shell("reconcile", "--until", DAY, *args)
    assert (result.exit_code, result.stderr) == (code, "")
    return result.stdout


def warehouse(shell: Shell) -> str:
    return f"duckdb:///{shell.path.with_suffix('.duckdb')}"


def test_where_nothing_differs_one_line_says_what_was_compared(here: tuple[Shell, str]) -> None:
    shell, _ = here
    compared = f"1 session and 3 rows compared with {warehouse(shell)}, 2026-02-27 to {DAY}: nothing differs."
    assert ends_with(shell, 0) == f"{compared}\n"
    assert ends_with(shell, 0, "--repair") == f"{compared}\n"
    shell.ok("new", "And this?")
    assert ends_with(shell, 0) == f"{compared.replace('1 session', '2 sessions')} 2 rows waiting.\n"


def test_a_session_that_differs_has_a_line_and_the_exit_code_is_1(here: tuple[Shell, str]) -> None:
    shell, session_id = here
    by_hand(shell, "DELETE FROM session_events WHERE version = 2")
    by_hand(shell, "UPDATE session_events SET event_hash = 'x' WHERE field = 'status'")
    by_hand(shell, "INSERT INTO session_events SELECT * FROM session_events WHERE field = 'question'")
    first, last = ends_with(shell, 1).splitlines()
    assert first == (
        f"{session_id}: 1 row missing in the warehouse; 1 row changed in the warehouse; 1 row duplicated in the "
        "warehouse, which views show once (version 2 in the ledger, 1 in the warehouse)"
    )
    assert last.endswith(": 1 session differs.")


def test_repair_ships_again_what_the_warehouse_lacks(here: tuple[Shell, str]) -> None:
    shell, session_id = here
    by_hand(shell, "DELETE FROM session_events WHERE version = 2")
    difference, repaired, last = ends_with(shell, 0, "--repair").splitlines()
    assert difference.startswith(f"{session_id}: 1 row missing")
    assert repaired == "Repaired: 1 row shipped, 0 events restored from the warehouse."
    assert last.endswith(": nothing differs.")
    assert shell.json("show", session_id)["version"] == 2
    assert shell.json("sql", "SELECT COUNT(*) AS n FROM session_events")["rows"] == [{"n": 3}]


def test_repair_brings_back_what_a_restored_ledger_lost(here: tuple[Shell, str], tmp_path: Path) -> None:
    shell, session_id = here
    shell.ok("backup", str(tmp_path / "backup.db"))
    shell.ok("set", session_id, "title", "T")
    shell.ok("sync")
    restored = Shell(tmp_path / "backup.db")
    place = ("--warehouse", warehouse(shell))
    assert f"{session_id}: 1 row lost by the ledger (version 2 in the ledger, 3 in the warehouse)" in ends_with(
        restored, 1, *place
    )
    assert "0 rows shipped, 1 event restored" in ends_with(restored, 0, "--repair", *place)
    assert restored.json("show", session_id)["title"] == "T"
    assert ends_with(restored, 0, *place).endswith(": nothing differs.\n")


def test_what_cannot_be_mended_is_left_and_the_exit_code_says_so(here: tuple[Shell, str], tmp_path: Path) -> None:
    shell, session_id = here
    shell.ok("backup", str(tmp_path / "backup.db"))
    shell.ok("set", session_id, "title", "T")
    shell.ok("sync")
    restored = Shell(tmp_path / "backup.db")
    place = ("--warehouse", warehouse(shell))
    restored.ok("set", session_id, "title", "U")
    counts = "1 row unknown to the ledger, where the session diverged"
    line = f"{session_id}: {counts} (version 3 in the ledger, 3 in the warehouse)"
    assert ends_with(restored, 1, "--repair", *place).splitlines()[0] == line
    by_hand(shell, "DELETE FROM session_events WHERE version = 1 AND field = 'status'")
    lines = ends_with(restored, 1, "--repair", *place).splitlines()
    assert lines[1].startswith("Repaired: ")
    assert lines[2] == f"Left: {line}"


def test_a_session_that_repair_cannot_bring_back_is_named_with_the_reason(
    here: tuple[Shell, str], tmp_path: Path
) -> None:
    shell, session_id = here
    shell.ok("backup", str(tmp_path / "backup.db"))
    shell.ok("set", session_id, "title", "T")
    shell.ok("sync")
    by_hand(shell, "UPDATE session_events SET value = '\"U\"' WHERE version = 3")
    lines = ends_with(Shell(tmp_path / "backup.db"), 1, "--repair", "--warehouse", warehouse(shell)).splitlines()
    assert lines[1] == "Repaired: 0 rows shipped, 0 events restored from the warehouse."
    assert lines[2].startswith(f"{session_id} could not be restored: ")
    assert "not what was recorded" in lines[2]


def test_the_answer_for_programs_keeps_its_keys(here: tuple[Shell, str]) -> None:
    shell, session_id = here
    by_hand(shell, "DELETE FROM session_events WHERE version = 2")
    found: dict[str, Any] = shell_json(shell, 1)
    difference = {
        "session_id": session_id,
        "created_at": "2026-03-05T09:30:00.000000Z",
        "version_here": 2,
        "version_there": 1,
        "missing_rows": 1,
        "unknown_rows": 0,
        "diverged": False,
        "changed_rows": 0,
        "doubled_rows": 0,
        "gone_rows": 0,
        "rows_in": [],
    }
    expected = {
        "warehouse": warehouse(shell),
        "created_from": "2026-02-27T00:00:00.000000Z",
        "created_until": "2026-03-06T00:00:00.000000Z",
        "sessions": 1,
        "rows": 3,
        "waiting_rows": 0,
        "refused_events": 0,
        "dismissed_events": 0,
        "expired_sessions": 0,
        "elsewhere": [],
        "differences": [difference],
    }
    assert found == expected
    repaired = {"asked_rows": 1, "sent_rows": 1, "events": 0, "not_brought_back": {}}
    assert shell_json(shell, 0, "--repair") == {**expected, "repaired": repaired, "left": []}


def shell_json(shell: Shell, code: int, *args: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ends_with(shell, code, "--json", *args))
    return found


def test_while_a_relay_ships_nothing_is_brought_back_and_that_is_said(here: tuple[Shell, str], tmp_path: Path) -> None:
    shell, session_id = here
    shell.ok("backup", str(tmp_path / "backup.db"))
    shell.ok("set", session_id, "title", "T")
    shell.ok("sync")
    restored = Shell(tmp_path / "backup.db")
    store = SqliteStore(restored.path, clock=SetClock())
    store.outbox(warehouse(shell)).acquire("elsewhere/1/x", 60)
    store.close()
    code, message = restored.fails("reconcile", "--until", DAY, "--repair", "--warehouse", warehouse(shell))
    assert code == 21
    assert message.startswith("elsewhere/1 ships this ledger")
    assert "repair again" in message


def test_days_are_days_of_creation_in_utc_and_the_last_one_belongs_to_them(here: tuple[Shell, str]) -> None:
    shell, _ = here
    by_hand(shell, "DELETE FROM session_events")
    for span, code in (
        (("--from", "2026-03-05", "--until", "2026-03-05"), 1),
        (("--from", "2026-03-06"), 0),
        (("--until", "2026-03-04"), 0),
        (("--until", "2026-03-11"), 1),
        (("--until", "2026-03-12"), 0),
    ):
        assert shell("reconcile", *span).exit_code == code, span
    code, message = shell.fails("reconcile", "--from", "2026-03-06", "--until", "2026-03-05")
    assert (code, message) == (
        2,
        "--from 2026-03-06 is after --until 2026-03-05. See 'ledger reconcile --help'. (usage)",
    )
    assert shell.fails("reconcile", "--from", "yesterday")[0] == 2
    for end in ("0001-01-01", "9999-12-31"):
        assert shell.fails("reconcile", "--until", end)[0] == 2
    assert shell("reconcile", "--from", "0001-01-01", "--until", "9999-12-30").exit_code == 1


def test_the_last_seven_days_are_compared_where_none_are_named(shell: Shell) -> None:
    shell.ok("new", "What?")
    shell.ok("sync")
    found = shell.json("reconcile")
    assert found["sessions"] == 1
    first, after = (datetime.fromisoformat(found[name]) for name in ("created_from", "created_until"))
    assert after - first == timedelta(days=7)
    assert timedelta(0) < after - datetime.now(UTC) <= timedelta(days=1)


def test_what_an_agent_wrote_cannot_move_the_cursor(shell: Shell, still: SetClock) -> None:
    shell.ok("new", "What?", "--id", "a-\u202eb")
    shell.ok("sync")
    by_hand(shell, "DELETE FROM session_events")
    assert ends_with(shell, 1).startswith("a-\\u202eb: ")


def test_a_row_that_an_older_relay_shipped_without_its_key_is_changed_and_its_session_is_not_dropped(
    shell: Shell, still: SetClock
) -> None:
    session_id = shell.ok("new", "What?").strip()
    shell.ok("message", session_id, "user", "hi", "--event-id", "job-1")
    shell.ok("archive", session_id)
    shell.ok("sync")
    ends_with(shell, 0)
    by_hand(shell, "UPDATE session_events SET idempotency_key = NULL")
    assert f"{session_id}: 1 row changed in the warehouse" in ends_with(shell, 1)
    assert "0 dropped" in shell.ok("maintain")
    shell.ok("hydrate", session_id)
    assert shell.json("history", session_id)["events"][1]["idempotency_key"] == "job-1"
