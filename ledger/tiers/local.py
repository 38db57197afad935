"""What two tiers need of the store on this machine; ``SqliteStore`` has it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Protocol, cast

from ledger.errors import CapabilityMissing
from ledger.model.events import RecordedEvent
from ledger.stores.archived import Droppable
from ledger.stores.base import ArchivingStore, EventStore, OutboxStore, PendingDeletion, PurgingStore


class LocalTier(OutboxStore, ArchivingStore, PurgingStore, Protocol):
    """A store that ships its rows, and lets go of those of archived sessions once a warehouse has them."""

    def droppable(self, warehouse: str, session_ids: Collection[str] | None = None) -> list[Droppable]:
        """Return the archived sessions whose rows may be dropped, the oldest first.

        Args:
            warehouse: Its URL.
            session_ids: Only these; all if None.
        """
        ...

    def drop(self, sessions: Iterable[Droppable], warehouse: str) -> int:
        """Drop the rows of archived sessions, each in one transaction; the store remembers what they were.

        A session that went on or was brought back meanwhile, or whose rows are no longer settled, stays as it is.

        Args:
            sessions: By ``droppable``, once the warehouse is known to have every one of their rows.
            warehouse: Its URL.

        Returns:
            The number of sessions dropped.
        """
        ...

    def restore_history(self, events: Sequence[RecordedEvent], warehouse: str) -> int:
        """Take a session over from a warehouse, all of it or nothing; the store owns it from then on.

        Args:
            events: The whole history of one session, as it is in the warehouse.
            warehouse: Its URL.

        Returns:
            The number of events brought back; 0 if the session is here, owned by this store.

        Raises:
            CorruptEvent: It is not the history that was archived here, or the hash chain is broken.
            StoreRejected: The warehouse lacks events that were archived here.
            InvalidInput, IdempotencyConflict: The events are not of one session.
            StoreUnavailable: There is no room, or the session is being deleted for good.
        """
        ...

    def pending_deletions(self, warehouse: str | None = None) -> list[PendingDeletion]:
        """Return the sessions that were deleted here and not yet in a warehouse, or in any; the oldest first."""
        ...

    def pending_deletion(self, session_id: str) -> PendingDeletion | None:
        """Return the session of this id that was deleted here and is still in a warehouse; None if there is none."""
        ...

    def deleted(self, sessions: Iterable[PendingDeletion], warehouse: str) -> None:
        """Remember that sessions are in a warehouse no more."""
        ...


def local_tier(store: EventStore) -> LocalTier:
    """Return a store as the first of two tiers.

    Raises:
        CapabilityMissing: It is shipped nowhere, or has a warehouse behind it already.
    """
    able = store.capabilities
    if able.outbox and able.archive and able.purge and not able.tiered:
        return cast(LocalTier, store)
    raise CapabilityMissing("This ledger is in its warehouse already; only one in a SQLite file is shipped to one.")
