"""Archived sessions that a warehouse lacks because their rows were dropped before the ledger shipped to it.

Queries of such a warehouse do not have these sessions. Nothing is lost: an earlier warehouse has the rows.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from ledger.stores.base import ArchivedElsewhere, OutboxStore
from ledger.warehouse.duckdb.creation import absence
from ledger.warehouse.urls import duckdb_file

log = logging.getLogger("ledger.store")
_WARNED: set[tuple[Path, str]] = set()


def warn(store: OutboxStore, warehouse: str) -> None:
    """Log a warning if a warehouse lacks archived sessions of a store; once per process, file and warehouse."""
    if (store.path, warehouse) in _WARNED:
        return
    _WARNED.add((store.path, warehouse))
    for said, remedy, _ in said_of(store.archived_elsewhere(warehouse), warehouse):
        log.warning("%s %s `ledger status` lists them.", said, remedy)


def said_of(found: Sequence[ArchivedElsewhere], warehouse: str) -> list[tuple[str, str, list[str]]]:
    """Return what is said of the archived sessions that a warehouse lacks, once for each warehouse that has some.

    Returns:
        The sentence that says it, the one that says what to do, and the ids of the sessions.
    """
    told = []
    by_holder = sorted(found, key=lambda each: (each.warehouses[0], each.session_id))
    for holder, of_holder in groupby(by_holder, key=lambda each: each.warehouses[0]):
        session_ids = [each.session_id for each in of_holder]
        is_one = len(session_ids) == 1
        sessions = "1 archived session is" if is_one else f"{len(session_ids):,} archived sessions are"
        hydrate = f"`ledger hydrate SESSION_ID --warehouse {shlex.quote(holder)}`"
        said = f"{sessions} only in {holder}, so that queries of {warehouse} do not have {'it' if is_one else 'them'}."
        remedy = f"Bring {'it' if is_one else 'each'} back with {hydrate}, and archive it again if you like."
        file = duckdb_file(holder)
        if file is not None and absence(file):
            moved = f"`ledger warehouse moved {shlex.quote(holder)} {shlex.quote(warehouse)}`"
            remedy = f"That file is not there: put it back, or if it was moved, type: {moved}."
        told.append((said, remedy, session_ids))
    return told
