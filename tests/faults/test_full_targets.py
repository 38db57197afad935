"""A disk that is full where a copy or an export is written: the error names that file, and not the ledger."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from support.shell import Shell

#: Runs a command with a file system in the folder `small`, of which options are given.
SMALL = """
import subprocess, sys
from ledger.cli.app import ledger
subprocess.run(["mount", "-t", "tmpfs", "-o", sys.argv.pop(1), "tmpfs", "small"], check=True)
ledger()
"""


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("backup", "small/b.db"), "Cannot write a copy to small/b.db: No space left on device. The disk is full"),
        (("export", "-o", "small/e.jsonl"), "small/e.jsonl: No space left on device."),
        (("export", "--format", "parquet", "-o", "small/e"), "small/e: No space left on device."),
        (("--url", "sqlite:///small/l.db", "restore-backup", "b.db"), "small/l.db: No space left on device. The disk"),
    ],
    ids=lambda each: each[0] if isinstance(each, tuple) else None,
)
def test_the_file_that_has_no_space_is_named(
    shell: Shell, tmp_path: Path, unshared: list[str], command: tuple[str, ...], says: str
) -> None:
    session_id = shell.ok("new", "q").strip()
    shell.ok("message", session_id, "user", random.Random(1).randbytes(250_000).hex())  # which no format makes smaller
    shell.ok("backup", str(tmp_path / "b.db"))
    (tmp_path / "small").mkdir()
    arguments = ["--url", shell.url, *command] if command[0] != "--url" else command
    done = subprocess.run(
        [*unshared, sys.executable, "-c", SMALL, "size=200k", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in (21, 30)
    assert says in done.stderr
    assert "The ledger" not in done.stderr


@pytest.mark.parametrize(
    ("option", "says"), [("nr_inodes=1", "No space left on device"), ("ro", "Read-only file system")]
)
def test_a_file_that_cannot_be_created_is_named_and_not_the_temporary_one(
    shell: Shell, tmp_path: Path, unshared: list[str], option: str, says: str
) -> None:
    shell.ok("new", "q")
    (tmp_path / "small").mkdir()
    command = [*unshared, sys.executable, "-c", SMALL, option, "--url", shell.url, "export", "-o", "small/e.jsonl"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, f"{tmp_path}/small/e.jsonl: {says}." in done.stderr) == (30, True)


def test_an_export_to_a_full_device_names_it(shell: Shell) -> None:
    shell.ok("new", "q")
    assert shell.fails("export", "-o", "/dev/full") == (30, "/dev/full: No space left on device. (file_error)")
