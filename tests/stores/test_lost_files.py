"""A write-ahead log whose file is missing or empty: no file is created or opened beside it, and the log stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from subprocess import PIPE

import pytest

from ledger import ConfigurationError, SessionLedger
from support.shell import Shell

#: Records a message, and is killed with the message in the log alone.
KILLED = """
import os, signal, sys
from ledger import SessionLedger
ledger = SessionLedger.open(sys.argv[1])
ledger.add_message("s", "user", "hi")
os.kill(os.getpid(), signal.SIGKILL)
"""
#: Creates a ledger at the same time as others, and records a session in it.
CREATES = """
import sys
from ledger import SessionLedger
print("ready", flush=True)
sys.stdin.readline()
ledger = SessionLedger.open(sys.argv[1])
ledger.create_session("ada", "why?", session_id=sys.argv[2])
print("recorded", flush=True)
sys.stdin.readline()
ledger.close()
"""


@pytest.fixture
def log(shell: Shell) -> Path:
    """The log of a ledger, with a message that the file has not."""
    url = f"sqlite:///{shell.path}"
    with SessionLedger.open(url) as ledger:
        ledger.create_session("ada", "why?", session_id="s")
    killed = subprocess.run([sys.executable, "-c", KILLED, url], check=False, env={**os.environ}, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    found = shell.path.with_name("ledger.db-wal")
    assert found.stat().st_size > 0
    return found


@pytest.mark.parametrize("is_empty", [False, True])
def test_a_log_without_its_file_is_refused_and_kept_until_the_file_is_put_back(
    shell: Shell, log: Path, tmp_path: Path, is_empty: bool
) -> None:
    content = log.read_bytes()
    away = shell.path.rename(tmp_path / "away.db")
    if is_empty:
        shell.path.touch()
    for command in (("new", "why?"), ("init",), ("list",), ("verify",), ("chat-init",)):
        code, message = shell.fails(*command)
        assert (code, f"{log} is there" in message, "`ledger restore-backup FILE`" in message) == (12, True, True)
    with pytest.raises(ConfigurationError, match="Put the file back"):
        SessionLedger.open(f"sqlite:///{shell.path}?mode=ro" if is_empty else f"sqlite:///{shell.path}")
    found = {each["what"]: each for each in json.loads(shell("doctor", "--json").stdout)["findings"]}
    assert (found["file"]["status"], str(log) in found["file"]["detail"]) == ("problem", True)
    assert "ledger init" not in found["file"]["remedy"]
    assert log.read_bytes() == content
    away.replace(shell.path)
    assert shell.json("show", "s")["version"] == 2


def test_the_log_of_a_lost_file_is_found_through_a_symbolic_link(shell: Shell, log: Path, tmp_path: Path) -> None:
    content = log.read_bytes()
    link = Shell(tmp_path / "link.db")
    link.path.symlink_to(shell.path)
    away = shell.path.rename(tmp_path / "away.db")
    for command in (("list",), ("new", "why?")):
        code, message = link.fails(*command)
        assert (code, f"{log} is there" in message) == (12, True)
    assert (log.read_bytes(), shell.path.exists()) == (content, False)
    away.rename(shell.path)
    assert link.json("show", "s")["version"] == 2


def test_a_backup_is_restored_over_a_lost_file_and_the_log_is_kept(shell: Shell, log: Path, tmp_path: Path) -> None:
    content = log.read_bytes()
    backup = shell.path.rename(tmp_path / "monday.db")
    shell.ok("restore-backup", str(backup))
    assert shell.json("show", "s")["version"] == 1
    (kept,) = tmp_path.glob("ledger.db.replaced-*-wal")
    assert kept.read_bytes() == content


def test_a_new_ledger_begins_where_the_log_of_a_lost_file_was_moved_away(
    shell: Shell, log: Path, tmp_path: Path
) -> None:
    shell.path.unlink()
    log.rename(tmp_path / "away.db-wal")
    session_id = shell.ok("new", "why?").strip()
    assert [each["session_id"] for each in shell.json("list")["sessions"]] == [session_id]


def test_processes_that_create_a_ledger_at_once_all_record_in_it(shell: Shell) -> None:
    arguments = [sys.executable, "-c", CREATES, f"sqlite:///{shell.path}"]
    with ExitStack() as stack:
        makers = [
            stack.enter_context(
                subprocess.Popen([*arguments, f"s{number}"], stdin=PIPE, stdout=PIPE, text=True, env={**os.environ})
            )
            for number in range(6)
        ]
        for said in ("ready\n", "recorded\n"):  # and nobody closes the ledger before all have recorded
            for each in makers:
                assert each.stdout is not None
                assert each.stdout.readline() == said
            for each in makers:
                print(file=each.stdin, flush=True)
        assert [each.wait(60) for each in makers] == [0] * 6
    assert len(shell.json("list")["sessions"]) == 6
