"""The warehouse of an open ledger: shipped to at once or in the background, and asked how that goes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cached_property

from ledger.outbox.contract import LEASE_SECONDS, DeadLetter, RelayStatus
from ledger.relay.background import BackgroundRelay, sync_now
from ledger.relay.loop import Relay
from ledger.stores.base import EventStore, StoreOutbox
from ledger.tiers.opening import check_apart, outbox_of, relay_between, require_outbox, sink_of
from ledger.warehouse.base import Answer, Parameters, Warehouse
from ledger.warehouse.urls import open_warehouse

log = logging.getLogger("ledger.relay")
#: Seconds to wait for another relay of the same ledger.
LEASE_TIMEOUT = 60.0


class AttachedWarehouse:
    """What a ledger does with the warehouse that it was opened with.

    Args:
        store: The ledger's store.
        url: Of the warehouse.
        background: Whether a thread of this process ships what is appended.
        lease_seconds: How long a relay of this ledger keeps others off after its last sign of life.

    Raises:
        ConfigurationError: No warehouse is behind the URL.
        CapabilityMissing: The store is no outbox.
    """

    def __init__(
        self, store: EventStore, url: str, *, background: bool = False, lease_seconds: float = LEASE_SECONDS
    ) -> None:
        self._store = require_outbox(store)
        check_apart(self._store, url)
        self.url = url
        self._lease_seconds = lease_seconds
        self._background = BackgroundRelay(self.relay()) if background else None

    @cached_property
    def outbox(self) -> StoreOutbox:
        """What the store remembers of its relay to this warehouse."""
        warehouse = open_warehouse(self.url)
        try:
            return outbox_of(self._store, sink_of(warehouse).url)
        finally:
            warehouse.close()

    @cached_property
    def opened(self) -> Warehouse:
        """The warehouse itself, for reading; closed with the ledger."""
        return open_warehouse(self.url)

    def query(self, sql: str, parameters: Parameters | None = None) -> Answer:
        """Answer one GoogleSQL SELECT over what was shipped; see ``Warehouse.query``."""
        return self.opened.query(sql, parameters)

    def status(self) -> RelayStatus:
        """How shipping is going."""
        return self.outbox.status()

    def relay(self) -> Relay:
        """A relay to it, for whoever runs it and closes it."""
        return relay_between(self._store, open_warehouse(self.url), lease_seconds=self._lease_seconds)

    def sync(self, *, progress: Callable[[int], None] = lambda rows: None) -> int:
        """Ship what is recorded by now; see ``sync_now``."""
        relay = self.relay()
        try:
            return sync_now(relay, self.outbox, timeout=LEASE_TIMEOUT, progress=progress)
        finally:
            relay.close()

    def refused(self) -> list[DeadLetter]:
        """The events that the warehouse refused."""
        return self.outbox.refused()

    def retry(self, event_id: str | None = None) -> int:
        """Have refused events sent again with the next batch, one or all; returns how many rows that is."""
        return self.outbox.redrive_event(event_id)

    def close(self, seconds: float) -> int:
        """End the relay in the background, which ships what waits for so many seconds at most.

        Returns:
            How many rows still wait; 0 where none was in the background.
        """
        if "opened" in self.__dict__:
            self.opened.close()
        if self._background is None:
            return 0
        background, self._background = self._background, None
        ended = background.close(seconds)
        status = self.status()
        left = status.waiting_rows
        if left:
            why = f": {status.last_error}" if status.last_error else ""
            log.warning("%d row(s) wait in the ledger for %s%s", left, status.warehouse, why)
        if not ended:
            log.warning("The relay to %s did not come to its end; the next one finds out where it was.", self.url)
        return left
