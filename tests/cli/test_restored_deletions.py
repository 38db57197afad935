"""What was deleted since a backup was written stays deleted when the backup is restored."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.shell import Shell

pytestmark = pytest.mark.duckdb


@pytest.fixture
def session_id(shell: Shell) -> str:
    """A session that was shipped to the DuckDB file beside the ledger, which has another session too."""
    session_id = shell.ok("new", "How many orders?").strip()
    shell.ok("new", "And this year?")
    shell.ok("sync")
    return session_id


@pytest.fixture
def backup(shell: Shell, session_id: str) -> Path:
    """A backup of the ledger."""
    file = shell.path.with_name("monday.db")
    shell.ok("backup", str(file))
    return file


def shipped(shell: Shell) -> set[str]:
    answer = shell.ok("sql", "SELECT DISTINCT session_id FROM session_history", "--format", "csv")
    return set(answer.splitlines()[1:])


def listed(shell: Shell) -> set[str]:
    return {each["session_id"] for each in shell.json("list")["sessions"]}


@pytest.mark.parametrize("is_done", [True, False], ids=["everywhere", "not yet in the warehouse"])
def test_a_session_that_was_purged_since_the_backup_is_purged_again_and_not_shipped(
    shell: Shell, session_id: str, backup: Path, is_done: bool
) -> None:
    warehouse = shell.path.with_name("ledger.duckdb")
    content = warehouse.read_bytes()
    shell.ok("delete", session_id)
    shell.ok("sync")
    shell.ok("maintain", "--retention-days", "0")
    assert session_id not in shipped(shell)
    if not is_done:
        warehouse.write_bytes(content)
    restored = shell.json("restore-backup", str(backup))
    assert (restored["deletions_known"], restored["purged_again"]) == (True, [session_id])
    assert restored["to_purge_in"] == [f"duckdb:///{warehouse}"]
    shell.ok("sync")
    shell.ok("maintain", "--retention-days", "30")
    assert session_id not in shipped(shell)
    assert session_id not in listed(shell)
    assert "nothing differs" in shell.ok("verify")
    assert "How many orders" not in shell.path.read_bytes().decode("latin-1")
    printed = shell.ok("restore-backup", str(backup))  # the record is in the restored file too
    assert f"1 session purged since the backup, purged again: {session_id}\n" in printed
    assert printed.endswith(f"Now type: ledger maintain --warehouse duckdb:///{warehouse}\n")


def test_a_session_of_which_the_backup_has_nothing_stays_purged_in_a_warehouse_that_must_still_delete_it(
    shell: Shell, session_id: str, backup: Path
) -> None:
    later = shell.ok("new", "And last year?").strip()
    shell.ok("delete", later)
    shell.ok("sync")
    warehouse = shell.path.with_name("ledger.duckdb")
    content = warehouse.read_bytes()
    warehouse.write_bytes(b"text " * 1000)
    assert shell("maintain", "--retention-days", "0").exit_code != 0
    warehouse.write_bytes(content)
    shell.ok("restore-backup", str(backup))
    assert later not in listed(shell)
    shell.ok("maintain", "--retention-days", "30")
    assert shipped(shell) == listed(shell)


@pytest.mark.parametrize("reconcile", [(), ("--no-reconcile",)])
def test_a_session_whose_deletion_reached_no_warehouse_is_deleted_again(
    shell: Shell, session_id: str, backup: Path, reconcile: tuple[str, ...]
) -> None:
    shell.ok("delete", session_id)
    restored = shell.json("restore-backup", str(backup), *reconcile)
    expected = ([], [session_id]) if reconcile else ([session_id], [])
    assert (restored["deleted_again"], restored["to_delete_again"]) == expected
    assert (session_id in listed(shell)) is bool(reconcile)
    if reconcile:
        return
    shell.ok("sync")
    assert "deleted" not in shell.ok("restore-backup", str(backup))  # it came back deleted, from the warehouse
    assert session_id not in listed(shell)


def test_a_restore_without_a_former_file_says_that_deletions_are_not_known(
    shell: Shell, session_id: str, backup: Path
) -> None:
    shell.path.unlink()
    assert "deletions since the backup are lost" in shell.ok("restore-backup", str(backup))
    shell.path.write_bytes(b"SQLite format 3" + bytes(5000))
    assert shell.json("restore-backup", str(backup))["deletions_known"] is False


def test_a_session_that_came_back_before_a_later_backup_stays_when_that_one_is_restored(
    shell: Shell, session_id: str, backup: Path
) -> None:
    """The file to be replaced is an earlier one, in which the session was purged or deleted the last time."""
    other = (listed(shell) - {session_id}).pop()
    exported = shell.ok("export", session_id)
    for each in (session_id, other):
        shell.ok("delete", each)
    shell.ok("sync")
    shell.ok("restore", other)
    shell.ok("maintain", "--retention-days", "0")
    shell.ok("delete", other)
    early, late = backup.with_name("early.db"), backup.with_name("late.db")
    shell.ok("backup", str(early))
    shell.ok("import", "-", stdin=exported)
    shell.ok("restore", other)
    shell.ok("backup", str(late))
    for file in (early, late):
        restored = shell.json("restore-backup", str(file), "--no-reconcile")
    assert (restored["purged_again"], restored["deleted_again"], restored["to_delete_again"]) == ([], [], [])
    assert listed(shell) == {session_id, other}
    assert "nothing differs" in shell.ok("verify")
