"""A copy of a ledger in use that lost all rows, since they were in the write-ahead log, is refused with the reason."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from ledger import Change, ConfigurationError, LedgerError, NewEvent, SessionLedger
from ledger.cli.commands.reconcile import compare
from ledger.clock import utc_now
from ledger.formats.events import export_lines, import_lines
from ledger.testing import SetClock
from support.shell import Shell


def opened(path: Path) -> SessionLedger:
    return SessionLedger.open(f"sqlite:///{path}")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


def test_a_copy_of_a_ledger_in_use_without_its_log_is_refused(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    with opened(path) as ledger:
        ledger.create_session("ada", "why?")
        ledger.add_message(ledger.list_sessions()[0].session_id, "user", "hi")
        shutil.copy(path, copy)
        for _ in range(2):
            with pytest.raises(ConfigurationError, match=r"copy\.db has no sessions, .*copy\.db-wal.*`ledger backup`"):
                opened(copy)
        with pytest.raises(ConfigurationError, match=r"copy\.db has no sessions"):
            SessionLedger.open(f"sqlite:///{copy}?mode=ro")
        code, message = Shell(copy).fails("list")
        assert (code, "cp and rsync" in message) == (12, True)
        report = Shell(copy)("doctor", "--json")
        assert report.exit_code == 1
        assert "has no sessions, but sessions were recorded" in report.stdout
        ledger.store.backup(tmp_path / "backup.db")
    with opened(tmp_path / "backup.db") as backup:
        assert len(backup.list_sessions()) == 1


def test_a_copy_of_an_import_in_use_is_refused_too(path: Path, tmp_path: Path) -> None:
    with opened(tmp_path / "source.db") as source:
        source.create_session("ada", "why?")
        lines = list(export_lines(source.store))
    with opened(path) as ledger:
        import_lines(ledger.store, lines)
        shutil.copy(path, tmp_path / "copy.db")
        with pytest.raises(ConfigurationError, match="has no sessions"):
            opened(tmp_path / "copy.db")


def test_a_copy_of_a_ledger_in_use_whose_rows_came_from_a_warehouse_is_refused_too(path: Path, tmp_path: Path) -> None:
    warehouse = f"duckdb:///{tmp_path / 'w.duckdb'}"
    with SessionLedger.open(f"sqlite:///{tmp_path / 'source.db'}", warehouse=warehouse) as source:
        session_id = source.create_session("ada", "why?")
        source.archive_session(session_id)
        source.warehouse.sync()
    with SessionLedger.open(f"sqlite:///{path}", warehouse=warehouse) as ledger:
        assert ledger.store.rehydrate(session_id) == 2
        shutil.copy(path, tmp_path / "copy.db")
        with pytest.raises(ConfigurationError, match="has no sessions"):
            opened(tmp_path / "copy.db")


def test_a_copy_of_a_ledger_in_use_whose_rows_a_reconciliation_restored_is_refused_too(
    path: Path, tmp_path: Path
) -> None:
    with opened(tmp_path / "source.db") as source:
        source.store.backup(path)
        source.create_session("ada", "why?")
        shell = Shell(tmp_path / "source.db")
        shell.ok("sync")
    with opened(path) as ledger:
        today = utc_now()
        warehouse = f"duckdb:///{tmp_path / 'source.duckdb'}"
        compare(ledger, warehouse, today - timedelta(days=1), today + timedelta(days=1), and_later=True, repair=True)
        assert len(ledger.list_sessions()) == 1
        shutil.copy(path, tmp_path / "copy.db")
        with pytest.raises(ConfigurationError, match="has no sessions"):
            opened(tmp_path / "copy.db")


def test_a_reader_that_kept_the_first_rows_out_of_the_file_keeps_them_out_no_longer_than_it_reads(
    path: Path, tmp_path: Path
) -> None:
    """SQLite folds nothing into the file that is newer than the snapshot of a reader."""
    with opened(path) as ledger:
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT COUNT(*) FROM session_heads").fetchall()
            session_id = ledger.create_session("ada", "why?")
            shutil.copy(path, tmp_path / "early.db")
        ledger.add_message(session_id, "user", "hi")
        shutil.copy(path, tmp_path / "copy.db")
        ledger.add_message(session_id, "user", "hi")
    with opened(tmp_path / "early.db") as early:  # it cannot be told from a new ledger
        assert early.list_sessions() == []
    with opened(tmp_path / "copy.db") as copy:
        assert copy.get_session(session_id).version == 1


def test_a_copy_with_its_log_or_of_a_closed_ledger_has_everything(path: Path, tmp_path: Path) -> None:
    with opened(path) as ledger:
        ledger.create_session("ada", "why?")
        for suffix in ("", "-wal"):
            shutil.copy(f"{path}{suffix}", tmp_path / f"live.db{suffix}")
    shutil.copy(path, tmp_path / "closed.db")
    for name in ("live.db", "closed.db"):
        with opened(tmp_path / name) as copy:
            assert len(copy.list_sessions()) == 1


def nothing(path: Path) -> None:
    opened(path).close()


def refused(path: Path) -> None:
    event = NewEvent("session.updated", [Change("title", value="t")], "e", user_id="ada")
    with opened(path) as ledger, pytest.raises(LedgerError):
        ledger.store.append("s", event, expected_version=5)


def purged(path: Path) -> None:
    clock = SetClock()
    with SessionLedger.open(f"sqlite:///{path}", clock=clock) as ledger:
        ledger.complete_session(ledger.create_session("ada"))
        clock.move(3600)
        assert ledger.delete_old_sessions(timedelta(0), ["completed"]) == 1


@pytest.mark.parametrize("use", [nothing, refused, purged])
def test_a_ledger_that_has_no_rows_for_another_reason_is_opened(
    path: Path, tmp_path: Path, use: Callable[[Path], None]
) -> None:
    use(path)
    shutil.copy(path, tmp_path / "copy.db")
    for each in (path, tmp_path / "copy.db", path):
        with opened(each) as ledger:
            assert ledger.list_sessions() == []
    with opened(path) as ledger:
        ledger.create_session("ada", "why?")


# Killed at the moment at which the file says that there are rows, and there are none.
KILLED = """
import os, signal, sys
from ledger import SessionLedger
from ledger.stores.sqlite import write
write.append = lambda *args, **keys: os.kill(os.getpid(), signal.SIGKILL)
SessionLedger.open(sys.argv[1]).create_session("ada", "why?")
"""


def test_a_ledger_whose_first_program_was_killed_before_the_first_rows_is_opened(path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, f"sqlite:///{path}"], check=False, env={**os.environ})
    assert killed.returncode == -signal.SIGKILL
    for _ in range(2):
        opened(path).close()
    with opened(path) as ledger:
        ledger.create_session("ada", "why?")
