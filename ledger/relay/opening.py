"""A relay between a store and the warehouse behind a URL."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from ledger.errors import CapabilityMissing, ConfigurationError
from ledger.relay.base import Sink
from ledger.relay.shipping import LEASE_SECONDS, Relay
from ledger.stores.base import EventStore
from ledger.warehouse.base import Warehouse
from ledger.warehouse.duckdb import DuckDBWarehouse
from ledger.warehouse.urls import duckdb_url, open_warehouse

if TYPE_CHECKING:
    from ledger.stores.sqlite_outbox import SqliteOutbox


def open_relay(store: Any, url: str, *, lease_seconds: float = LEASE_SECONDS) -> Relay:
    """A relay from a store to a warehouse; nothing is asked of the warehouse before it ships.

    Args:
        store: An event store.
        url: Of the warehouse.
        lease_seconds: For how long others keep off after the last sign of life.

    Raises:
        CapabilityMissing: The store is no outbox.
        ConfigurationError: No warehouse is behind the URL.
    """
    return relay_between(store, open_warehouse(url), lease_seconds=lease_seconds)


def relay_between(store: Any, warehouse: Warehouse, *, lease_seconds: float = LEASE_SECONDS) -> Relay:
    """A relay from a store to a warehouse that is open already, and which the relay closes."""
    from ledger.stores.sqlite_outbox import holder_name

    sink = sink_of(warehouse)
    return Relay(outbox_of(store, sink.url), sink, holder=holder_name(uuid.uuid4().hex), lease_seconds=lease_seconds)


def outbox_of(store: Any, url: str) -> SqliteOutbox:
    """What a store remembers of its relay to a warehouse.

    Raises:
        CapabilityMissing: The store is no outbox.
    """
    require_outbox(store)
    outbox: SqliteOutbox = store.outbox(url)
    return outbox


def require_outbox(store: EventStore) -> None:
    """Raise CapabilityMissing where a store is no outbox."""
    if not store.capabilities.commit_order:
        raise CapabilityMissing("This ledger is in its warehouse already; only one in a SQLite file is shipped to one.")


def sink_of(warehouse: Warehouse) -> Sink:
    """A warehouse as what a relay fills."""
    if isinstance(warehouse, DuckDBWarehouse):
        from ledger.warehouse.duckdb_sink import DuckDBSink

        return DuckDBSink(warehouse, duckdb_url(warehouse.path))
    from ledger.warehouse.bigquery.sink import BigQuerySink
    from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse

    if isinstance(warehouse, BigQueryWarehouse):
        return BigQuerySink(warehouse, owns=True)
    raise ConfigurationError(f"There is no relay to a {type(warehouse).__name__}.")
