"""The local tier: the protocol of the store on this machine; ``SqliteStore`` implements it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Protocol, cast

from ledger.errors import CapabilityMissing
from ledger.model.events import RecordedEvent
from ledger.stores.archived import Droppable
from ledger.stores.base import ArchivingStore, EventStore, OutboxStore, PendingDeletion, PurgingStore


class LocalTier(OutboxStore, ArchivingStore, PurgingStore, Protocol):
    """A store that ships its rows, and drops those of archived sessions once a warehouse has them."""

    def droppable(self, warehouse: str, session_ids: Collection[str] | None = None) -> list[Droppable]:
        """Return the archived sessions whose rows may be dropped, oldest first.

        Args:
            warehouse: The warehouse's URL.
            session_ids: Only these sessions; None for all.
        """
        ...

    def drop(self, sessions: Iterable[Droppable], warehouse: str) -> int:
        """Drop the rows of archived sessions, each in one transaction, and keep tombstones.

        A session that changed or was restored meanwhile, or has rows that must still be shipped, is skipped.

        Args:
            sessions: Results of ``droppable`` of which the warehouse is known to have every row.
            warehouse: The warehouse's URL.

        Returns:
            The number of sessions dropped.
        """
        ...

    def restore_history(self, events: Sequence[RecordedEvent], warehouse: str) -> int:
        """Restore a session's rows from a warehouse, all or none; the store owns the session afterwards.

        Args:
            events: The whole history of one session, as the warehouse has it.
            warehouse: The warehouse's URL.

        Returns:
            The number of events restored; 0 if this store owns the session.

        Raises:
            CorruptEvent: It is not the history that was archived here, or the hash chain is broken.
            StoreRejected: The warehouse lacks events that were archived here.
            InvalidInput, IdempotencyConflict: The events are not of one session.
            StoreUnavailable: The store has reached its maximum size, or the session is being purged.
        """
        ...

    def pending_deletions(self, warehouse: str | None = None) -> list[PendingDeletion]:
        """Return the sessions purged here and not yet in a warehouse, or in any; oldest first."""
        ...

    def pending_deletion(self, session_id: str) -> PendingDeletion | None:
        """Return the purged session of this id that a warehouse must still delete; None if there is none."""
        ...

    def deleted(self, sessions: Iterable[PendingDeletion], warehouse: str) -> None:
        """Record that a warehouse has deleted sessions."""
        ...


def local_tier(store: EventStore) -> LocalTier:
    """Return a store as the first of two tiers.

    Raises:
        CapabilityMissing: The store ships to no warehouse, or has a warehouse behind it already.
    """
    capabilities = store.capabilities
    if capabilities.outbox and capabilities.archive and capabilities.purge and not capabilities.tiered:
        return cast(LocalTier, store)
    raise CapabilityMissing("This ledger is stored in a warehouse; only a ledger in a SQLite file ships to one.")
