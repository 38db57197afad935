"""The lease on shipping to one warehouse: of all relays of a store, one at a time ships to it.

A lease is part of the warehouse's row in ``relays``: ``holder`` owns it until ``lease_until``, and ``epoch`` counts the
owners. Only the owner of the latest epoch can save; an owner that lost the lease finds a later epoch and saves nothing,
however long it was paused. Each function runs in a transaction of its caller.
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

#: Maximum duration of a lease, in seconds.
LONGEST_LEASE = 3600.0
_LOOK = "SELECT holder, lease_until, epoch FROM relays WHERE warehouse = ?"
_ACQUIRE = "UPDATE relays SET epoch = epoch + 1, holder = ?, lease_until = ? WHERE warehouse = ?"
_RENEW = "UPDATE relays SET lease_until = ? WHERE warehouse = ? AND epoch = ?"
_RELEASE = "UPDATE relays SET holder = NULL, lease_until = 0 WHERE warehouse = ? AND epoch = ?"


class LeaseRow(NamedTuple):
    """A lease as the store records it.

    Attributes:
        owner: ``host/process/token``; None if there is no owner.
        expires_at: Microseconds since 1970.
        epoch: The number of the owner.
    """

    owner: str | None
    expires_at: int
    epoch: int

    def active_owner(self, now: datetime) -> str | None:
        """Return the owner; None if the lease has expired or the owner's process has ended."""
        active = self.owner is not None and self.expires_at > to_micros(now) and not is_gone(self.owner)
        return self.owner if active else None


class Lease:
    """The lease on shipping to a warehouse, for one relay.

    Args:
        warehouse: The warehouse's URL; the caller has inserted its row in ``relays``.
        seconds: Duration of the lease after ``renew``; ``acquire`` replaces it.
    """

    def __init__(self, warehouse: str, seconds: float = LEASE_SECONDS) -> None:
        self.warehouse = warehouse
        self.seconds = seconds

    def acquire(self, connection: sqlite3.Connection, owner: str, seconds: float, now: datetime) -> None:
        """Become the owner, under a new epoch.

        Args:
            connection: In a transaction.
            owner: See ``owner_name``.
            seconds: Duration of the lease, now and after each ``renew``.
            now: The time of the call.

        Raises:
            LeaseHeld: Another owner holds the lease.
        """
        lease = LeaseRow._make(connection.execute(_LOOK, (self.warehouse,)).fetchone())
        other = lease.active_owner(now)
        # A later expiry comes from a clock that was ahead; its owner saves nothing more once the epoch has passed.
        is_possible = lease.expires_at <= _after(now, max(seconds, LONGEST_LEASE))
        if other is not None and other != owner and is_possible:
            raise LeaseHeld(
                f"{process_of(other)} is shipping this ledger to {self.warehouse} and holds the lease until "
                f"{from_micros(lease.expires_at).isoformat(timespec='seconds')} at least; try again afterwards."
            )
        connection.execute(_ACQUIRE, (owner, _after(now, seconds), self.warehouse))
        self.seconds = seconds

    def renew(self, connection: sqlite3.Connection, epoch: int, now: datetime) -> None:
        """Extend the lease by its duration.

        Raises:
            LeaseLost: Another owner has acquired the lease.
        """
        if connection.execute(_RENEW, (_after(now, self.seconds), self.warehouse, epoch)).rowcount == 0:
            raise LeaseLost(f"Another relay has acquired the lease on shipping this ledger to {self.warehouse}.")

    def release(self, connection: sqlite3.Connection, epoch: int) -> None:
        """Release the lease; does nothing if another owner has acquired it."""
        connection.execute(_RELEASE, (self.warehouse, epoch))


def owner_name(token: str) -> str:
    """Return the name of this process as an owner: ``host/process/token``."""
    return f"{socket.gethostname()}/{os.getpid()}/{token}"


def process_of(owner: str) -> str:
    """Return the owner without its token: ``host/process``."""
    return owner.rpartition("/")[0]


def is_gone(owner: str) -> bool:
    """Return True if the process that owns a lease has ended; False if it runs or cannot be checked.

    Processes of other hosts cannot be checked, nor any on Windows: there ``os.kill`` ends a process, whatever the
    signal.
    """
    host, _, rest = owner.partition("/")
    process = rest.partition("/")[0]
    if host != socket.gethostname() or not process.isdecimal() or sys.platform == "win32":
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # another user's process, and alive
        return False
    return False


def _after(now: datetime, seconds: float) -> int:
    return to_micros(now + timedelta(seconds=seconds))
