"""The lease on shipping to one warehouse: of all relays of a store, one at a time ships to it.

A lease is part of the warehouse's row in ``relays``: ``holder`` owns it until ``lease_until``, and ``epoch`` counts the
owners. Whoever acquired the latest epoch may save; an owner that lost the lease finds a later epoch and saves nothing
more, however long it was paused. Each function is part of a transaction of its caller's.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import sys
from datetime import datetime, timedelta
from typing import NamedTuple

from ledger.errors import LeaseHeld, LeaseLost
from ledger.model.instants import from_micros, to_micros
from ledger.outbox.contract import LEASE_SECONDS

#: Seconds beyond which no lease reaches.
LONGEST_LEASE = 3600.0
_LOOK = "SELECT holder, lease_until, epoch FROM relays WHERE warehouse = ?"
_ACQUIRE = "UPDATE relays SET epoch = epoch + 1, holder = ?, lease_until = ? WHERE warehouse = ?"
_RENEW = "UPDATE relays SET lease_until = ? WHERE warehouse = ? AND epoch = ?"
_RELEASE = "UPDATE relays SET holder = NULL, lease_until = 0 WHERE warehouse = ? AND epoch = ?"


class LeaseRow(NamedTuple):
    """A lease as the store records it.

    Attributes:
        owner: ``host/process/token``; None if nobody owns it.
        expires_at: Microseconds since 1970.
        epoch: Number of the owner.
    """

    owner: str | None
    expires_at: int
    epoch: int

    def active_owner(self, now: datetime) -> str | None:
        """The owner, unless the lease has expired or the owner is seen to have ended."""
        active = self.owner is not None and self.expires_at > to_micros(now) and not is_gone(self.owner)
        return self.owner if active else None


class Lease:
    """The lease on shipping to a warehouse, for one relay.

    Args:
        warehouse: Its URL; it has a row in ``relays`` once anything is called.
        seconds: How long the lease holds after ``renew``, until ``acquire`` says otherwise.
    """

    def __init__(self, warehouse: str, seconds: float = LEASE_SECONDS) -> None:
        self.warehouse = warehouse
        self.seconds = seconds

    def acquire(self, connection: sqlite3.Connection, owner: str, seconds: float, now: datetime) -> None:
        """Become the owner, under a new epoch.

        Args:
            owner: See ``owner_name``.
            seconds: How long the lease holds, now and after each ``renew``.

        Raises:
            LeaseHeld: Another owner holds it.
        """
        lease = LeaseRow._make(connection.execute(_LOOK, (self.warehouse,)).fetchone())
        other = lease.active_owner(now)
        # A lease that reaches further was taken by a clock that was ahead; whoever took it can save no more.
        is_possible = lease.expires_at <= _after(now, max(seconds, LONGEST_LEASE))
        if other is not None and other != owner and is_possible:
            raise LeaseHeld(
                f"{process_of(other)} ships this ledger to {self.warehouse} already, and holds on to it until "
                f"{from_micros(lease.expires_at).isoformat(timespec='seconds')} at least."
            )
        connection.execute(_ACQUIRE, (owner, _after(now, seconds), self.warehouse))
        self.seconds = seconds

    def renew(self, connection: sqlite3.Connection, epoch: int, now: datetime) -> None:
        """Hold the lease for as long again.

        Raises:
            LeaseLost: The epoch is over.
        """
        if connection.execute(_RENEW, (_after(now, self.seconds), self.warehouse, epoch)).rowcount == 0:
            raise LeaseLost(f"Somebody else ships this ledger to {self.warehouse} now.")

    def release(self, connection: sqlite3.Connection, epoch: int) -> None:
        """Let others acquire it; does nothing if the epoch is over."""
        connection.execute(_RELEASE, (self.warehouse, epoch))


def owner_name(token: str) -> str:
    """This process as an owner: ``host/process/token``."""
    return f"{socket.gethostname()}/{os.getpid()}/{token}"


def process_of(owner: str) -> str:
    """The owner without its token: ``host/process``."""
    return owner.rpartition("/")[0]


def is_gone(owner: str) -> bool:
    """Whether the process that owns a lease has ended; False if that cannot be seen from here.

    Processes of other hosts cannot be seen, nor any on Windows: there ``os.kill`` ends a process, whatever the signal.
    """
    host, _, rest = owner.partition("/")
    process = rest.partition("/")[0]
    if host != socket.gethostname() or not process.isdecimal() or sys.platform == "win32":
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # somebody else's, and alive
        return False
    return False


def _after(now: datetime, seconds: float) -> int:
    return to_micros(now + timedelta(seconds=seconds))
