"""The commands seal and seals, and verify --against."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from ledger.cli.exits import FINDINGS
from support.shell import Shell

WITNESS_FAILED = 16
ROOT = Path(__file__).parents[2]


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


def cron_line(folder: Path, name: str) -> str:
    """The command of docs/seals.md, in a folder and with the name of the seal to make."""
    (line,) = [each for each in (ROOT / "docs/seals.md").read_text().splitlines() if each.startswith("5 * * * *")]
    return line.removeprefix("5 * * * *").replace("/mnt/worm", str(folder)).replace("ledger-$(date +\\%FT\\%H)", name)


@pytest.mark.skipif(sys.platform == "win32", reason="a line for cron")
def test_the_line_for_cron_stops_at_a_restore_and_goes_on_after_a_new_seal(
    shell: Shell, session_id: str, tmp_path: Path
) -> None:
    witness = tmp_path / "witness"
    witness.mkdir()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"LEDGER_URL": shell.url, "PATH": path}

    def run(name: str, at: int) -> tuple[int, str]:
        """The line's exit code and output; the files are as old as their order says."""
        command = ["/bin/sh", "-c", cron_line(witness, name)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        if done.returncode == 0:
            os.utime(witness / f"{name}.seal", (at, at))
        return done.returncode, done.stdout + done.stderr

    shell.ok("seal", "--output", str(witness / "first.seal"))
    os.utime(witness / "first.seal", (100, 100))
    shell.ok("backup", str(tmp_path / "monday.db"))
    assert run("second", 200) == (0, "")
    shell.ok("restore-backup", str(tmp_path / "monday.db"))
    code, found = run("third", 300)
    assert (code, "(seal_missing)" in found) == (1, True)
    shell.ok("verify", "--against", str(witness / "first.seal"))
    shell.ok("seal", "--output", str(witness / "restored.seal"))
    os.utime(witness / "restored.seal", (400, 400))
    (witness / "stray.seal").touch()
    assert run("fourth", 500) == (0, "")
