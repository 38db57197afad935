"""The warehouse that a ledger was opened with. It is queried, and receives rows on demand or in the background."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import cached_property

from ledger.clock import Clock, utc_now
from ledger.errors import StoreRejected
from ledger.holding import ending
from ledger.outbox.comparison import StoreOutbox
from ledger.outbox.contract import LEASE_SECONDS, DeadLetter, RelayStatus
from ledger.relay.background import BackgroundRelay, sync_now
from ledger.relay.loop import Relay
from ledger.stores.base import EventStore
from ledger.tiers import elsewhere
from ledger.tiers.opening import check_apart, outbox_of, relay_between, require_outbox, sink_of, warehouse_for
from ledger.warehouse.answer import Answer
from ledger.warehouse.base import Parameters, Warehouse

log = logging.getLogger("ledger.relay")
#: Seconds that ``sync`` waits while another relay holds the lease.
LEASE_TIMEOUT = 60.0


class AttachedWarehouse:
    """The warehouse that a ledger was opened with.

    Args:
        store: The ledger's store.
        url: The warehouse's URL.
        background: True to ship appended rows continuously, in a thread of this process, which ``start`` starts.
        lease_seconds: Duration of the lease of this ledger's relays.
        clock: Source of the time at which days expire in the warehouse.

    Raises:
        ConfigurationError: The URL names no warehouse, or it names the ledger's own file.
        CapabilityMissing: The store is not an outbox.
        PermissionDenied: The store is a ``UserView``, which restricts a store to one user.
    """

    def __init__(
        self,
        store: EventStore,
        url: str,
        *,
        background: bool = False,
        lease_seconds: float = LEASE_SECONDS,
        clock: Clock = utc_now,
    ) -> None:
        self._store = require_outbox(store)
        check_apart(self._store, url)
        self.url = url
        self._lease_seconds = lease_seconds
        self._clock = clock
        self._background = BackgroundRelay(self.relay) if background else None
        self._process = os.getpid()

    def start(self) -> None:
        """Start the background relay; do nothing if ``background`` is False."""
        if self._background is not None:
            elsewhere.warn(self._store, self.outbox.warehouse)
            self._background.start()

    @cached_property
    def outbox(self) -> StoreOutbox:
        """The store's side of the relay to this warehouse."""
        warehouse = warehouse_for(self._store, self.url)
        with ending(warehouse.close):
            return outbox_of(self._store, sink_of(warehouse).url)

    @cached_property
    def opened(self) -> Warehouse:
        """The warehouse, which the first access opens for reading. It is closed with the ledger."""
        return warehouse_for(self._store, self.url)

    def query(self, sql: str, parameters: Parameters | None = None) -> Answer:
        """Run one GoogleSQL SELECT over the shipped rows. ``SessionLedger.sql`` ships the waiting rows first."""
        return self.opened.query(sql, parameters)

    def status(self) -> RelayStatus:
        """Return the relay's status."""
        return self.outbox.status()

    def relay(self) -> Relay:
        """Return a new relay to the warehouse; the caller must close it."""
        return relay_between(
            self._store, warehouse_for(self._store, self.url), lease_seconds=self._lease_seconds, clock=self._clock
        )

    def sync(self, *, progress: Callable[[int], None] = lambda rows: None) -> int:
        """Ship all rows recorded before the call; see ``sync_now``."""
        relay = self.relay()
        with ending(relay.close):
            sent = sync_now(relay, self.outbox, timeout=LEASE_TIMEOUT, progress=progress)
        elsewhere.warn(self._store, self.outbox.warehouse)
        return sent

    def refused(self) -> list[DeadLetter]:
        """Return the warehouse's dead letters."""
        return self.outbox.refused()

    def retry(self, event_id: str | None = None) -> int:
        """Requeue the dead letters with this event_id, or all that are not dismissed. Return the number of rows."""
        return self.outbox.redrive_event(event_id)

    def dismiss(self, event_id: str) -> bool:
        """Dismiss a dead letter; return whether the event is dismissed now. See ``StoreOutbox.dismiss``."""
        return self.outbox.dismiss(event_id)

    def close(self, seconds: float) -> int:
        """Close the warehouse and, if there is one, the background relay.

        Before it closes, the background relay ships waiting rows for at most ``seconds``.

        Returns:
            The number of rows that still wait. 0 without a background relay, and in a forked child that may not use the
            store: there they wait for the parent's relay.
        """
        if "opened" in self.__dict__:
            self.opened.close()
        if self._background is None:
            return 0
        ended = self._background.close(seconds)
        cut_off = self._background.cut_off
        self._background = None
        try:
            status = self.status()
        except StoreRejected as error:
            if os.getpid() == self._process:  # the file was moved or deleted, and the rows with it
                raise
            log.warning("The rows that wait for %s were not counted: %s", self.url, error)
            return 0
        waiting = status.waiting_rows
        if waiting:
            why = status.last_error or f"close() ended after {seconds:g} s"
            if cut_off is not None:
                why = f"close() ended after {seconds:g} s while the relay was {cut_off}"
                failed_at, shipped_at = status.failed_at, status.shipped_at
                if failed_at is not None and (shipped_at is None or shipped_at < failed_at):
                    why += f", after an attempt that failed: {status.last_error}"
            log.warning(
                "%d %s in the ledger for %s: %s. Ship them with `ledger sync`, or use close(drain=SECONDS).",
                *(waiting, "row waits" if waiting == 1 else "rows wait", status.warehouse, why.rstrip(".")),
            )
        if not ended:
            log.warning("The relay to %s did not end in time; the next relay recovers from its checkpoint.", self.url)
        return waiting
