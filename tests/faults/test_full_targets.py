"""A disk that is full where a copy or an export is written: the error names that file, and not the ledger."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support.shell import Shell

#: Runs a command with a file system of 200 kB in the folder `small`.
SMALL = """
import subprocess, sys
from ledger.cli.app import ledger
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", sys.argv.pop(1)], check=True)
ledger()
"""


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("backup", "small/b.db"), "Cannot write a copy to small/b.db: No space left on device. The disk is full"),
        (("export", "-o", "small/e.jsonl"), "small/e.jsonl: No space left on device."),
        (("--url", "sqlite:///small/l.db", "restore-backup", "b.db"), "small/l.db: No space left on device. The disk"),
    ],
    ids=lambda each: each[0] if isinstance(each, tuple) else None,
)
def test_the_file_that_has_no_space_is_named(
    shell: Shell, tmp_path: Path, unshared: list[str], command: tuple[str, ...], says: str
) -> None:
    session_id = shell.ok("new", "q").strip()
    shell.ok("message", session_id, "user", "long " * 50_000)
    shell.ok("backup", str(tmp_path / "b.db"))
    (tmp_path / "small").mkdir()
    arguments = ["--url", shell.url, *command] if command[0] != "--url" else command
    done = subprocess.run(
        [*unshared, sys.executable, "-c", SMALL, "small", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in (21, 30)
    assert says in done.stderr
    assert "The ledger" not in done.stderr


def test_an_export_to_a_full_device_names_it(shell: Shell) -> None:
    shell.ok("new", "q")
    assert shell.fails("export", "-o", "/dev/full") == (30, "/dev/full: No space left on device. (file_error)")
