"""A ledger on a file system that is mounted read-only: reads go on, and a refused write says why, also to root."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

MOUNTED = """
import subprocess, sys
from pathlib import Path
from ledger import SessionLedger, StoreRejected
from ledger.cli.app import ledger as commands
place = Path(sys.argv[1]) / "disk"
place.mkdir()
subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(place)], check=True)
url = f"sqlite:///{place}/l.db"
with SessionLedger(url) as ledger:
    ledger.create_session("ada", "why?", session_id="s")
subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
with SessionLedger(url) as ledger:
    print(ledger.get_session("s").question)
    try:
        ledger.update_summary("s", "x")
    except StoreRejected as error:
        print(error)
commands(["--url", url, "doctor"])
"""


def test_a_refused_write_names_the_read_only_file_system(tmp_path: Path, unshared: list[str]) -> None:
    command = [*unshared, sys.executable, "-c", MOUNTED, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    question, refusal, *doctor = done.stdout.splitlines()
    assert question == "why?", done.stderr
    assert "l.db is read-only: its file system is mounted read-only; nothing was written. Mount it for" in refusal
    assert "its file system is mounted read-only -> mount it for writing" in " ".join(" ".join(doctor).split())
