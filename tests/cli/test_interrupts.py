"""Ctrl-C ends each command with one message and one exit code, whatever the process is doing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ledger.cli.interrupts import INTERRUPTED
from support.shell import Shell

SAID = "error: Interrupted. (interrupted)\n"
#: Modules by name that say so when their import begins, and then take long. They stand for those of the same name.
SLOW = "import os, time\nos.write(1, b'begun\\n')\n"
#: A process that a shell starts in the background would ignore SIGINT.
PROGRAM = """
import os, signal, sys, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from ledger.cli import main
from ledger.cli.interrupts import interruptible
"""


@contextmanager
def started(*command: str, path: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    """A Python process that has written its first line to stdout."""
    environment = dict(os.environ) | ({"PYTHONPATH": str(path)} if path else {})
    with subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        try:
            yield process
        finally:
            process.kill()


def end_of(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and error of a process that has to end by itself."""
    said = process.communicate(timeout=20)[1]
    return process.returncode, said


def test_ctrl_c_while_the_command_line_is_imported_is_told_on_one_line(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text(SLOW + "time.sleep(30)")
    with started("-c", PROGRAM + "main()", path=tmp_path) as process:
        process.send_signal(signal.SIGINT)
        assert end_of(process) == (INTERRUPTED, SAID)


@pytest.mark.parametrize("discards", [True, False])
def test_ctrl_c_while_sync_imports_pandas_leaves_the_rows_waiting(shell: Shell, tmp_path: Path, discards: bool) -> None:
    shell.ok("new", "What?")
    place = tmp_path / "modules"
    place.mkdir()
    wait = "try:\n    time.sleep(30)\nexcept KeyboardInterrupt:\n    raise SystemError('half imported')\n"
    (place / "pandas.py").write_text(SLOW + (wait if discards else "time.sleep(30)"))
    with started("-c", PROGRAM + "main()", "-u", shell.url, "sync", path=place) as process:
        process.send_signal(signal.SIGINT)
        assert end_of(process) == (INTERRUPTED, SAID)
    assert shell.json("status")["waiting_rows"] == 2
    assert shell.json("sync")["sent_rows"] == 2


def test_ctrl_c_ends_a_command_that_discards_it_or_waits_for_a_thread() -> None:
    stuck = """
def wait():
    while True:
        try:
            os.write(1, b'begun\\n')
            lock.acquire()
        except KeyboardInterrupt:
            continue
lock = threading.Lock()
lock.acquire()
with interruptible():
    wait()
"""
    with started("-c", PROGRAM + stuck) as process:
        process.send_signal(signal.SIGINT)
        assert end_of(process) == (INTERRUPTED, SAID)


def test_a_second_ctrl_c_ends_a_command_that_takes_its_time_after_the_first() -> None:
    patient = """
with interruptible():
    signal.signal(signal.SIGINT, lambda *_: os.write(1, b'ending\\n'))
    os.write(1, b'begun\\n')
    threading.Event().wait(1)
    while True:
        time.sleep(1)
"""
    with started("-c", PROGRAM + patient) as process:
        assert process.stdout is not None
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "ending\n"
        process.send_signal(signal.SIGINT)
        assert end_of(process) == (INTERRUPTED, SAID)


def test_a_command_that_ends_in_spite_of_ctrl_c_counts_as_interrupted() -> None:
    deaf = """
with interruptible():
    try:
        os.write(1, b'begun\\n')
        time.sleep(30)
    except KeyboardInterrupt:
        sys.exit(0)
"""
    with started("-c", PROGRAM + deaf) as process:
        process.send_signal(signal.SIGINT)
        assert end_of(process) == (INTERRUPTED, SAID)
