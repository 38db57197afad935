"""Which warehouse a session waits for, said by status, maintain and warehouse list; and forgetting one."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ledger import InvalidInput, LeaseHeld, SessionLedger
from ledger.cli.exits import USAGE
from ledger.stores.sqlite import respelled as earlier_spellings
from support.shell import Shell


@pytest.fixture
def old(tmp_path: Path) -> str:
    """A warehouse that nobody ships to any more."""
    return f"duckdb:///{tmp_path / 'old.duckdb'}"


@pytest.fixture
def shipped(shell: Shell, old: str) -> Shell:
    """A ledger that shipped to the old warehouse once, and has an expired and an archived session since."""
    shell.ok("new", "Shipped?", "--id", "first")
    shell.ok("sync", "--warehouse", old)
    for session_id, ending in (("s", "expire"), ("t", "archive")):
        shell.ok("new", "What?", "--id", session_id)
        shell.ok(ending, session_id)
    shell.ok("sync")
    return shell


def told(shell: Shell, *args: str) -> tuple[int, Any]:
    result = shell(*args, "--json")
    return result.exit_code, json.loads(result.stdout)


def test_maintain_says_which_session_waits_for_which_warehouse_since_when(shipped: Shell, old: str) -> None:
    code, said = told(shipped, "maintain", "--retention-days", "0")
    assert (code, said["deleted"], said["held_up"], said["dropped"]) == (1, 0, 2, 0)
    assert {(it["session_id"], it["status"], it["warehouse"], it["waits_for"]) for it in said["sessions"]} == {
        ("s", "expired", old, "shipping"),
        ("t", "archived", old, "shipping"),
    }
    created = {it["session_id"]: it["created_at"] for it in shipped.json("list")["sessions"]}
    assert {it["session_id"]: it["since"][:19] for it in said["sessions"]} == {
        session_id: created[session_id][:19] for session_id in ("s", "t")
    }
    result = shipped("maintain", "--retention-days", "0")
    assert result.stdout.startswith("0 expired, 0 dropped, 0 deleted; 2 held up.\n")
    assert f"2 sessions: rows not shipped to {old}." in result.stdout
    assert f"ledger sync --warehouse {old}; if it is gone: ledger warehouse forget {old}" in result.stdout


def test_a_session_that_was_hydrated_and_archived_again_waits_once_for_each_warehouse(shell: Shell, old: str) -> None:
    shell.ok("new", "What?", "--id", "s")
    shell.ok("archive", "s")
    for warehouse in ((), ("--warehouse", old)):
        shell.ok("sync", *warehouse)
    assert "1 dropped" in shell.ok("maintain")
    shell.ok("hydrate", "s")  # for the old warehouse, the former rows wait to be asked about, and the new ones
    shell.ok("archive", "s")
    _, said = told(shell, "status")
    beside = f"duckdb:///{shell.path.with_suffix('.duckdb')}"
    assert sorted((it["session_id"], it["warehouse"]) for it in said["sessions"]) == [("s", beside), ("s", old)]
    with SessionLedger(shell.url) as ledger:  # a refused row among them is what has to be seen to
        outbox = ledger.store.outbox(old)
        checkpoint = outbox.acquire("h/1/x", 60)
        outbox.save(checkpoint, dead_letters={1: "too red"})
        outbox.release(checkpoint)
    _, said = told(shell, "status")
    assert [it["waits_for"] for it in said["sessions"] if it["warehouse"] == old] == ["redrive"]


def test_an_archived_session_that_waits_is_said_without_retention_and_is_no_failure(shipped: Shell) -> None:
    code, said = told(shipped, "maintain")
    assert (code, [it["session_id"] for it in said["sessions"]]) == (0, ["t"])


def test_status_fails_if_sessions_wait_for_another_warehouse(shipped: Shell, old: str) -> None:
    code, said = told(shipped, "status")
    assert (code, said["waiting_rows"]) == (1, 0)
    assert {it["warehouse"] for it in said["sessions"]} == {old}
    assert f"2 sessions: rows not shipped to {old}." in shipped("status").stdout
    assert told(shipped, "status", "--warehouse", old)[0] == 0  # the relay to this one will ship the rows


def test_warehouses_are_listed_and_one_is_forgotten(shipped: Shell, old: str) -> None:
    rows = {it["warehouse"]: it for it in shipped.json("warehouse", "list")["warehouses"]}
    waited = rows[old]["waiting_rows"]
    assert (waited > 0, len(rows[old]["sessions"]), len(rows)) == (True, 2, 2)
    assert "2 sessions" in shipped.ok("warehouse")
    assert shipped.ok("warehouse", "forget", old) == (
        f"Forgot {old}: {waited} rows waited for it. No session waits for it any more.\n"
    )
    assert [it["warehouse"] for it in shipped.json("warehouse", "list")["warehouses"]] == [*(set(rows) - {old})]
    code, said = told(shipped, "maintain", "--retention-days", "0")
    assert (code, said["deleted"], said["dropped"], said["sessions"]) == (0, 2, 1, [])
    assert told(shipped, "status")[0] == 0


def test_a_forgotten_warehouse_gets_what_it_lacks_if_it_is_used_again(shipped: Shell, old: str) -> None:
    waited = shipped.json("status", "--warehouse", old)["waiting_rows"]
    shipped.ok("warehouse", "forget", old)
    assert shipped.json("sync", "--warehouse", old)["sent_rows"] == waited
    assert shipped.json("sync", "--warehouse", old)["sent_rows"] == 0


def test_a_warehouse_that_is_needed_is_forgotten_only_with_yes(shell: Shell) -> None:
    beside = f"duckdb:///{shell.path.with_suffix('.duckdb')}"
    shell.ok("new", "What?", "--id", "archived")
    shell.ok("sync")
    shell.ok("archive", "archived")
    shell.ok("sync")
    assert shell.json("maintain")["dropped"] == 1
    code, said = shell.fails("warehouse", "forget", beside)
    assert (code, "rows may be only there: 1;" in said) == (23, True)
    assert shell.ok("warehouse", "forget", beside, "--yes").startswith(f"Forgot {beside}: 0 rows")
    assert shell.ok("warehouse", "list").startswith("The ledger ships to no warehouse yet")


def test_a_warehouse_under_another_spelling_is_the_same_one(
    shipped: Shell, old: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert shipped.ok("warehouse", "forget", "duckdb:///old.duckdb").startswith(f"Forgot {old}:")


def test_what_cannot_be_forgotten_is_refused(shell: Shell, old: str) -> None:
    shell.ok("new", "What?")
    assert shell.fails("warehouse", "forget", old) == (
        3,
        f"This ledger does not ship to {old}: it ships to none. (invalid_input)",
    )
    assert shell.fails("warehouse", "forget")[0] == USAGE
    assert shell.fails("warehouse", "list", old)[0] == USAGE
    shell.ok("sync")
    with SessionLedger(shell.url) as ledger:
        with pytest.raises(InvalidInput, match="it ships to duckdb:"):
            ledger.store.forget_warehouse(old)
        (beside,) = ledger.store.warehouses()
        outbox = ledger.store.outbox(beside)
        checkpoint = outbox.acquire("h/1/x", 60)
        with pytest.raises(LeaseHeld, match="Stop that process first"):
            ledger.store.forget_warehouse(beside)
        outbox.release(checkpoint)
        assert ledger.store.forget_warehouse(beside).waiting_rows == 0


def test_refused_rows_hold_up_the_retention_of_their_session(shell: Shell) -> None:
    shell.ok("new", "What?", "--id", "s")
    shell.ok("expire", "s")
    shell.ok("sync")
    with SessionLedger(shell.url) as ledger:
        (beside,) = ledger.store.warehouses()
        outbox = ledger.store.outbox(beside)
        checkpoint = outbox.acquire("h/1/x", 60)
        outbox.save(checkpoint, dead_letters={1: "too red"})
        outbox.release(checkpoint)
    code, said = told(shell, "maintain", "--retention-days", "0")
    assert (code, said["held_up"], said["sessions"][0]["waits_for"]) == (1, 1, "redrive")
    assert f"ledger relay dead-letters --warehouse {beside}" in shell("maintain", "--retention-days", "0").stdout


@pytest.mark.parametrize("recorded_under_both", [False, True])
def test_a_ledger_opened_from_a_subfolder_ships_to_the_same_warehouse(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, recorded_under_both: bool
) -> None:
    beside, name = shell.path.with_suffix(".duckdb"), shell.path.name
    folder = shell.path.parent / "notebooks"
    folder.mkdir()
    respelled = f"duckdb:///{folder}/../{beside.name}"
    shell.ok("new", "What?")
    shell.ok("sync")
    with sqlite3.connect(shell.path) as connection:  # as an earlier release recorded it
        if recorded_under_both:
            connection.execute("INSERT INTO relays (warehouse, checkpoint) VALUES (?, 1)", (respelled,))
            connection.execute("INSERT INTO relay_aside VALUES (?, 1, 'in doubt', 0, 'asked')", (respelled,))
        else:
            connection.execute("UPDATE relays SET warehouse = ?", (respelled,))
        connection.execute("INSERT INTO meta VALUES (?, '0')", (f"unreconciled {respelled}",))
    connection.close()
    monkeypatch.chdir(folder)
    with SessionLedger.open(f"sqlite:///../{name}") as ledger:
        assert ledger.sql("SELECT COUNT(*) AS n FROM sessions").rows == [(1,)]
    (listed,) = shell.json("warehouse", "list")["warehouses"]
    assert (listed["warehouse"], listed["shipped_rows"], listed["waiting_rows"]) == (f"duckdb:///{beside}", 2, 0)


def test_earlier_spellings_are_not_taken_for_none_if_the_file_cannot_be_read_now(shell: Shell) -> None:
    shell.ok("init")
    with closing(sqlite3.connect(shell.path)) as connection:
        connection.set_progress_handler(lambda: 1, 1)
        with pytest.raises(sqlite3.OperationalError, match="interrupted"):
            earlier_spellings.are_recorded(connection)
