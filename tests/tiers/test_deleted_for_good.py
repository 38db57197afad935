"""A session that is deleted for good is deleted in every warehouse that may have its rows, however a relay ended."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from ledger import SessionLedger
from ledger.cli.app import ledger as command
from ledger.outbox.contract import RelayCheckpoint
from ledger.stores.sqlite.store import SqliteStore

pytestmark = pytest.mark.duckdb
NOW = timedelta(0)
#: Ships rows, and is killed when the warehouse has the first batch and the store does not know it yet, or one step
#: earlier: when the batch is recorded and has not been sent.
DYING = """
import os, signal, sys
from ledger import SessionLedger
from ledger.stores.sqlite.outbox import SqliteOutbox

save = SqliteOutbox.save

def dying(self, checkpoint, *, shipped=0, **more):
    if shipped and sys.argv[3] == "sent":
        os.kill(os.getpid(), signal.SIGKILL)
    save(self, checkpoint, shipped=shipped, **more)
    if checkpoint.batch is not None and sys.argv[3] == "recorded":
        os.kill(os.getpid(), signal.SIGKILL)

SqliteOutbox.save = dying
SessionLedger.open(sys.argv[1], warehouse=sys.argv[2]).warehouse.sync()
"""


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/l.db"


@pytest.fixture
def place(tmp_path: Path) -> str:
    return f"duckdb:///{tmp_path}/w.duckdb"


def sessions_in(ledger: SessionLedger) -> set[str]:
    return {row[0] for row in ledger.warehouse.query("SELECT session_id FROM sessions").rows}


@pytest.mark.parametrize("when", ["sent", "recorded"])
def test_a_session_whose_first_batch_may_have_arrived_is_deleted_in_the_warehouse(url, place, when):
    with SessionLedger.open(url) as ledger:
        ledger.create_session("ada", "a secret", session_id="s1")
    killed = subprocess.run([sys.executable, "-c", DYING, url, place, when], timeout=60)
    assert killed.returncode == -9
    with SessionLedger.open(url) as ledger:  # the warehouse is not attached, so nothing may be forgotten yet
        ledger.delete_session("s1")
        assert ledger.delete_old_sessions(NOW) == 0
    with SessionLedger.open(url, warehouse=place) as ledger:
        assert ledger.delete_old_sessions(NOW) == 0
        ledger.create_session("bob", "other", session_id="s2")
        ledger.warehouse.sync()
        assert ledger.maintain(retention=NOW).deleted == 1
        assert sessions_in(ledger) == {"s2"}
        assert ledger.get_session("s1") is None
        assert ledger.for_user("ada").get_session("s1") is None
    from click.testing import CliRunner

    again = CliRunner().invoke(command, ["-u", url, "reconcile", "--repair", "-w", place])
    assert again.exit_code == 0, again.output
    with SessionLedger.open(url) as ledger:
        assert ledger.get_session("s1") is None


def test_a_session_that_a_relay_has_read_and_not_yet_claimed_is_not_forgotten(url, place, tmp_path):
    """The relay reads and packs its first rows before it records their batch; a purge may come in between."""
    with SessionLedger.open(url) as ledger:
        ledger.create_session("ada", "a secret", session_id="s1")
        ledger.delete_session("s1")
        outbox = ledger.store.outbox(place)
        checkpoint = outbox.acquire("host/1/relay", 60)
        assert ledger.delete_old_sessions(NOW) == 0
        outbox.release(checkpoint)
        assert ledger.delete_old_sessions(NOW) == 1


@pytest.mark.parametrize(
    "checkpoint",
    [RelayCheckpoint(0, 0, 5), RelayCheckpoint(0, 0, 0, "stream")],
    ids=["rows restored from it", "a stream begun"],
)
def test_a_warehouse_that_the_store_is_not_sure_of_is_asked_to_delete(tmp_path, place, checkpoint):
    store = SqliteStore(tmp_path / "l.db")
    with SessionLedger.open(f"sqlite:///{tmp_path}/l.db") as ledger:
        ledger.create_session("ada", "a secret", session_id="s1")
        ledger.delete_session("s1")
        outbox = store.outbox(place)
        taken = outbox.acquire("host/1/relay", 60)
        outbox.save(RelayCheckpoint(taken.epoch, checkpoint.seq, checkpoint.in_doubt_upto, checkpoint.sink_state))
        outbox.release(taken)
        assert ledger.delete_old_sessions(NOW) == 0
    store.close()


def test_rows_that_are_to_be_sent_again_keep_their_session(url, place):
    with SessionLedger.open(url) as ledger:
        ledger.create_session("ada", "a secret", session_id="s1")
        ledger.delete_session("s1")
        ledger.store.outbox(place).redrive({1: "it may be there"})
        assert ledger.delete_old_sessions(NOW) == 0
        ledger.create_session("bob", "other", session_id="s2")
        ledger.delete_session("s2")
        assert ledger.delete_old_sessions(NOW) == 0, "its rows may be with the others'"


def test_a_relay_passes_over_rows_that_were_deleted_before_it_began(url, place):
    with SessionLedger.open(url) as alone:
        alone.create_session("ada", session_id="s")
        alone.delete_session("s")
        assert alone.delete_old_sessions(NOW) == 1
    with SessionLedger.open(url, warehouse=place, relay="off") as ledger:
        assert ledger.warehouse.sync() == 0
        ledger.create_session("ada", session_id="t")
        assert ledger.warehouse.sync() > 0
        assert sessions_in(ledger) == {"t"}
