"""The commands archive, hydrate and maintain."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ledger.cli.exits import USAGE
from support.shell import Shell


def rows(shell: Shell) -> int:
    with closing(sqlite3.connect(shell.path)) as connection:
        return int(connection.execute("SELECT COUNT(*) FROM session_events").fetchone()[0])


def test_a_session_is_archived_dropped_and_hydrated(shell: Shell) -> None:
    session_id = shell.ok("new", "What?").strip()
    assert shell.json("archive", session_id)["version"] == 2
    assert shell.ok("maintain") == "0 expired, 0 dropped, 0 deleted.\n"
    shell.ok("sync")
    assert shell.ok("archive", session_id) == f"{session_id} is already archived.\n"
    assert rows(shell) == 0
    assert shell.json("list")["sessions"][0]["status"] == "archived"
    assert shell.json("show", session_id)["question"] == "What?"
    assert shell.ok("reconcile").endswith("nothing differs.\n")
    assert shell.ok("hydrate", session_id, "--actor", "bob") == f"{session_id} is at version 3.\n"
    assert shell.ok("hydrate", session_id) == f"{session_id} is not archived.\n"
    assert shell.json("hydrate", session_id) == {
        "session_id": session_id,
        "version": None,
        "event_id": None,
        "replayed": True,
    }
    assert shell.json("show", session_id)["status"] == "active"


def test_maintaining_promises_its_keys_and_deletes_what_is_old(shell: Shell, tmp_path: Path) -> None:
    session_id = shell.ok("new", "What?", "--id", "mine").strip()
    shell.ok("archive", session_id)
    warehouse = f"duckdb:///{tmp_path / 'elsewhere.duckdb'}"
    shell.ok("sync", "--warehouse", warehouse)
    nothing = {"expired": 0, "dropped": 0, "deleted": 0, "waiting": 0, "held_up": 0, "sessions": [], "deleted_there": 0}
    assert shell.json("maintain", "--warehouse", warehouse) == {**nothing, "dropped": 1}
    held_up = shell("maintain", "--retention-days", "0")
    assert held_up.exit_code == 1
    assert "1 deleted; 1 waiting to be deleted from another warehouse.\n" in held_up.stdout
    assert f"1 session: purged, and not deleted in {warehouse} yet.\n" in held_up.stdout
    assert f"ledger maintain --warehouse {warehouse}; if it is gone: ledger warehouse forget" in held_up.stdout
    code, said = shell.fails("new", "Again?", "--id", "mine")
    assert "must still be deleted in duckdb://" in said
    assert code != 0
    assert shell.json("maintain", "--max-age-hours", "72", "--warehouse", warehouse) == {
        **nothing,
        "deleted_there": 1,
    }
    assert shell.ok("new", "Again?", "--id", "mine") == "mine\n"


@pytest.mark.parametrize("option", ["--max-age-hours", "--retention-days"])
@pytest.mark.parametrize("number", ["nan", "-nan", "inf", "-1", "1e300"])
def test_no_number_is_refused_and_nothing_is_done(shell: Shell, option: str, number: str) -> None:
    shell.ok("delete", shell.ok("new", "What?").strip())
    code, said = shell.fails("maintain", option, number)
    assert (code, option in said) == (USAGE, True)
    assert shell.json("list", "--status", "deleted")["sessions"] != []


def test_a_session_that_the_warehouse_lost_is_told_and_not_said_never_to_have_been(
    shell: Shell, tmp_path: Path
) -> None:
    session_id = shell.ok("new", "What?").strip()
    shell.ok("archive", session_id)
    shell.ok("sync")
    shell.ok("maintain")
    assert rows(shell) == 0
    warehouse = f"duckdb:///{tmp_path / 'another.duckdb'}"
    code, said = shell.fails("hydrate", session_id, "--warehouse", warehouse)
    assert (code, f"is archived, and {warehouse} has none of its rows" in said) == (23, True)
    assert shell.ok("hydrate", session_id) == f"{session_id} is at version 3.\n"


@pytest.mark.parametrize("options", [(), ("--retention-days", "0")])
def test_a_ledger_above_its_maximum_size_is_given_room(shell: Shell, options: tuple[str, ...]) -> None:
    old, other = (shell.ok("new", "What?").strip() for _ in range(2))
    shell.ok("message", old, "user", "--from", "-", stdin="long " * 100_000)
    shell.ok("archive", old)
    shell.ok("sync")
    limit = f"sqlite:///{shell.path}?max_bytes=500000"
    assert shell("new", "What else?", LEDGER_URL=limit).exit_code == 21
    result = shell("maintain", "--max-age-hours", "0", *options, LEDGER_URL=limit)
    purges = len(options) // 2  # and the expiration of the other session waits for the warehouse, which is said
    assert (result.exit_code, result.stderr) == (purges, "")
    assert result.stdout.startswith(f"1 expired, 1 dropped, {purges} deleted")
    assert shell.json("show", other)["status"] == "expired"
    assert shell("new", "What else?", LEDGER_URL=limit).exit_code == 0


def test_a_ledger_in_which_nothing_makes_room_says_so_after_the_other_steps(shell: Shell) -> None:
    shell.ok("new", "What?")
    code, said = shell.fails("maintain", "--max-age-hours", "0", LEDGER_URL=f"sqlite:///{shell.path}?max_bytes=1000")
    assert code == 21
    assert "has reached its maximum of 1,000 bytes" in said
    shell.ok("maintain", "--max-age-hours", "0")
