"""A backup is restored again before the ledger was reconciled: no warehouse that has later events is forgotten."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from ledger import SessionLedger
from ledger.clock import utc_now
from ledger.testing import SetClock
from support.shell import Shell

pytestmark = pytest.mark.duckdb

#: `ledger` on a file system without hard links, killed when the former file has its other name.
KILLED = """
import os, signal
from pathlib import Path
from ledger.cli.app import ledger
from ledger.stores.sqlite import replacing

def refuse(path, target):
    raise PermissionError(1, "no hard links")

def rename(path, target, rename=Path.rename):
    renamed = rename(path, target)
    if str(path) == os.environ["LEDGER_URL"].removeprefix("sqlite:///"):
        os.kill(os.getpid(), signal.SIGKILL)
    return renamed

Path.hardlink_to, Path.rename = refuse, rename
ledger()
"""


@pytest.fixture
def session_id(shell: Shell) -> str:
    """A session that was shipped to the DuckDB file beside the ledger."""
    session_id = shell.ok("new", "How many orders?").strip()
    shell.ok("sync")
    return session_id


@pytest.fixture
def backup(shell: Shell, session_id: str) -> Path:
    """A backup of the ledger, which has gone on since and was shipped to another warehouse; that one is away."""
    file = shell.path.with_name("monday.db")
    shell.ok("backup", str(file))
    shell.ok("message", session_id, "assistant", "1,217.")
    shell.ok("sync", "--warehouse", later(shell))
    later_file(shell).rename(away(shell))
    return file


def later_file(shell: Shell) -> Path:
    return shell.path.with_name("later.duckdb")


def away(shell: Shell) -> Path:
    return shell.path.with_name("away.duckdb")


def later(shell: Shell) -> str:
    return f"duckdb:///{later_file(shell)}"


def marked(shell: Shell) -> list[str]:
    return [each["warehouse"] for each in json.loads(shell("status", "--json").stdout)["unreconciled"]]


def comes_back(shell: Shell, session_id: str) -> bool:
    """The other warehouse is there again, and what `ledger status` says to type brings its events back."""
    away(shell).rename(later_file(shell))
    first = json.loads(shell("status", "--json").stdout)["unreconciled"][0]["created_from"][:10]
    shell.ok("reconcile", "--repair", "--from", first, "--warehouse", later(shell))
    return (shell("status").exit_code, shell.json("show", session_id)["version"]) == (0, 2)


def test_warehouses_that_can_be_reached_are_reconciled_and_every_command_that_is_left_is_told(
    shell: Shell, session_id: str, backup: Path
) -> None:
    """The one that cannot be reached comes first; a third one was not to be reconciled at this time."""
    shell.ok("sync")
    third, beside = (f"duckdb:///{shell.path.with_name(name)}" for name in ("third.duckdb", "ledger.duckdb"))
    shell.ok("sync", "--warehouse", third)
    failed = shell("restore-backup", str(backup), "--warehouse", later(shell), "--warehouse", beside)
    assert failed.exit_code == 21
    assert "1 event restored from the warehouse" in " ".join(failed.stdout.split())
    assert failed.stderr.count(f"ledger reconcile --repair --from {utc_now():%Y-%m-%d} --warehouse ") == 2
    assert all(f"--warehouse {each}" in failed.stderr for each in (later(shell), third))
    assert beside not in failed.stderr
    assert (shell.json("show", session_id)["version"], marked(shell)) == (2, [later(shell), third])
    as_json = shell("restore-backup", str(backup), "--json")
    assert (as_json.exit_code, as_json.stderr.count("\n")) == (21, 1)
    restored = json.loads(as_json.stdout)
    assert [each["warehouse"] for each in restored["unreconciled"]] == [later(shell)]
    assert [each["warehouse"] for each in restored["reconciled"]] == [beside, third]


def test_a_restore_that_is_repeated_still_asks_for_the_warehouse_that_could_not_be_reached(
    shell: Shell, session_id: str, backup: Path
) -> None:
    for _ in range(3):
        restored = shell("restore-backup", str(backup))
        assert (restored.exit_code, later(shell) in restored.stderr) == (21, True)
        assert (shell("status").exit_code, marked(shell)) == (1, [later(shell)])
    assert comes_back(shell, session_id)


@pytest.mark.parametrize("options", [("--no-reconcile",), ("--warehouse", "the one beside it")])
def test_no_option_of_a_later_restore_forgets_a_warehouse(
    shell: Shell, session_id: str, backup: Path, options: tuple[str, ...]
) -> None:
    beside = f"duckdb:///{shell.path.with_suffix('.duckdb')}"
    shell("restore-backup", str(backup))
    shell.ok("restore-backup", str(backup), *(beside if each == "the one beside it" else each for each in options))
    assert later(shell) in marked(shell)
    shell.ok("reconcile", "--repair")
    assert comes_back(shell, session_id)


def test_another_backup_that_knows_no_warehouse_carries_the_marks_over(shell: Shell, session_id: str) -> None:
    early, late = (shell.path.with_name(name) for name in ("early.db", "late.db"))
    shell.ok("backup", str(early))
    shell.ok("message", session_id, "assistant", "1,217.")
    shell.ok("sync", "--warehouse", later(shell))
    shell.ok("restore-backup", str(early), "--no-reconcile")
    shell.ok("backup", str(late))
    shell.ok("reconcile", "--repair", "--warehouse", later(shell))
    later_file(shell).rename(away(shell))
    shell("restore-backup", str(early), "--no-reconcile")
    assert shell("restore-backup", str(late)).exit_code == 21
    assert marked(shell) == [later(shell)]
    assert comes_back(shell, session_id)


@pytest.mark.parametrize("lost", [None, b"", b"SQLite format 3\0" + bytes(5000)], ids=["gone", "empty", "damaged"])
def test_marks_of_a_restored_file_that_was_lost_since_are_taken_from_the_file_that_it_replaced(
    shell: Shell, session_id: str, backup: Path, lost: bytes | None
) -> None:
    shell("restore-backup", str(backup))
    shell.path.unlink()
    if lost is not None:
        shell.path.write_bytes(lost)
    assert shell("restore-backup", str(backup)).exit_code == 21
    assert marked(shell) == [later(shell)]
    assert comes_back(shell, session_id)


def test_a_kill_between_two_names_forgets_no_warehouse(shell: Shell, session_id: str, backup: Path) -> None:
    environment = os.environ | {"LEDGER_URL": shell.url}
    arguments = [sys.executable, "-c", KILLED, "restore-backup", str(backup)]
    assert subprocess.run(arguments, env=environment, check=False, timeout=60).returncode == -signal.SIGKILL
    assert not shell.path.exists()
    assert shell("restore-backup", str(backup)).exit_code == 21
    assert comes_back(shell, session_id)


def test_a_warehouse_that_was_forgotten_stays_forgotten(shell: Shell, session_id: str, backup: Path) -> None:
    shell("restore-backup", str(backup))
    shell.ok("warehouse", "forget", later(shell))
    shell.ok("restore-backup", str(backup))
    assert marked(shell) == []


def test_a_later_first_day_does_not_shorten_a_mark(shell: Shell, session_id: str, backup: Path) -> None:
    shell("restore-backup", str(backup), "--from", "2026-01-31")
    shell("restore-backup", str(backup), "--from", "2026-02-28")
    (mark,) = json.loads(shell("status", "--json").stdout)["unreconciled"]
    assert mark["created_from"] == "2026-01-31T00:00:00.000000Z"


def test_sessions_that_are_older_than_all_of_the_backup_come_back_too(shell: Shell, session_id: str) -> None:
    """They were imported after it. Without the former file, no earlier day is known, and all are compared."""
    file, other = shell.path.with_name("monday.db"), Shell(shell.path.with_name("other.db"))
    shell.ok("backup", str(file))
    with SessionLedger(other.path, clock=SetClock(utc_now() - timedelta(days=300))) as ledger:
        older = ledger.create_session("ada", "How many last year?")
    shell.ok("import", "-", stdin=other.ok("export", older))
    shell.ok("message", older, "user", "By quarter?")
    shell.ok("sync")
    for is_lost in (False, True):
        if is_lost:
            shell.path.unlink()
        (reconciled,) = shell.json("restore-backup", str(file))["reconciled"]
        assert reconciled["repaired"]["events"] == 2
        assert shell.json("show", older)["question"] == "How many last year?"


def test_a_session_that_is_purged_before_a_warehouse_is_back_does_not_come_back_with_it(
    shell: Shell, session_id: str, backup: Path
) -> None:
    shell("restore-backup", str(backup))
    shell.ok("delete", session_id)
    shell.ok("sync")
    purged = shell("purge", session_id)
    assert (purged.exit_code, f"ledger maintain --warehouse {later(shell)}" in purged.stdout) == (1, True)
    assert "must still be deleted there: 1" in shell.fails("warehouse", "forget", later(shell))[1]
    away(shell).rename(later_file(shell))
    shell.ok("reconcile", "--repair", "--warehouse", later(shell))
    assert shell.json("list")["sessions"] == []
    shell.ok("maintain", "--warehouse", later(shell))
    assert shell.json("sql", "SELECT 1 AS n FROM session_events", "--warehouse", later(shell))["rows"] == []
    assert shell("status").exit_code == 0
