"""A DuckDB file that is gone is not filled anew while archived sessions have their rows there alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import duckdb
import pytest

from ledger import SessionLedger, StoreRejected
from ledger.relay.background import BackgroundRelay
from ledger.tiers.attached import AttachedWarehouse
from support.shell import Shell


@pytest.fixture
def file(shell: Shell) -> Path:
    """The DuckDB file beside a ledger with one archived session and one that goes on."""
    archived = shell.ok("new", "How many orders?").strip()
    shell.ok("new", "And this year?")
    shell.ok("archive", archived)
    shell.ok("sync")
    assert "1 dropped" in shell.ok("maintain")
    return shell.path.with_suffix(".duckdb")


def archived(shell: Shell) -> str:
    return next(each["session_id"] for each in shell.json("list")["sessions"] if each["status"] == "archived")


@pytest.mark.parametrize(
    "args",
    [
        ("sync",),
        ("sql", "SELECT 1 AS n"),
        ("reconcile", "--repair"),
        ("show", "ID"),
        ("message", "ID", "user", "And last week?"),
        ("sync", "after a new session"),
    ],
    ids=" ".join,
)
def test_no_command_fills_a_lost_file_anew_without_the_archived_sessions(
    shell: Shell, file: Path, args: tuple[str, ...]
) -> None:
    session_id = archived(shell)
    file.unlink()
    if args == ("sync", "after a new session"):
        args = ("sync",)
        shell.ok("new", "What is new?")
    code, message = shell.fails(*(session_id if each == "ID" else each for each in args))
    assert code == 23
    assert message.startswith(f"{file} does not exist, and the events of 1 archived session were in it alone; it was")
    assert f"`ledger warehouse forget duckdb:///{file} --yes`" in message
    assert not file.exists()


def test_a_file_without_the_rows_of_the_ledger_is_as_good_as_lost(shell: Shell, file: Path) -> None:
    file.unlink()
    duckdb.connect(str(file)).close()
    for _ in range(2):
        code, message = shell.fails("sync")
        assert (code, f"{file} has no rows of this ledger, and the events of 1" in message) == (23, True)


def test_a_lost_file_that_is_put_back_serves_again(shell: Shell, file: Path, tmp_path: Path) -> None:
    file.rename(tmp_path / "aside.duckdb")
    shell.fails("sync")
    assert "put the file back" in shell("doctor").stdout.replace("\n", " ")
    (tmp_path / "aside.duckdb").rename(file)
    shell.ok("hydrate", archived(shell))
    shell.ok("sync")


def test_an_older_copy_is_brought_up_to_date_but_for_sessions_archived_since_which_reconcile_names(
    shell: Shell, file: Path, tmp_path: Path
) -> None:
    shutil.copy(file, tmp_path / "monday.duckdb")
    later = shell.ok("new", "And next year?").strip()
    shell.ok("archive", later)
    shell.ok("sync")
    assert "1 dropped" in shell.ok("maintain")
    shell.ok("new", "How many customers?")
    shutil.copy(tmp_path / "monday.duckdb", file)
    shell.ok("sync")
    found = shell("reconcile")
    assert (found.exit_code, f"{later}: " in found.stdout) == (1, True)
    assert "1 session differs" in found.stdout
    assert "Bring back a later copy" in found.stdout


def test_sessions_that_were_given_up_go_with_retention(shell: Shell, file: Path) -> None:
    session_id = archived(shell)
    file.unlink()
    shell.ok("warehouse", "forget", f"duckdb:///{file}", "--yes")
    shell.ok("sync")
    assert shell.fails("export", "-o", str(file.with_name("all.jsonl")))[0] == 23
    shell.ok("maintain", "--retention-days", "0")
    assert session_id not in shell.ok("list", "--json")
    assert shell.ok("export").count("\n") == 1


def test_who_gives_up_a_lost_file_gets_a_new_one(shell: Shell, file: Path) -> None:
    file.unlink()
    url = f"duckdb:///{file}"
    assert shell.fails("warehouse", "forget", url)[0] == 23
    shell.ok("warehouse", "forget", url, "--yes")
    shell.ok("sync")
    assert shell.json("sql", "SELECT question FROM sessions")["rows"] == [{"question": "And this year?"}]


def test_without_archived_sessions_a_lost_file_is_filled_again(shell: Shell, tmp_path: Path) -> None:
    other = tmp_path / "other.duckdb"
    shell.ok("new", "How many orders?")
    for _ in range(2):
        shell.ok("sync", "--warehouse", f"duckdb:///{other}")
        with duckdb.connect(str(other)) as connection:
            assert connection.execute("SELECT question FROM sessions").fetchall() == [("How many orders?",)]
        other.unlink()


def test_a_background_relay_says_it_and_the_rows_wait(shell: Shell, file: Path) -> None:
    with SessionLedger(shell.path) as ledger:
        attached = AttachedWarehouse(ledger.store, f"duckdb:///{file}")
        relay = attached.relay()
        relay.sync()
        file.unlink()
        ledger.create_session("ada", "Another")
        with pytest.raises(StoreRejected, match="does not exist, and the events of 1 archived session"):
            relay.sync()
        relay.close()
        status = attached.status()
        assert (status.waiting_rows > 0, "does not exist" in str(status.last_error)) == (True, True)
        background = BackgroundRelay(attached.relay)
        background.start()
        assert background.close(10)
    assert not file.exists()
