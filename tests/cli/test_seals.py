"""The commands seal and seals, and verify --against."""

from __future__ import annotations

import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from ledger.cli.exits import FINDINGS
from support.shell import Shell

WITNESS_FAILED = 16


@pytest.fixture
def session_id(shell: Shell) -> str:
    session_id = shell.ok("new", "What?").strip()
    shell.ok("set", session_id, "summary", "fine")
    return session_id


def remove(shell: Shell, session_id: str) -> None:
    with closing(sqlite3.connect(shell.path, isolation_level=None)) as connection:
        for table in ("session_events", "session_heads", "session_state", "search_slots"):
            connection.execute(f"DELETE FROM {table} WHERE session_id = ?", (session_id,))


def test_a_removed_session_is_named(shell: Shell, session_id: str, tmp_path: Path) -> None:
    assert shell.ok("seals") == "There are no seals; make one with: ledger seal\n"
    witness = str(tmp_path / "l.seal")
    sealed = shell.ok("seal", "--output", witness)
    assert sealed.startswith("Sealed 1 session with 2 events: ")
    (seal,) = shell.json("seals")["seals"]
    assert f"{seal['root']} (seal {seal['seal_id']})" in sealed
    assert f"{seal['seal_id']}  {seal['root']}  1 session with 2 events" in shell.ok("seals")
    assert "1 sealed session." in shell.ok("verify", "--against", witness)
    remove(shell, session_id)
    shell.ok("verify")
    for against in (witness, "latest", seal["root"], seal["seal_id"]):
        result = shell("verify", "--against", against)
        assert result.exit_code == FINDINGS
        assert f"{session_id}, version 2: the session is gone" in result.stdout
        assert "(sealed_missing)" in result.stdout
    answer = json.loads(shell("verify", "--against", "latest", "--json").stdout)
    assert (answer["clean"], answer["against"]["sessions"], answer["against"]["seal"]) == (False, 1, seal)
    assert answer["against"]["source"] == "ledger"


def test_a_warehouse_beside_the_ledger_gets_the_seals(shell: Shell, session_id: str, tmp_path: Path) -> None:
    shell.ok("sync")
    seal = shell.json("seal")
    assert shell.ok("sql", "SELECT root FROM seals", "--format", "csv").splitlines() == ["root", seal["root"]]
    assert "1 sealed session." in shell.ok("verify", "--against", "warehouse:latest")
    elsewhere = f"duckdb:///{tmp_path / 'elsewhere.duckdb'}"
    code, said = shell.fails("verify", "--against", "warehouse:latest", "--warehouse", elsewhere)
    assert (code, "make one with `ledger seal`" in said) == (3, True)
    shell.ok("seal", "--warehouse", elsewhere)
    shell.ok("verify", "--against", "warehouse:latest", "--warehouse", elsewhere)


def test_a_purged_session_is_told_from_a_removed_one(shell: Shell, session_id: str) -> None:
    shell.ok("seal")
    shell.ok("delete", session_id)
    shell.ok("maintain", "--retention-days", "0")
    said = shell.ok("verify", "--against", "latest")
    assert f"1 session of them purged since, as the ledger recorded: {session_id}\n" in said


def test_a_command_takes_the_seal_or_the_exit_code_says_that_it_did_not(
    shell: Shell, session_id: str, tmp_path: Path
) -> None:
    taken, program = tmp_path / "taken", tmp_path / "take.py"
    program.write_text("import pathlib, sys\npathlib.Path(sys.argv[1]).write_text(sys.stdin.read())\n")
    seal = shell.json("seal", "--command", f"'{sys.executable}' '{program}' '{taken}'")
    assert json.loads(taken.read_text()) == seal
    code, said = shell.fails("seal", "--command", f"'{sys.executable}' '{tmp_path}/nothing.py'")
    assert code == WITNESS_FAILED
    assert "is recorded in the ledger, but the command" in said
    assert said.endswith("(witness_failed)")
    assert len(shell.json("seals")["seals"]) == 2
    code, _ = shell.fails("seal", "--command", "'")
    assert (code, len(shell.json("seals")["seals"])) == (3, 2)
