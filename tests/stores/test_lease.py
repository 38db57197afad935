"""The lease on shipping to a warehouse: acquired, renewed, released, lost; and whose process is seen to have ended."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta

import pytest

from ledger.errors import InvalidInput, LeaseHeld, LeaseLost
from ledger.model.instants import to_micros
from ledger.outbox.contract import LEASE_SECONDS
from ledger.stores.sqlite.lease import LONGEST_LEASE, Lease, LeaseRow, holder_name, is_gone, process_of
from ledger.stores.sqlite.schema import migrate
from ledger.stores.sqlite.waiting import forget
from ledger.testing.streams import START

URL = "test://warehouse"


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection, "l.db", new_store_id="store", now=START)
        connection.execute("INSERT INTO relays (warehouse) VALUES (?)", (URL,))
        yield connection


def row(db: sqlite3.Connection) -> LeaseRow:
    return LeaseRow(*db.execute("SELECT holder, lease_until, epoch FROM relays").fetchone())


def after(seconds: float) -> int:
    return to_micros(START + timedelta(seconds=seconds))


def test_acquire_renew_and_release(db):
    lease = Lease(URL)
    lease.acquire(db, "there/1/a", 20, START)
    assert row(db) == LeaseRow("there/1/a", after(20), 1)
    lease.renew(db, 1, START + timedelta(seconds=5))
    assert row(db) == LeaseRow("there/1/a", after(25), 1)
    lease.release(db, 1)
    assert row(db) == LeaseRow(None, 0, 1)


def test_acquire_is_refused_until_the_lease_expires(db):
    Lease(URL).acquire(db, "there/1/a", 20, START)
    with pytest.raises(LeaseHeld, match="there/1 ships this ledger to test://warehouse"):
        Lease(URL).acquire(db, "there/2/b", 20, START + timedelta(seconds=19))
    assert row(db).epoch == 1
    Lease(URL).acquire(db, "there/2/b", 20, START + timedelta(seconds=20))
    assert row(db).epoch == 2


def test_acquire_again_by_the_holder_begins_a_new_epoch(db):
    lease = Lease(URL)
    lease.acquire(db, "there/1/a", 20, START)
    lease.acquire(db, "there/1/a", 20, START)
    assert row(db).epoch == 2


def test_renew_and_release_of_a_lost_lease_leave_it_to_its_holder(db):
    first, second = Lease(URL), Lease(URL)
    first.acquire(db, "there/1/a", 20, START)
    second.acquire(db, "there/2/b", 20, START + timedelta(seconds=30))
    with pytest.raises(LeaseLost):
        first.renew(db, 1, START + timedelta(seconds=31))
    first.release(db, 1)
    assert row(db) == LeaseRow("there/2/b", after(50), 2)


def test_a_relay_that_lost_its_lease_before_the_warehouse_was_forgotten_never_has_it_again(db):
    lease = Lease(URL)
    lease.acquire(db, "there/1/a", 20, START)
    db.execute("UPDATE relays SET checkpoint = 5")
    later = START + timedelta(seconds=30)
    assert forget(db, URL, later, even_if_needed=False).warehouse == URL
    assert db.execute("SELECT checkpoint, holder FROM relays").fetchall() == [(0, None)]
    with pytest.raises(InvalidInput, match="ships to none"):
        forget(db, URL, later, even_if_needed=False)
    lease.acquire(db, "there/2/b", 20, later)
    with pytest.raises(LeaseLost):
        lease.renew(db, 1, later)
    lease.release(db, 1)
    assert row(db).holder == "there/2/b"


def test_a_lease_by_a_clock_that_was_ahead_holds_nobody_off(db):
    Lease(URL).acquire(db, "there/1/a", 20, START + timedelta(seconds=LONGEST_LEASE))
    Lease(URL).acquire(db, "there/2/b", 20, START)
    assert row(db).holder == "there/2/b"


def test_a_lease_holds_for_the_default_until_acquire_says_otherwise(db):
    Lease(URL).renew(db, 0, START)
    assert row(db).expires_at == after(LEASE_SECONDS)


def test_active_holder_is_none_once_the_lease_has_expired_or_its_process_has_ended():
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    gone = f"{socket.gethostname()}/{process.pid}/x"
    now = START
    assert LeaseRow("there/1/a", after(1), 1).active_holder(now) == "there/1/a"
    assert LeaseRow("there/1/a", after(0), 1).active_holder(now) is None
    assert LeaseRow(gone, after(1), 1).active_holder(now) is None
    assert LeaseRow(None, 0, 1).active_holder(now) is None


def test_is_gone_sees_processes_of_this_host_alone(monkeypatch):
    own = holder_name("token")
    assert own == f"{socket.gethostname()}/{os.getpid()}/token"
    assert process_of(own) == f"{socket.gethostname()}/{os.getpid()}"
    assert not is_gone(own)
    assert not is_gone("there/1/token")
    assert not is_gone(f"{socket.gethostname()}/no-number/token")

    def others(process: int, signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", others)
    assert not is_gone(own)


def test_is_gone_sends_no_signal_on_windows(monkeypatch):
    """There any signal but two ends the process."""
    sent: list[int] = []
    monkeypatch.setattr(os, "kill", lambda process, signal: sent.append(process))
    monkeypatch.setattr(sys, "platform", "win32")
    assert not is_gone(holder_name("token"))
    assert sent == []
