"""Functions that connect a store with a warehouse: its relay, its outbox and its sink."""

from __future__ import annotations

import os
import shlex
import uuid
from pathlib import Path

from ledger.clock import Clock, utc_now
from ledger.errors import CapabilityMissing, ConfigurationError, StoreRejected, StoreUnavailable
from ledger.extras import require_extra
from ledger.files import check_apart as check_apart_from
from ledger.outbox.comparison import StoreOutbox
from ledger.outbox.contract import LEASE_SECONDS, Sink
from ledger.relay.loop import Relay
from ledger.stores.base import EventStore, OutboxStore, outbox_store
from ledger.stores.user_view import UserView
from ledger.warehouse.base import Warehouse
from ledger.warehouse.duckdb.warehouse import DuckDBWarehouse
from ledger.warehouse.urls import duckdb_file, duckdb_files, duckdb_url, open_warehouse, parse_warehouse_url


def relay_between(
    store: EventStore, warehouse: Warehouse, *, lease_seconds: float = LEASE_SECONDS, clock: Clock = utc_now
) -> Relay:
    """Return a relay from a store to an open warehouse, which the relay closes.

    Args:
        store: A store that is an outbox.
        warehouse: The warehouse. No request is sent to it before the relay ships.
        lease_seconds: Duration of the relay's lease.
        clock: Source of the time at which days expire in the warehouse.

    Raises:
        CapabilityMissing: The store is not an outbox.
        PermissionDenied: The store is a ``UserView``, which restricts a store to one user.
        ConfigurationError: A relay cannot ship to this kind of warehouse.
        MissingExtra: The warehouse is a DuckDB file, and a package for shipping to it is not installed.
    """
    from ledger.stores.sqlite.lease import holder_name

    if isinstance(warehouse, DuckDBWarehouse):
        require_extra("analytics", "duckdb", "sqlglot", "pyarrow")
    sink = sink_of(warehouse, clock=clock)
    return Relay(outbox_of(store, sink.url), sink, holder=holder_name(uuid.uuid4().hex), lease_seconds=lease_seconds)


def warehouse_for(store: OutboxStore, url: str) -> Warehouse:
    """Return the warehouse of a store, without connecting to it or creating it.

    A new DuckDB file gets the group and mode of the store's file.

    A DuckDB file is not filled anew if archived sessions have their rows there alone: every call that would do so
    raises StoreRejected. Nor is it if it may have events that a restored store lacks: such calls raise
    StoreUnavailable, and the store stays unreconciled.

    Args:
        store: The store.
        url: The warehouse's URL.

    Raises:
        ConfigurationError, MissingExtra: As for ``open_warehouse``.
    """

    def check_lost(path: Path, found: str) -> None:
        name = duckdb_url(path)
        alone = store.archived_in(name, alone=True)
        archived = alone or store.archived_in(name)
        if archived:
            sessions = f"{archived:,} archived session{'' if archived == 1 else 's'}"
            were_in_it, give_up, yes = (
                ("were in it alone", "give these sessions up", " --yes") if alone else ("were in it", "say so", "")
            )
            raise StoreRejected(
                f"{path} {found}, and the events of {sessions} {were_in_it}; it was not filled anew. Put the file "
                f"back, or restore it from a backup of it. If it is lost for good, {give_up} with "
                f"`ledger warehouse forget {shlex.quote(name)}{yes}`; then `ledger sync` fills a new file."
            )
        if any(each.warehouse == name for each in store.unreconciled()):
            raise StoreUnavailable(
                f"{path} {found}, and may have events that this ledger lacks, which was restored from a backup; it was "
                "not filled anew. Put the file back, mount its disk, or restore a backup of it. If it is lost for "
                f"good, give those events up with `ledger warehouse forget {shlex.quote(name)}`; then `ledger sync` "
                "fills a new file."
            )

    return open_warehouse(url, check_lost=check_lost, like=store.path)


def outbox_of(store: EventStore, url: str) -> StoreOutbox:
    """Return a store's side of the relay to a warehouse, given the warehouse's URL.

    Raises:
        PermissionDenied: The store is a ``UserView``, which restricts a store to one user.
        CapabilityMissing: The store is not an outbox.
    """
    return require_outbox(store).outbox(url)


def require_outbox(store: EventStore) -> OutboxStore:
    """Return a store, typed as an ``OutboxStore``, after a check that it is one.

    Raises:
        PermissionDenied: The store is a ``UserView``, which restricts a store to one user.
        CapabilityMissing: The store is not an outbox.
    """
    if isinstance(store, UserView):
        raise store.everybodys("outbox")
    outbox = outbox_store(store)
    if outbox is None:
        raise CapabilityMissing("This ledger is stored in a warehouse; only a ledger in a SQLite file ships to one.")
    return outbox


def check_apart(store: OutboxStore, url: str) -> None:
    """Raise ConfigurationError if a warehouse's URL is malformed or names the ledger's own file.

    DuckDB would open and close that file, and closing it releases the locks that SQLite holds on it in this process. If
    another process then closes the ledger, later appends are lost.
    """
    location = parse_warehouse_url(url)
    if isinstance(location, Path):
        check_file_apart(store.path, location)


def check_file_apart(ledger: Path, warehouse: Path) -> None:
    """Raise ConfigurationError if the file of a warehouse is the ledger's own file, or one that SQLite keeps beside it.

    Args:
        ledger: The file of the ledger.
        warehouse: The file of the warehouse.
    """
    own = os.path.realpath(ledger)
    if os.path.realpath(warehouse) in {own, f"{own}-wal", f"{own}-shm", f"{own}-journal"}:
        raise ConfigurationError(f"{warehouse} is the ledger itself; give the warehouse a file of its own.")


def check_output(store: EventStore, path: Path, warehouse: str | None) -> None:
    """Raise InvalidInput if a file to be written is one of the store's files or the file of a warehouse.

    Args:
        store: The store.
        path: The file to be written.
        warehouse: URL of the attached warehouse, which the store may not have shipped to yet; None if there is none.
    """
    outbox = outbox_store(store)
    if outbox is None:
        return
    attached = None if warehouse is None else duckdb_file(warehouse)
    check_apart_from(path, [*outbox.own_files(), *([] if attached is None else duckdb_files(attached))])


def sink_of(warehouse: Warehouse, *, clock: Clock = utc_now) -> Sink:
    """Return the sink for a warehouse.

    Args:
        warehouse: The warehouse.
        clock: Source of the time at which days expire in the warehouse.

    Raises:
        ConfigurationError: A relay cannot ship to this kind of warehouse.
    """
    if isinstance(warehouse, DuckDBWarehouse):
        from ledger.warehouse.duckdb.sink import DuckDBSink

        return DuckDBSink(warehouse, duckdb_url(warehouse.path))
    from ledger.warehouse.bigquery.sink import BigQuerySink
    from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse

    if isinstance(warehouse, BigQueryWarehouse):
        return BigQuerySink(warehouse, owns=True, clock=clock)
    raise ConfigurationError(f"A relay cannot ship to a {type(warehouse).__name__}; use a DuckDB file or BigQuery.")
