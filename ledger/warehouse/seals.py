"""Copies of stores' seals in a warehouse. Somebody who can only rewrite a store's file cannot change these copies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from ledger.errors import ConfigurationError
from ledger.model.seals import Seal
from ledger.warehouse import catalog
from ledger.warehouse.base import Warehouse


def send(warehouse: Warehouse, seals: Sequence[Seal], store_id: str) -> int:
    """Record those seals of a store that a warehouse does not have; return their number.

    If an earlier release created the warehouse, the table of seals is created first.

    Raises:
        StoreUnavailable: Some of the seals may have been recorded; call again.
    """
    try:
        known = recorded(warehouse, store_id)
    except ConfigurationError:
        warehouse.add_missing()
        known = recorded(warehouse, store_id)
    missing = sorted({seal.seal_id for seal in seals} - {seal.seal_id for seal in known})
    by_id = {seal.seal_id: seal for seal in seals}
    for seal_id in missing:
        record(warehouse, by_id[seal_id])
    return len(missing)


def record(warehouse: Warehouse, seal: Seal) -> None:
    """Record a seal in a warehouse; a seal that is recorded already stays as it is.

    Raises:
        StoreUnavailable: The seal may or may not have been recorded; call again.

    Source: sql/statements/record_seal.sql
    """
    warehouse.change("record_seal", {**asdict(seal), "previous_root": seal.previous_root or ""})


def recorded(warehouse: Warehouse, store_id: str) -> list[Seal]:
    """Return the seals of a store that a warehouse has, oldest first.

    Source: sql/statements/read_seals.sql
    """
    rows = warehouse.query(catalog.query("read_seals"), {"store_id": store_id}, operation="read_seals").rows
    return [Seal(*row) for row in rows]
