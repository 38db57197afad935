"""An upgrade of a ledger's file that is killed: the next program upgrades the file, which has lost nothing."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from ledger import SessionLedger
from ledger.stores.sqlite.migrations import IDEMPOTENCY_KEY, MIGRATIONS
from ledger.stores.sqlite.schema import migrate
from ledger.testing import START
from support.older_files import copy_sessions

#: Upgrades a file, and is killed before the first statement that begins with the given text.
UPGRADE = """
import os, signal, sqlite3, sys
from datetime import UTC, datetime
from ledger.stores.sqlite.schema import migrate
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.set_trace_callback(
    lambda sql: os.kill(os.getpid(), signal.SIGKILL) if sql.strip().startswith(sys.argv[2]) else None
)
migrate(connection, sys.argv[1], new_store_id="other", now=datetime.now(UTC))
"""
#: Beginnings of the statements of an upgrade, in their order.
STEPS = (
    *(statement.split(" AS")[0].strip() for statement in IDEMPOTENCY_KEY.statements),
    *(f"INSERT INTO migrations VALUES ('{IDEMPOTENCY_KEY.name}'", "PRAGMA user_version = ", "COMMIT"),
)


def older_file(path: Path) -> None:
    """Create a file of the schema before idempotency keys, with a session of two events."""
    made = path.with_name("made.db")
    with SessionLedger.open(f"sqlite:///{made}") as ledger:
        ledger.create_session("ada", "why?", session_id="s")
        ledger.update_summary("s", "so")
        store_id = ledger.store.store_id
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        upto = MIGRATIONS.index(IDEMPOTENCY_KEY)
        migrate(connection, str(path), new_store_id=store_id, now=START, upto=upto)
        copy_sessions(made, connection)
    for file in path.parent.glob("made.db*"):
        file.unlink()


@pytest.mark.parametrize("step", STEPS)
def test_an_upgrade_that_was_killed_is_made_whole_by_the_next_program(tmp_path: Path, step: str) -> None:
    path = tmp_path / "l.db"
    older_file(path)
    killed = subprocess.run([sys.executable, "-c", UPGRADE, str(path), step], check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    with SessionLedger.open(f"sqlite:///{path}", create=False) as ledger:
        ledger.complete_session("s", event_id="job-42")
        assert [event.idempotency_key for event in ledger.history("s")] == [None, None, "job-42"]
        assert ledger.verify().findings == ()
