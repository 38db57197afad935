"""A relay between a store and the warehouse behind a URL."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from ledger.errors import CapabilityMissing, ConfigurationError
from ledger.extras import require_extra
from ledger.outbox.contract import LEASE_SECONDS, Sink
from ledger.relay.loop import Relay
from ledger.stores.base import EventStore, OutboxStore, StoreOutbox, outbox_store
from ledger.stores.user_view import UserView
from ledger.warehouse.base import Warehouse
from ledger.warehouse.duckdb.warehouse import DuckDBWarehouse
from ledger.warehouse.urls import duckdb_url, parse_warehouse_url


def relay_between(store: EventStore, warehouse: Warehouse, *, lease_seconds: float = LEASE_SECONDS) -> Relay:
    """A relay from a store to a warehouse that is open already, and which the relay closes.

    Args:
        store: An outbox.
        warehouse: Nothing is asked of it before the relay ships.
        lease_seconds: For how long others keep off after the last sign of life.

    Raises:
        CapabilityMissing: The store is no outbox.
        MissingExtra: The warehouse is a DuckDB file, and a package for shipping to it is not installed.
    """
    from ledger.stores.sqlite.lease import holder_name

    if isinstance(warehouse, DuckDBWarehouse):
        require_extra("analytics", "duckdb", "sqlglot", "pyarrow")
    sink = sink_of(warehouse)
    return Relay(outbox_of(store, sink.url), sink, holder=holder_name(uuid.uuid4().hex), lease_seconds=lease_seconds)


def outbox_of(store: EventStore, url: str) -> StoreOutbox:
    """What a store remembers of its relay to a warehouse.

    Raises:
        CapabilityMissing: The store is no outbox.
    """
    return require_outbox(store).outbox(url)


def require_outbox(store: EventStore) -> OutboxStore:
    """Return a store as an outbox.

    Raises:
        PermissionDenied: It is the view of one user.
        CapabilityMissing: It is none.
    """
    if isinstance(store, UserView):
        raise store.everybodys("outbox")
    outbox = outbox_store(store)
    if outbox is None:
        raise CapabilityMissing("This ledger is in its warehouse already; only one in a SQLite file is shipped to one.")
    return outbox


def check_apart(store: OutboxStore, url: str) -> None:
    """Raise ConfigurationError where a warehouse's URL is none, or names the ledger's own file.

    DuckDB would open that, and let go of it: with it go the locks that SQLite has in this process, and then what is
    appended is lost when another process closes the ledger.
    """
    place = parse_warehouse_url(url)
    own = os.path.realpath(store.path)
    if isinstance(place, Path) and os.path.realpath(place) in {own, f"{own}-wal", f"{own}-shm", f"{own}-journal"}:
        raise ConfigurationError(f"{place} is the ledger itself; give the warehouse a file of its own.")


def sink_of(warehouse: Warehouse) -> Sink:
    """A warehouse as what a relay fills."""
    if isinstance(warehouse, DuckDBWarehouse):
        from ledger.warehouse.duckdb.sink import DuckDBSink

        return DuckDBSink(warehouse, duckdb_url(warehouse.path))
    from ledger.warehouse.bigquery.sink import BigQuerySink
    from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse

    if isinstance(warehouse, BigQueryWarehouse):
        return BigQuerySink(warehouse, owns=True)
    raise ConfigurationError(f"There is no relay to a {type(warehouse).__name__}.")
