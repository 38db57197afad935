"""Sessions that a clock ahead of the true time has created are compared and restored as others are."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from ledger import SessionLedger
from ledger.clock import utc_now
from ledger.testing import SetClock
from support.shell import Shell

pytestmark = pytest.mark.duckdb


@pytest.fixture
def ahead() -> datetime:
    """A time ten days from now."""
    return utc_now() + timedelta(days=10)


def created(shell: Shell, at: datetime, question: str) -> str:
    with SessionLedger(shell.path, clock=SetClock(at)) as ledger:
        return ledger.create_session("ada", question)


@pytest.fixture
def session_id(shell: Shell, ahead: datetime) -> str:
    """A session that was created while the clock was ahead, and shipped."""
    session_id = created(shell, ahead, "How many orders?")
    shell.ok("sync")
    return session_id


def days(shell: Shell, first: datetime, last: datetime) -> str:
    return f"duckdb:///{shell.path.with_suffix('.duckdb')}, {first:%Y-%m-%d} to {last:%Y-%m-%d}: "


def test_a_backup_is_restored_with_the_sessions_of_days_ahead(
    shell: Shell, session_id: str, ahead: datetime, tmp_path: Path
) -> None:
    shell.ok("backup", str(tmp_path / "monday.db"))
    shell.ok("message", session_id, "user", "a week")
    other = created(shell, ahead + timedelta(days=3), "And this year?")
    shell.ok("sync")
    printed = shell.ok("restore-backup", str(tmp_path / "monday.db"))
    assert "2 events restored from the warehouse" in " ".join(printed.split())
    assert days(shell, min(ahead, utc_now()), ahead + timedelta(days=3)) in printed
    assert (shell.json("show", session_id)["version"], shell.json("show", other)["version"]) == (2, 1)
    assert shell("status").exit_code == 0


@pytest.mark.parametrize("side", ["the warehouse", "the ledger"])
def test_without_a_last_day_sessions_of_days_ahead_are_compared(
    shell: Shell, session_id: str, ahead: datetime, tmp_path: Path, side: str
) -> None:
    if side == "the ledger":
        shell.ok("backup", str(tmp_path / "monday.db"))
        shell.ok("message", session_id, "user", "a week")
        shell.ok("sync")
        shell.path.unlink()
        (tmp_path / "monday.db").rename(shell.path)
    else:
        with duckdb.connect(str(shell.path.with_suffix(".duckdb"))) as connection:
            connection.execute("DELETE FROM session_events WHERE field = 'question'")
    found = shell("reconcile")
    assert (found.exit_code, days(shell, utc_now() - timedelta(days=6), ahead) in found.stdout) == (1, True)
    assert "nothing differs" in shell.ok("reconcile", "--until", f"{utc_now():%Y-%m-%d}")
    assert days(shell, utc_now() - timedelta(days=6), ahead) + "nothing differs" in shell.ok("reconcile", "--repair")


def test_a_last_day_leaves_the_mark_of_a_restored_ledger(
    shell: Shell, session_id: str, ahead: datetime, tmp_path: Path
) -> None:
    shell.ok("backup", str(tmp_path / "monday.db"))
    shell.ok("message", session_id, "user", "a week")
    shell.ok("sync")
    shell.ok("restore-backup", str(tmp_path / "monday.db"), "--no-reconcile")
    shell.ok("reconcile", "--repair", "--until", f"{utc_now():%Y-%m-%d}")
    status = shell("status")
    assert (status.exit_code, f"ledger reconcile --repair --from {ahead:%Y-%m-%d} " in status.stdout) == (1, True)
    shell.ok("reconcile", "--repair", "--from", f"{ahead:%Y-%m-%d}")
    assert (shell("status").exit_code, shell.json("show", session_id)["version"]) == (0, 2)
