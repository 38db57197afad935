"""A ledger named by a symbolic link: SQLite keeps its log beside the file, and so do the checks of the log."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ledger import InvalidInput, SessionLedger, StoreRejected

#: Makes a ledger of one session, and is killed with its rows in the log alone.
KILLED = """
import os, signal, sys
from ledger import SessionLedger
ledger = SessionLedger.open(sys.argv[1])
ledger.create_session("ada", "why?", session_id="s")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The file that the link points to; its session is in the log alone."""
    folder = tmp_path / "data"
    folder.mkdir()
    url = f"sqlite:///{folder}/real.db"
    killed = subprocess.run([sys.executable, "-c", KILLED, url], check=False, env={**os.environ}, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    return folder / "real.db"


@pytest.fixture
def link(tmp_path: Path, file: Path) -> str:
    """URL of the link, in another folder."""
    (tmp_path / "l.db").symlink_to(file)
    return f"sqlite:///{tmp_path}/l.db"


def test_a_reader_sees_what_is_in_the_log(link: str) -> None:
    with SessionLedger.open(f"{link}?mode=ro") as ledger:
        assert ledger.require_session("s").version == 1


def test_an_append_is_refused_once_the_log_is_gone(link: str, file: Path) -> None:
    with SessionLedger.open(link) as ledger:
        assert ledger.add_message("s", "user", "hi").version == 2
        away = Path(f"{file}-wal").rename(file.with_name("away"))
        with pytest.raises(StoreRejected, match="was deleted or replaced while the ledger was open"):
            ledger.add_message("s", "user", "lost?")
        away.rename(f"{file}-wal")
        assert ledger.add_message("s", "user", "again").version == 3


def test_nothing_is_written_over_the_file_or_its_log(link: str, file: Path) -> None:
    with SessionLedger.open(link) as ledger:
        for each in (file, Path(f"{file}-wal")):
            with pytest.raises(InvalidInput, match="is a file of the ledger itself"):
                ledger.store.backup(each)
