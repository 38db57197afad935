"""The protocol of the local tier, which is the store on this machine. ``SqliteStore`` implements it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Protocol, cast

from ledger.errors import CapabilityMissing
from ledger.model.events import RecordedEvent
from ledger.model.prices import ModelPrice
from ledger.stores.archived import Droppable
from ledger.stores.base import (
    ArchivingStore,
    EventStore,
    OutboxStore,
    PendingDeletion,
    PurgingStore,
    SealingStore,
    VerifyingStore,
)


class PriceListStore(Protocol):
    """A store that keeps a price list of language models, for its own views and for those of its warehouses."""

    def model_prices(self) -> list[ModelPrice]:
        """Return the price list, sorted by model, provider and first day."""
        ...

    def import_model_prices(self, prices: Iterable[ModelPrice], *, replace: bool = False) -> None:
        """Add prices to the list, all or none. A price of the same model, provider and first day is replaced.

        Args:
            prices: The prices.
            replace: True to remove all others.

        Raises:
            InvalidInput: Two of the prices have the same key.
        """
        ...


class LocalTier(OutboxStore, ArchivingStore, PurgingStore, VerifyingStore, SealingStore, PriceListStore, Protocol):
    """A store that ships its rows to warehouses. It can drop an archived session's rows once they are shipped."""

    def droppable(self, warehouse: str, session_ids: Collection[str] | None = None) -> list[Droppable]:
        """Return the archived sessions whose rows have been shipped to every warehouse of the store, oldest first.

        Args:
            warehouse: The URL of the warehouse that will keep the rows. It must be a warehouse that the store ships to.
            session_ids: Only these sessions; None for all.
        """
        ...

    def drop(self, sessions: Iterable[Droppable], warehouse: str) -> int:
        """Drop the rows of archived sessions and keep tombstones, in one transaction per session.

        A session is skipped if it has changed since ``droppable`` returned it, or has rows that must still be shipped.

        Args:
            sessions: Results of ``droppable``. The warehouse must be known to have every row of these sessions.
            warehouse: The warehouse's URL.

        Returns:
            The number of sessions dropped.
        """
        ...

    def restore_history(self, events: Sequence[RecordedEvent], warehouse: str) -> int:
        """Write a session's rows from a warehouse into the store, all or none. The store holds the session afterwards.

        Args:
            events: The whole history of one session, as the warehouse has it.
            warehouse: The warehouse's URL.

        Returns:
            The number of events restored; 0 if the store holds the session's rows already.

        Raises:
            StoreRejected: An event that this store archived is missing from ``events``.
            CorruptEvent: No event is missing, but the events differ from those that this store archived. Or their hash
                chain is broken.
            InvalidInput, IdempotencyConflict: The events are not of one session, or two have the same event_id.
            StoreUnavailable: The store has reached its maximum size, or the session is being purged.
        """
        ...

    def pending_deletions(self, warehouse: str | None = None) -> list[PendingDeletion]:
        """Return the sessions that were purged in this store and must still be deleted in a warehouse, oldest first.

        Args:
            warehouse: The warehouse's URL; None for all warehouses.
        """
        ...

    def pending_deletion(self, session_id: str) -> PendingDeletion | None:
        """Return the purged session of this id that a warehouse must still delete; None if there is none."""
        ...

    def deleted(self, sessions: Iterable[PendingDeletion], warehouse: str) -> None:
        """Record that a warehouse has deleted sessions."""
        ...


def local_tier(store: EventStore) -> LocalTier:
    """Return a store, typed as a ``LocalTier``, after a check that it can be the local tier.

    Raises:
        CapabilityMissing: The store lacks ``outbox``, ``archive`` or ``purge``, or it already consists of two tiers.
    """
    capabilities = store.capabilities
    if capabilities.outbox and capabilities.archive and capabilities.purge and not capabilities.tiered:
        return cast(LocalTier, store)
    raise CapabilityMissing("This ledger is stored in a warehouse; only a ledger in a SQLite file ships to one.")


def price_list_of(store: EventStore) -> PriceListStore | None:
    """Return the store of a SQLite ledger as a ``PriceListStore``, with or without a warehouse; None for any other."""
    capabilities = store.capabilities
    is_local = capabilities.outbox and capabilities.archive and capabilities.purge
    return cast(PriceListStore, store) if is_local else None
