"""The creation of a DuckDB file that fails or meets an empty file: the next attempt succeeds, and no rows are lost."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from support.shell import Shell

#: Ships to a full file system, and again after space is freed.
MOUNTED = """
import subprocess, sys
from pathlib import Path
from ledger import SessionLedger, StoreUnavailable
folder = Path(sys.argv[1])
small = folder / "small"
small.mkdir()
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(small)], check=True)
with SessionLedger.open(f"sqlite:///{folder}/l.db", warehouse=f"duckdb:///{small}/w.duckdb") as ledger:
    ledger.create_session("ada", "why?")
    filler = small / "filler"
    try:
        with open(filler, "wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
    except OSError:
        pass
    try:
        ledger.warehouse.sync()
    except StoreUnavailable as error:
        print(error)
    print([each.name for each in small.iterdir()])
    filler.unlink()
    print(ledger.warehouse.sync())
"""
#: Opens a file that this user may not open. Root may open every file, and so becomes somebody else.
CLOSED = """
import os, sys
from ledger import ConfigurationError
from ledger.warehouse.duckdb.warehouse import DuckDBWarehouse
warehouse = DuckDBWarehouse(sys.argv[1])
warehouse.create()
os.chmod(sys.argv[1], 0)
if os.geteuid() == 0:
    os.setgid(65534); os.setuid(65534)
try:
    warehouse.query("SELECT 1 AS n")
except ConfigurationError as error:
    print(error)
"""
#: Opens a file, locks it as DuckDB does, and waits.
HOLDS = """
import fcntl, sys
file = open(sys.argv[1], "r+b")
fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.readline()
"""


def test_a_full_disk_leaves_no_empty_file_and_what_was_recorded_is_shipped_when_it_is_not(
    tmp_path: Path, unshared: list[str]
) -> None:
    command = [*unshared, sys.executable, "-c", MOUNTED, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    error, files, sent = done.stdout.splitlines()
    assert "w.duckdb cannot be created: No space left on device. Free some space" in error
    assert (files, sent) == ("['filler']", "2")


@pytest.mark.parametrize("mode", [0o660, 0o640, 0o600])
def test_a_new_file_can_be_read_and_written_by_those_who_may_the_ledger(shell: Shell, mode: int) -> None:
    shell.ok("new", "How many orders?")
    shell.path.chmod(mode)
    shell.ok("sync")
    file = shell.path.with_suffix(".duckdb")
    assert (file.stat().st_mode & 0o777, file.stat().st_gid) == (mode, shell.path.stat().st_gid)


def test_who_may_not_open_the_file_learns_whose_it_is_and_what_to_do() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        command = [sys.executable, "-c", CLOSED, f"{folder}/w.duckdb"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "w.duckdb may not be read and written by this user: its owner is " in done.stdout
    assert "mode 0000. All who ship to it or query it must be able to write it" in done.stdout


def test_an_empty_file_is_filled_and_is_its_owners_alone(shell: Shell) -> None:
    shell.ok("new", "How many orders?")
    file = shell.path.with_suffix(".duckdb")
    file.touch(0o644)
    shell.ok("sync")
    assert shell.json("sql", "SELECT COUNT(*) AS n FROM sessions")["rows"] == [{"n": 1}]
    assert file.stat().st_mode & 0o777 == 0o600


def test_an_emptied_file_is_not_filled_anew_while_archived_sessions_were_in_it(shell: Shell) -> None:
    session_id = shell.ok("new", "How many orders?").strip()
    shell.ok("archive", session_id)
    shell.ok("sync")
    shell.ok("maintain")
    file = shell.path.with_suffix(".duckdb")
    file.write_bytes(b"")
    code, message = shell.fails("show", session_id)
    assert (code, f"{file} is empty, and the events of 1 archived session were in it alone" in message) == (23, True)


@pytest.mark.skipif(sys.platform == "win32", reason="locks of POSIX")
def test_an_empty_file_that_another_process_has_open_is_left_alone(shell: Shell) -> None:
    shell.ok("new", "How many orders?")
    file = shell.path.with_suffix(".duckdb")
    file.touch()
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", HOLDS, str(file)], text=True, **pipes) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        code, message = shell.fails("sync")
        assert (code, f"{file} is in use by another process" in message) == (21, True)
        assert file.stat().st_size == 0
        holder.communicate("\n")
    shell.ok("sync")
