"""The lease on shipping to one warehouse, which only one relay of a store can hold at a time.

A lease is part of the warehouse's row in ``relays``: ``holder`` has it until ``lease_until``, and ``epoch`` grows with
each acquisition. Only the holder of the latest epoch may save. A relay that has lost the lease finds a later
epoch and saves nothing, even if it was paused for a long time. Each method runs in a transaction of its caller.
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
from ledger.stores.sqlite.errors import damaged

#: The longest lease, in seconds, that is respected. If the time left is longer than this and longer than a new lease,
#: the lease was set by a clock that was ahead. Another relay can then acquire it.
LONGEST_LEASE = 3600.0
_LOOK = "SELECT holder, lease_until, epoch FROM relays WHERE warehouse = ?"
_ACQUIRE = "UPDATE relays SET epoch = epoch + 1, holder = ?, lease_until = ? WHERE warehouse = ?"
_RENEW = "UPDATE relays SET lease_until = ? WHERE warehouse = ? AND epoch = ?"
_RELEASE = "UPDATE relays SET holder = NULL, lease_until = 0 WHERE warehouse = ? AND epoch = ?"


class LeaseRow(NamedTuple):
    """A lease as the store records it.

    Attributes:
        holder: ``host/process/token``; None if the lease is free.
        expires_at: The time at which it expires, in microseconds since 1970; 0 if the lease is free.
        epoch: Number of acquisitions.
    """

    holder: str | None
    expires_at: int
    epoch: int

    def active_holder(self, now: datetime) -> str | None:
        """Return the holder; None if the lease is free or expired, or the holder's process is known to have ended."""
        if type(self.expires_at) is not int or not (self.holder is None or type(self.holder) is str):
            raise damaged("relays", "", f"the lease of {self.holder!r:.50} until {self.expires_at!r:.50}")
        active = self.holder is not None and self.expires_at > to_micros(now) and not is_gone(self.holder)
        return self.holder if active else None

    def check_free(self, warehouse: str, now: datetime) -> None:
        """Raise LeaseHeld if a relay has the lease, which is that on shipping to ``warehouse``."""
        holder = self.active_holder(now)
        if holder is not None:
            raise LeaseHeld(f"{process_of(holder)} ships this ledger to {warehouse} now. Stop that process first.")


class Lease:
    """The lease on shipping to a warehouse, for one relay.

    Args:
        warehouse: The warehouse's URL. It must have a row in ``relays`` before a method is called.
        seconds: Duration of the lease after each ``renew``, until ``acquire`` sets another duration.
    """

    def __init__(self, warehouse: str, seconds: float = LEASE_SECONDS) -> None:
        self.warehouse = warehouse
        self.seconds = seconds

    def acquire(self, connection: sqlite3.Connection, holder: str, seconds: float, now: datetime) -> None:
        """Acquire the lease for a holder, under a new epoch.

        Args:
            connection: A connection in a transaction.
            holder: See ``holder_name``.
            seconds: Duration of the lease, now and after each ``renew``.
            now: The store's time.

        Raises:
            LeaseHeld: Another holder has the lease.
        """
        lease = LeaseRow._make(connection.execute(_LOOK, (self.warehouse,)).fetchone())
        other = lease.active_holder(now)
        # A later expiry was set by a clock that was ahead; the new epoch stops that holder from saving.
        is_possible = lease.expires_at <= _after(now, max(seconds, LONGEST_LEASE))
        if other is not None and other != holder and is_possible:
            raise LeaseHeld(
                f"{process_of(other)} ships this ledger to {self.warehouse} already and holds the lease until "
                f"{from_micros(lease.expires_at).isoformat(timespec='seconds')} or later. Stop that process, or "
                "try again after that time."
            )
        connection.execute(_ACQUIRE, (holder, _after(now, seconds), self.warehouse))
        self.seconds = seconds

    def renew(self, connection: sqlite3.Connection, epoch: int, now: datetime) -> None:
        """Extend the lease: its duration starts anew at ``now``.

        Raises:
            LeaseLost: A later epoch has begun.
        """
        if connection.execute(_RENEW, (_after(now, self.seconds), self.warehouse, epoch)).rowcount == 0:
            raise LeaseLost(f"Another relay ships this ledger to {self.warehouse} now; nothing was saved.")

    def release(self, connection: sqlite3.Connection, epoch: int) -> None:
        """Release the lease; does nothing if a later epoch has begun."""
        connection.execute(_RELEASE, (self.warehouse, epoch))


def lease_of(connection: sqlite3.Connection, warehouse: str) -> LeaseRow | None:
    """Return the lease on shipping to a warehouse; None if the store has never shipped to it."""
    row = connection.execute(_LOOK, (warehouse,)).fetchone()
    return None if row is None else LeaseRow._make(row)


def holder_name(token: str) -> str:
    """Return the name of this process as a holder: ``host/process/token``."""
    return f"{socket.gethostname()}/{os.getpid()}/{token}"


def process_of(holder: str) -> str:
    """Return a holder's name without its token: ``host/process``."""
    return holder.rpartition("/")[0]


def is_gone(holder: str) -> bool:
    """Return True if the holder's process is known to have ended.

    Return False if this cannot be checked. A process on another host cannot be checked. On Windows no process can be
    checked, because ``os.kill`` ends the process there, whatever the signal.
    """
    host, _, rest = holder.partition("/")
    process = rest.partition("/")[0]
    if host != socket.gethostname() or not process.isdecimal() or sys.platform == "win32":
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # alive, and another user's
        return False
    return False


def _after(now: datetime, seconds: float) -> int:
    return to_micros(now + timedelta(seconds=seconds))
