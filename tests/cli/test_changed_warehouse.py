"""A ledger that goes on with another warehouse, while archived sessions have their rows in the former one."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ledger import SessionArchived
from ledger.cli.exits import USAGE
from ledger.stores.sqlite.store import SqliteStore
from ledger.tiers import elsewhere
from support.shell import Shell


@pytest.fixture(autouse=True)
def new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elsewhere, "_WARNED", set())


@pytest.fixture
def old(shell: Shell) -> str:
    """The former warehouse, beside the ledger. It alone has the rows of the archived session ``archived``."""
    for session_id in ("archived", "open"):
        shell.ok("new", "How many orders?", "--id", session_id)
    shell.ok("archive", "archived")
    shell.ok("sync")
    assert "1 dropped" in shell.ok("maintain")
    return f"duckdb:///{shell.path.with_suffix('.duckdb')}"


@pytest.fixture
def new(old: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The new warehouse, which is set and has not been shipped to yet."""
    url = f"duckdb:///{tmp_path / 'new.duckdb'}"
    monkeypatch.setenv("LEDGER_WAREHOUSE", url)
    return url


def said(old: str, new: str) -> str:
    return (
        f"1 archived session is only in {old}, so that queries of {new} do not have it. Bring it back with "
        f"`ledger hydrate SESSION_ID --warehouse {old}`, and archive it again if you like."
    )


@pytest.mark.parametrize("args", [("sync",), ("sql", "SELECT COUNT(*) AS n FROM sessions")], ids=" ".join)
def test_a_command_that_fills_a_new_warehouse_says_which_sessions_it_lacks(
    shell: Shell, old: str, new: str, args: tuple[str, ...]
) -> None:
    result = shell(*args)
    assert (result.exit_code, said(old, new) in result.stderr) == (0, True)


def test_status_lists_the_sessions_that_the_new_warehouse_lacks(shell: Shell, old: str, new: str) -> None:
    printed = shell.ok("status")
    assert f"{said(old, new)}\n  archived\n" in printed
    assert shell.json("status")["archived_elsewhere"] == [{"session_id": "archived", "warehouses": [old]}]
    assert shell.json("status", "--warehouse", old)["archived_elsewhere"] == []


def test_a_ledger_of_an_earlier_release_that_knew_one_warehouse_says_it_after_the_upgrade(
    shell: Shell, old: str, new: str
) -> None:
    with closing(sqlite3.connect(shell.path)) as connection, connection:
        connection.executescript(
            "DROP TABLE archived_in; DROP TABLE model_prices; DELETE FROM migrations WHERE name >= '018'; "
            "PRAGMA user_version = 17"
        )
    assert shell.json("status")["archived_elsewhere"] == [{"session_id": "archived", "warehouses": [old]}]


def test_a_query_runs_on_the_warehouse_that_it_names(shell: Shell, old: str, new: str) -> None:
    question = "SELECT COUNT(*) AS n FROM sessions"
    assert shell.json("sql", question)["rows"] == [{"n": 1}]
    assert shell.json("sql", question, "--warehouse", old)["rows"] == [{"n": 2}]


def test_the_doctor_says_it_too(shell: Shell, old: str, new: str) -> None:
    (found,) = [each for each in shell.json("doctor")["findings"] if each["what"] == "archived"]
    assert (found["status"], f"{found['detail']}. {found['remedy']}.") == ("note", said(old, new))


def test_what_needs_the_rows_names_the_warehouse_that_has_them(shell: Shell, old: str, new: str) -> None:
    for args in (("show", "archived"), ("export", "archived"), ("message", "archived", "user", "And this year?")):
        code, message = shell.fails(*args)
        assert code == 23
        assert f"Its rows are in {old}: set LEDGER_WAREHOUSE to it, or bring them back with" in message
        assert f"`ledger hydrate archived --warehouse {old}`" in message


def test_what_needs_rows_that_two_warehouses_have_names_both_and_asks_for_one_of_them(
    shell: Shell, old: str, new: str, tmp_path: Path
) -> None:
    shell.ok("hydrate", "archived", "--warehouse", old)
    shell.ok("archive", "archived")
    for warehouse in (old, new):
        shell.ok("sync", "--warehouse", warehouse)
    assert "1 dropped" in shell.ok("maintain")
    _, message = shell.fails("show", "archived", LEDGER_WAREHOUSE=f"duckdb:///{tmp_path}/third.duckdb")
    first, second = sorted((old, new))
    assert f"{first} and {second}: set LEDGER_WAREHOUSE to one of them, or bring them back with" in message
    with closing(SqliteStore(shell.path)) as store, pytest.raises(SessionArchived) as told:
        store.state("archived", version=1)
    assert f"only in {first}, {second}: open the ledger with one of them (warehouse=, or" in str(told.value)


def test_reconcile_names_the_warehouse_that_has_the_rows_and_calls_nothing_lost(
    shell: Shell, old: str, new: str
) -> None:
    shell.ok("sync")
    result = shell("reconcile")
    assert (result.exit_code, said(old, new) in result.stdout) == (1, True)
    assert "lost" not in result.stdout
    (difference,) = json.loads(shell("reconcile", "--json").stdout)["differences"]
    assert (difference["session_id"], difference["gone_rows"] > 0, difference["rows_in"]) == ("archived", True, [old])


def test_sessions_that_are_brought_back_are_in_the_new_warehouse_and_the_former_one_can_go(
    shell: Shell, old: str, new: str
) -> None:
    shell.ok("sync")
    code, message = shell.fails("warehouse", "forget", old)
    assert (code, "rows may be only there: 1;" in message) == (23, True)
    shell.ok("hydrate", "archived", "--warehouse", old)
    shell.ok("archive", "archived")
    shell.ok("sync")
    shell.ok("sync", "--warehouse", old)
    assert "1 dropped" in shell.ok("maintain")
    assert shell.ok("warehouse", "forget", old).startswith(f"Forgot {old}: ")
    assert shell.json("status")["archived_elsewhere"] == []
    assert shell.json("sql", "SELECT COUNT(*) AS n FROM sessions")["rows"] == [{"n": 2}]
    assert "nothing differs" in shell.ok("reconcile")
    assert shell.json("show", "archived")["status"] == "archived"


def test_a_lost_file_with_sessions_that_another_warehouse_has_too_is_not_filled_anew_before_it_is_forgotten(
    shell: Shell, old: str, new: str
) -> None:
    shell.ok("hydrate", "archived", "--warehouse", old)
    shell.ok("archive", "archived")
    for warehouse in (old, new):
        shell.ok("sync", "--warehouse", warehouse)
    assert "1 dropped" in shell.ok("maintain")
    Path(new.removeprefix("duckdb:///")).unlink()
    code, message = shell.fails("sync")
    assert (code, "the events of 1 archived session were in it; it was not filled anew" in message) == (23, True)
    (found,) = [each for each in json.loads(shell("doctor", "--json").stdout)["findings"] if each["what"] == "duckdb"]
    assert "the rows of 1 archived session, which another warehouse has too" in found["detail"]
    assert found["remedy"].endswith(f"; if it is lost: ledger warehouse forget {new}")
    shell.ok("warehouse", "forget", new)
    shell.ok("sync")
    assert said(old, new) in shell.ok("status")


def test_a_ledger_that_was_moved_with_its_file_knows_it_again(shell: Shell, old: str, tmp_path: Path) -> None:
    folder = tmp_path / "moved"
    folder.mkdir()
    for each in list(tmp_path.glob(f"{shell.path.stem}.*")):
        each.rename(folder / each.name)
    moved = Shell(folder / shell.path.name)
    present = f"duckdb:///{moved.path.with_suffix('.duckdb')}"
    assert f"if it was moved, type: `ledger warehouse moved {old} {present}`." in moved.ok("status")
    (finding,) = [it for it in json.loads(moved("doctor", "--json").stdout)["findings"] if it["status"] == "problem"]
    assert (finding["what"], f"ledger warehouse moved {old} NEW" in finding["remedy"]) == ("also shipped to", True)
    moved.ok("warehouse", "moved", old, present)
    assert moved("doctor").exit_code == 0
    assert [each["warehouse"] for each in moved.json("warehouse")["warehouses"]] == [present]
    assert moved.json("status")["archived_elsewhere"] == []
    assert moved.json("sync")["sent_rows"] == 0
    assert moved.json("show", "archived")["status"] == "archived"
    assert moved.ok("purge", "archived") == "1 session purged.\n"


def test_what_is_not_the_file_that_was_moved_is_refused(shell: Shell, old: str, tmp_path: Path) -> None:
    file, other = Path(old.removeprefix("duckdb:///")), f"duckdb:///{tmp_path / 'other.duckdb'}"
    shell.ok("sync", "--warehouse", other)
    assert f"{file} is still there" in shell.fails("warehouse", "moved", old, other)[1]
    file.rename(tmp_path / "aside.duckdb")
    code, message = shell.fails("warehouse", "moved", old, other)
    assert (code, "it lacks rows of 1 session, such as archived; nothing was changed" in message) == (23, True)
    assert "does not exist; move the file there first" in shell.fails("warehouse", "moved", old, f"{old}.x")[1]
    assert "This ledger does not ship to" in shell.fails("warehouse", "moved", f"{old}.x", other)[1]
    assert "Only a DuckDB file" in shell.fails("warehouse", "moved", old, "bigquery://p/d")[1]
    assert shell.fails("warehouse", "moved", old)[0] == USAGE
    assert sorted(each["warehouse"] for each in shell.json("warehouse")["warehouses"]) == sorted([old, other])
