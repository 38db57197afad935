"""Kills a process, or raises in it, at each line in turn of code that writes a file: it is the old file or the new one.

``python tests/faults/line_kills.py create FOLDER``; ``backup``, ``export`` and ``parquet`` likewise. Each attempt is a
forked child that ends at its n-th line in the modules that write; the parent then looks at what it left, and prints the
numbers.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pyarrow.parquet as pq

from ledger import SessionLedger
from ledger.cli.app import ledger as command
from ledger.formats.parquet import export_parquet

MODULES = {
    "create": ("ledger/files.py", "sqlite/database_file.py"),
    "backup": ("ledger/files.py",),
    "export": ("ledger/files.py", "commands/export.py"),
    "parquet": ("ledger/files.py",),
}
SESSIONS = 2
OLD = b"yesterday's\n"


class Interrupted(BaseException):
    """Raised at a line, as by a signal handler."""


def ends_at(line: int, end: Callable[[], None], work: Callable[[], None], modules: tuple[str, ...]) -> bool:
    """Run ``work`` in a child that calls ``end`` at its n-th line. Return True if it got that far."""
    child = os.fork()
    if child:
        status = os.waitpid(child, 0)[1]
        assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) in (0, 9), status
        return os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 9
    left = line

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal left
        if not frame.f_code.co_filename.endswith(modules):
            return None
        if event == "line":
            left -= 1
            if left == 0:
                end()
        return trace

    code = 1
    try:
        sys.settrace(trace)
        work()
        code = 0
    except BaseException as error:  # noqa: BLE001 - it may hide the one that was raised at the line
        while error is not None and not isinstance(error, Interrupted):
            error = error.__context__  # type: ignore[assignment]
        code = 9 if error is not None else 1
    finally:
        os._exit(code)


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def interrupt() -> None:
    raise Interrupted


def parts(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if ".part" in path.name]


def run(
    work: Callable[[Path], None], check: Callable[[Path], None], folder: Path, modules: tuple[str, ...]
) -> list[int]:
    """End ``work`` at every line by a kill and then by an exception; return the numbers of lines."""
    counts = []
    for end in (kill, interrupt):
        line = 1
        while True:
            place = folder / f"{end.__name__}{line}"
            place.mkdir()
            (place / "out.jsonl").write_bytes(OLD)
            ended = ends_at(line, end, lambda place=place: work(place), modules)
            if end is interrupt:
                assert parts(place) == [], (line, parts(place))
            check(place)
            assert parts(place) == [], (line, parts(place))
            if not ended:
                break
            line += 1
        counts.append(line - 1)
    return counts


def create(place: Path) -> None:
    SessionLedger.open(f"sqlite:///{place}/l.db").close()


def check_create(place: Path) -> None:
    with SessionLedger.open(f"sqlite:///{place}/l.db") as ledger:  # simply begun again
        ledger.create_session("ada", "q", session_id="s")
    with SessionLedger.open(f"sqlite:///{place}/l.db", create=False) as ledger:
        assert ledger.get_session("s").question == "q"


def backup(place: Path) -> None:
    with SessionLedger.open(f"sqlite:///{place.parent}/source.db") as ledger:
        ledger.store.backup(place / "copy.db")


def check_backup(place: Path) -> None:
    copy = place / "copy.db"
    if not copy.exists():
        backup(place)
    with SessionLedger.open(f"sqlite:///{copy}", create=False) as ledger:
        assert len(ledger.list_sessions(limit=1000)) == SESSIONS


def export(place: Path) -> None:
    arguments = ["-u", f"sqlite:///{place.parent}/source.db", "export", "-o", f"{place}/out.jsonl"]
    command.main(arguments, standalone_mode=False)


def check_export(place: Path) -> None:
    content = (place / "out.jsonl").read_bytes()
    assert content == OLD or content.count(b"\n") == SESSIONS
    export(place)
    assert (place / "out.jsonl").read_bytes().count(b"\n") == SESSIONS


def parquet(place: Path) -> None:
    with SessionLedger.open(f"sqlite:///{place.parent}/source.db") as ledger:
        export_parquet(ledger.store, place / "events")


def check_parquet(place: Path) -> None:
    if not (place / "events").exists():
        parquet(place)
    (file,) = (path for path in (place / "events").rglob("*") if path.is_file())
    assert pq.read_metadata(file).num_rows == 2 * SESSIONS
    shutil.rmtree(place / "events")
    parquet(place)  # and removes what the killed one left


if __name__ == "__main__":
    what, folder = sys.argv[1], Path(sys.argv[2])
    with SessionLedger.open(f"sqlite:///{folder}/source.db") as made:
        for number in range(SESSIONS):
            made.create_session("ada", f"question {number}")
    works = {
        "create": (create, check_create),
        "backup": (backup, check_backup),
        "export": (export, check_export),
        "parquet": (parquet, check_parquet),
    }
    killed, interrupted = run(*works[what], folder, MODULES[what])
    print(f"{what}: killed at {killed} lines, interrupted at {interrupted}")
