"""The relay: a store's rows go to a warehouse in the order they were committed, each exactly once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from ledger.errors import ConfigurationError
from ledger.warehouse.base import RelayedWarehouse

#: Rows in one batch: large enough that a batch's fixed cost is small, small enough to hold in memory.
BATCH_ROWS = 50_000


class Source(Protocol):
    """What the relay needs of a store."""

    @property
    def store_id(self) -> str:
        """The identity of the store; a checkpoint belongs to it."""
        ...

    def rows_after(self, seq: int, limit: int) -> Sequence[tuple[Any, ...]]:
        """About ``limit`` rows beyond ``seq`` in order, never part of an event; see ``EventStore.rows_after``.

        Called from a thread of the relay's own, one call at a time.
        """
        ...


def catch_up(
    source: Source,
    warehouse: RelayedWarehouse,
    *,
    batch_rows: int = BATCH_ROWS,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Bring to the warehouse what the store has recorded since the last time.

    Each batch and the checkpoint behind it are one transaction: whatever interrupts, the next call goes on where the
    last batch ended. Two relays of one store at once are safe: where entering the warehouse holds it, the second goes
    on where the first ended, and where it does not, one of them is refused.

    Args:
        source: The store.
        warehouse: Where its rows go; its checkpoint for the store says from where.
        batch_rows: Rows to ask the store for at a time.
        progress: Called after each batch with the number of rows sent so far.

    Returns:
        The number of rows sent.

    Raises:
        StoreUnavailable: The warehouse cannot take rows now; batches before this one are there.
        StoreRejected: Another relay moved the checkpoint; nothing of this batch was added.
        ConfigurationError: The store no longer has what it sent last: it was restored from a backup. Nothing was added.
    """
    sent = 0
    checkpoint = warehouse.checkpoint(source.store_id)
    if checkpoint and not _continues(source, warehouse, checkpoint):
        raise ConfigurationError(
            f"The warehouse has rows of store {source.store_id} that the store itself has not: it was restored from a "
            "backup since. Make the warehouse anew from the store; a DuckDB file need only be moved away."
        )
    rows = source.rows_after(checkpoint, batch_rows)
    if not rows:  # the ordinary case before a query: the warehouse need not be opened for writing
        return 0
    # The store reads the next batch while the warehouse, which works outside Python, takes the present one.
    with warehouse, ThreadPoolExecutor(1, thread_name_prefix="ledger-relay") as reader:
        now = warehouse.checkpoint(source.store_id)
        if now != checkpoint:  # another relay had the warehouse while this one waited for it
            checkpoint, rows = now, source.rows_after(now, batch_rows)
        while rows:
            following = reader.submit(source.rows_after, rows[-1][0], batch_rows)
            checkpoint = warehouse.ingest(source.store_id, rows, after=checkpoint)
            sent += len(rows)
            if progress is not None:
                progress(sent)
            rows = following.result()
    return sent


def _continues(source: Source, warehouse: RelayedWarehouse, checkpoint: int) -> bool:
    """Whether the store still has the row at the checkpoint, and it is the one that the warehouse has."""
    rows = source.rows_after(checkpoint - 1, 2)  # of two, the one that may be cut is left out
    if not rows or rows[0][0] != checkpoint:
        return False
    event = {"session_id": rows[0][1], "event_id": rows[0][3]}
    found = "SELECT 1 AS found FROM session_events WHERE session_id = @session_id AND event_id = @event_id LIMIT 1"
    return bool(warehouse.query(found, event).rows)
