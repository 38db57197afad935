"""Comparison of a seal with the warehouse, for sealed sessions whose rows the store has dropped."""

from __future__ import annotations

from collections.abc import Sequence

from ledger.model.instants import from_micros
from ledger.model.seals import LeafCheck
from ledger.outbox.comparison import WarehouseRow, batches
from ledger.outbox.row_digests import SessionKey
from ledger.warehouse.base import Warehouse
from ledger.warehouse.row_comparison import ComparedRows


def compare_with_warehouse(warehouse: Warehouse, checks: Sequence[LeafCheck]) -> list[LeafCheck]:
    """Compare archived sessions with their rows in the warehouse, and return the checks with the results.

    Only checks with ``found="elsewhere"`` are compared. Other checks are returned unchanged.

    Raises:
        StoreUnavailable: The warehouse cannot be reached.
    """
    compared = ComparedRows(warehouse)
    elsewhere = {_key(check): check for check in checks if check.found == "elsewhere"}
    answers: dict[str, LeafCheck] = {}
    for part in batches(sorted(elsewhere, key=lambda key: key.created_at)):
        rows = compared.rows_of(part)
        answers.update({key.session_id: _answer(elsewhere[key], rows.get(key, [])) for key in part})
    return [answers.get(check.leaf.session_id, check) for check in checks]


def _key(check: LeafCheck) -> SessionKey:
    return SessionKey(check.leaf.session_id, from_micros(check.leaf.created_at))


def _answer(check: LeafCheck, rows: Sequence[WarehouseRow]) -> LeafCheck:
    """Return a copy of ``check`` with the result of comparing the leaf with the session's rows in the warehouse."""
    upto = [row.digest for row in rows if row.digest.version <= check.leaf.version]
    last = max((digest.version for digest in upto), default=0)
    if last < check.leaf.version:
        return check._replace(found="shortened", actual=max((row.digest.version for row in rows), default=0))
    hashes = [(digest.version, digest.event_hash) for digest in upto if digest.event_hash is not None]
    event_hash = max(hashes, key=lambda pair: pair[0])[1] if hashes else None
    return check._replace(found="same" if event_hash == check.leaf.event_hash else "rewritten")
