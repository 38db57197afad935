"""A restored file that was not reconciled with its warehouses says so, until it has been."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import duckdb
import pytest

from ledger import SessionLedger
from ledger.stores.sqlite import unreconciled
from support.shell import Shell

#: `ledger` that is killed when it begins to reconcile.
KILLED = """
import os, signal
from ledger.cli.app import ledger
from ledger.cli.commands import restore_backup

restore_backup.compare = lambda *args, **settings: os.kill(os.getpid(), signal.SIGKILL)
ledger()
"""


@pytest.fixture
def backup(shell: Shell, tmp_path: Path) -> Path:
    """A backup of a session of two events, of which a third was shipped later to the DuckDB file beside the ledger."""
    session_id = shell.ok("new", "How many orders?").strip()
    shell.ok("message", session_id, "user", "a week")
    file = tmp_path / "monday.db"
    shell.ok("backup", str(file))
    shell.ok("message", session_id, "assistant", "1,217.")
    shell.ok("sync")
    return file


@pytest.fixture(autouse=True)
def new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unreconciled, "_WARNED", set())


def command(shell: Shell, warehouse: str = "ledger.duckdb") -> str:
    created = shell.json("list")["sessions"][0]["created_at"]
    return f"ledger reconcile --repair --from {created[:10]} --warehouse duckdb:///{shell.path.parent}/{warehouse}"


def test_a_restored_file_says_what_to_do_until_it_is_reconciled(shell: Shell, backup: Path) -> None:
    printed = shell.ok("restore-backup", str(backup), "--no-reconcile")
    todo = command(shell)
    assert todo in printed
    assert "has two histories from then on. Stop the programs that append, and type" in printed
    status = shell("status")
    assert (status.exit_code, todo in status.stdout) == (1, True)
    (lacking,) = json.loads(shell("status", "--json").stdout)["unreconciled"]
    assert lacking["warehouse"] == f"duckdb:///{shell.path.parent}/ledger.duckdb"
    doctor = json.loads(shell("doctor", "--json").stdout)
    (finding,) = [each for each in doctor["findings"] if each["what"] == "restored"]
    assert (finding["status"], todo in finding["remedy"]) == ("problem", True)
    assert [each["status"] for each in doctor["findings"] if each["what"] == "append"] == ["ok"]
    shell.ok(*todo.split()[1:])
    assert shell("status").exit_code == 0
    assert not [each for each in json.loads(shell("doctor", "--json").stdout)["findings"] if each["what"] == "restored"]
    assert shell.json("list")["sessions"][0]["version"] == 3


def test_a_restored_file_that_was_reconciled_at_once_says_nothing(shell: Shell, backup: Path) -> None:
    restored = shell.json("restore-backup", str(backup))
    assert (restored["unreconciled"], shell("status").exit_code) == ([], 0)


def test_an_append_to_a_restored_file_warns_once_in_a_process(
    shell: Shell, backup: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell.ok("restore-backup", str(backup), "--no-reconcile")
    session_id = shell.json("list")["sessions"][0]["session_id"]
    appended = shell("message", session_id, "user", "And this year?")
    assert appended.exit_code == 0
    assert appended.stderr.startswith(f"warning: {shell.path} was restored from a backup and has not been reconciled")
    assert appended.stderr.endswith(f"{command(shell)}.\n")
    assert shell("message", session_id, "user", "And last year?").stderr == ""
    caplog.clear()
    monkeypatch.setattr(unreconciled, "_WARNED", set())
    for _ in range(2):
        with SessionLedger(shell.path) as ledger:
            ledger.create_session("ada", "Another")
            ledger.create_session("ada", "One more")
    assert [each.name for each in caplog.records if "restored from a backup" in each.getMessage()] == ["ledger.store"]


def test_no_kill_leaves_a_restored_file_without_the_mark(shell: Shell, backup: Path) -> None:
    environment = os.environ | {"LEDGER_URL": shell.url}
    arguments = [sys.executable, "-c", KILLED, "restore-backup", str(backup)]
    killed = subprocess.run(arguments, env=environment, check=False, stdout=subprocess.DEVNULL, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert shell.json("list")["sessions"][0]["version"] == 2
    assert command(shell) in shell("status").stdout


def test_a_comparison_of_some_days_or_with_another_warehouse_leaves_the_mark(shell: Shell, backup: Path) -> None:
    other = f"duckdb:///{shell.path.parent}/other.duckdb"
    printed = shell.ok("restore-backup", str(backup), "--warehouse", other)
    assert command(shell) in printed
    assert "other.duckdb since" not in printed
    first, *_ = shell.json("list")["sessions"]
    day = first["created_at"][:10]
    shell("reconcile")  # without --repair the event is still lost
    assert shell("status").exit_code == 1
    with closing(sqlite3.connect(shell.path)) as connection, connection:
        month = 30 * 86_400_000_000
        connection.execute("UPDATE meta SET value = value - ? WHERE name LIKE 'unreconciled %'", (month,))
    shell.ok("reconcile", "--repair", "--from", day)
    assert shell("status").exit_code == 1
    shell.ok("reconcile", "--repair", "--from", "2000-01-01", "--until", "2020-01-01")
    assert shell("status").exit_code == 1
    shell.ok("reconcile", "--from", "2000-01-01")
    assert shell("status").exit_code == 0


def test_without_a_first_day_all_days_of_a_restored_file_are_compared(shell: Shell, backup: Path) -> None:
    shell.ok("restore-backup", str(backup), "--no-reconcile", "--from", "2026-01-31")
    assert shell.json("reconcile", "--repair")["created_from"] == "2026-01-31T00:00:00.000000Z"
    assert shell("status").exit_code == 0
    assert shell.json("reconcile")["created_from"] > "2026-02-01"


def test_a_warehouse_that_is_forgotten_marks_a_restored_file_no_more(shell: Shell, backup: Path) -> None:
    """The backup knows none: the former file names the one beside it, and the command line a further one."""
    gone = f"duckdb:///{shell.path.parent}/gone.duckdb"
    duckdb.connect(gone.removeprefix("duckdb:///")).close()
    shell.ok("restore-backup", str(backup), "--no-reconcile", "--warehouse", gone)
    assert f"{command(shell, 'gone.duckdb')}; {command(shell)}" in shell("status").stdout
    shell.ok("warehouse", "forget", gone)
    assert "gone.duckdb" not in shell("status").stdout
    shell.ok("warehouse", "forget", f"duckdb:///{shell.path.parent}/ledger.duckdb")
    assert shell("status").exit_code == 0


def test_a_warehouse_whose_file_is_missing_cannot_be_reconciled_with_until_it_is_put_back(
    shell: Shell, backup: Path, tmp_path: Path
) -> None:
    """The backup does not know the warehouse; the file that it replaces does."""
    file = shell.path.with_suffix(".duckdb")
    file.rename(tmp_path / "away.duckdb")
    failed, todo = shell("restore-backup", str(backup)), command(shell)
    assert (failed.exit_code, "The backup is in place, but is not reconciled with" in failed.stderr) == (21, True)
    assert f"{file} does not exist, and may have events that this ledger lacks" in failed.stderr
    assert todo in failed.stderr
    for args in (todo.split()[1:], ("reconcile",), ("sync",), ("sql", "SELECT 1 AS n")):
        assert (shell(*args).exit_code, file.exists(), todo in shell("status").stdout) == (21, False, True)
    doctor = json.loads(shell("doctor", "--json").stdout)
    (finding,) = [each for each in doctor["findings"] if each["what"] == "duckdb"]
    assert (finding["status"], finding["remedy"].startswith("put the file back; if it is lost")) == ("problem", True)
    (tmp_path / "away.duckdb").rename(file)
    shell.ok(*todo.split()[1:])
    assert (shell("status").exit_code, shell.json("list")["sessions"][0]["version"]) == (0, 3)


def test_a_warehouse_whose_file_is_lost_for_good_is_forgotten_and_filled_anew(shell: Shell, backup: Path) -> None:
    file = shell.path.with_suffix(".duckdb")
    file.unlink()
    assert f"`ledger warehouse forget duckdb:///{file}`" in shell("restore-backup", str(backup)).stderr
    shell.ok("warehouse", "forget", f"duckdb:///{file}")
    shell.ok("sync")
    assert (file.exists(), shell("status").exit_code) == (True, 0)


@pytest.mark.parametrize("is_empty", [False, True])
def test_a_warehouse_that_was_never_shipped_to_is_not_missed(shell: Shell, tmp_path: Path, is_empty: bool) -> None:
    shell.ok("new", "How many orders?")
    shell.ok("backup", str(tmp_path / "monday.db"))
    if is_empty:
        (tmp_path / "never.duckdb").touch()
    never = f"duckdb:///{tmp_path}/never.duckdb"
    assert shell("restore-backup", str(tmp_path / "monday.db"), LEDGER_WAREHOUSE=never).exit_code == 0
    assert shell("status").exit_code == 0


def test_a_damaged_mark_is_found(shell: Shell, backup: Path) -> None:
    shell.ok("restore-backup", str(backup), "--no-reconcile")
    with closing(sqlite3.connect(shell.path)) as connection, connection:
        connection.execute("UPDATE meta SET value = 'x' WHERE name LIKE 'unreconciled %'")
    assert "and should be the time of the first session to reconcile" in shell("verify").stdout
    assert "is 'x', not a number that the store would write" in shell("status").stderr


def test_reconcile_says_how_to_go_on_with_either_of_two_histories(shell: Shell, backup: Path) -> None:
    shell.ok("restore-backup", str(backup), "--no-reconcile")
    session_id = shell.json("list")["sessions"][0]["session_id"]
    shell.ok("message", session_id, "assistant", "About 1,200.")
    found = shell("reconcile", "--repair")
    assert (found.exit_code, found.stdout.count("A session that diverged has two histories")) == (1, 1)
    for words in ("ledger fork SESSION_ID", "ledger --url FILE fork SESSION_ID", "export NEW_ID | ledger import -"):
        assert words in found.stdout
    assert shell("status").exit_code == 0  # nothing is left that a repair could bring back
    (replaced,) = shell.path.parent.glob("ledger.db.replaced-*Z")
    warehouse = f"duckdb:///{shell.path.parent}/ledger.duckdb"
    hydrated = f"sqlite:///{shell.path.parent}/hydrated.db"
    shell.ok("--url", hydrated, "init")
    assert shell("--url", hydrated, "hydrate", session_id, LEDGER_WAREHOUSE=warehouse).exit_code == 0  # not shipped yet
    for file in (f"sqlite:///{replaced}", hydrated):
        other = shell.ok("--url", file, "fork", session_id).strip()
        shell.ok("import", "-", stdin=shell.ok("--url", file, "export", other))
        assert "1,217." in shell.ok("show", other, "--messages")
    own = shell.ok("fork", session_id).strip()
    shell.ok("delete", session_id)
    rows = "SELECT JSON_VALUE(value, '$.content') AS said FROM session_fields WHERE session_id = @id AND key != ''"
    said = shell.json("sql", rows.replace("@id", f"'{own}'"))["rows"]
    assert [each["said"] for each in said] == ["a week", "About 1,200."]
    assert shell("reconcile").exit_code == 1


def test_two_histories_that_a_second_restore_took_are_told_with_what_can_be_done(shell: Shell, backup: Path) -> None:
    shell.ok("restore-backup", str(backup), "--no-reconcile")
    session_id = shell.json("list")["sessions"][0]["session_id"]
    shell.ok("message", session_id, "assistant", "About 1,200.")
    shell.ok("sync")
    again = shell("restore-backup", str(backup))
    assert (again.exit_code, again.stdout.count("A session that diverged has two histories")) == (1, 1)
    assert "2 rows unknown to the ledger, where the session diverged (version 2 in the ledger, 3 in" in again.stdout
    assert shell("status").exit_code == 0


def test_the_mark_stays_while_events_of_an_archived_session_are_left(shell: Shell, backup: Path) -> None:
    session_id = shell.json("list")["sessions"][0]["session_id"]
    shell.ok("archive", session_id)
    shell.ok("sync")
    shell.ok("maintain")
    file = backup.with_name("tuesday.db")
    shell.ok("backup", str(file))
    shell.ok("hydrate", session_id)
    shell.ok("message", session_id, "user", "And this year?")
    shell.ok("sync")
    restored = shell("restore-backup", str(file))
    assert (restored.exit_code, shell("status").exit_code) == (1, 1)
    assert f"{session_id} could not be restored: " in restored.stdout
    assert f"ledger hydrate {session_id}" in " ".join(restored.stdout.split())
    shell.ok("hydrate", session_id)
    shell.ok("sync")
    shell.ok("reconcile", "--repair")
    assert shell("status").exit_code == 0
    assert "And this year?" in shell.ok("show", session_id, "--messages")
