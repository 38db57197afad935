"""The protocols of event stores. ``ledger.stores.sqlite.store`` holds the embedded store.

Every store implements ``EventStore``. Each further protocol belongs to a flag of ``Capabilities``, and a store that
declares the flag has the protocol's methods. For each of these protocols a function such as ``outbox_store`` checks
the flag. It returns the store as that protocol, or None if the store does not declare the flag.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

from ledger.model.findings import Verification
from ledger.model.seals import Leaf, LeafCheck, Seal
from ledger.stores.event_store import MAX_BYTES, Capabilities, EventStore

if TYPE_CHECKING:  # protocols are slow to create, and most programs need only EventStore
    from ledger.outbox.comparison import StoreOutbox
    from ledger.outbox.row_digests import SessionKey
    from ledger.warehouse.base import Warehouse

__all__ = [
    "MAX_BYTES",
    "MAX_FINDINGS",
    "ArchivedElsewhere",
    "ArchivingStore",
    "Capabilities",
    "EventStore",
    "Forgotten",
    "OutboxStore",
    "PendingDeletion",
    "PurgingStore",
    "SealingStore",
    "TieredStore",
    "VerifyingStore",
    "Waiting",
    "WarehouseStore",
    "archiving_store",
    "outbox_store",
    "purging_store",
    "sealing_store",
    "tiered_store",
    "verifying_store",
    "warehouse_store",
]

#: Default of ``limit``, the maximum number of findings of one verification.
MAX_FINDINGS = 1000


class Forgotten(NamedTuple):
    """The result of ``OutboxStore.forget_warehouse``.

    Attributes:
        warehouse: The warehouse's URL.
        waiting_rows: Number of rows that waited to be shipped there.
        deletions: Number of purged sessions that were to be deleted there.
        archived: Number of archived sessions whose rows may be only in this warehouse.
    """

    warehouse: str
    waiting_rows: int
    deletions: int
    archived: int


class ArchivedElsewhere(NamedTuple):
    """An archived session whose rows a warehouse lacks: the store had dropped them before it shipped to it.

    Attributes:
        session_id: The session.
        warehouses: URLs of the warehouses that have its rows; at least one.
    """

    session_id: str
    warehouses: tuple[str, ...]


class Unreconciled(NamedTuple):
    """A warehouse that may have events which the store lacks, because its file was replaced by a backup.

    Attributes:
        warehouse: URL of the warehouse.
        created_from: Only sessions that were created at this time or later may lack events.
    """

    warehouse: str
    created_from: datetime


class OutboxStore(EventStore, Protocol):
    """Protocol of stores that declare ``outbox``: the store is a file, and relays ship its rows to warehouses."""

    @property
    def path(self) -> Path:
        """The absolute path of the store's file."""
        ...

    def outbox(self, warehouse: str) -> StoreOutbox:
        """Return the store's side of the relay to one warehouse.

        Args:
            warehouse: The warehouse's URL, as ``Sink.url`` gives it.
        """
        ...

    def own_files(self) -> list[Path]:
        """Return the store's files, and the DuckDB files beside it and shipped to, with their logs. Some may not exist.

        Commands that write a file, such as an export, must refuse these paths.
        """
        ...

    def ids_with(self, part: str, *, limit: int) -> list[str]:
        """Return the ids of at most ``limit`` sessions that begin or end with a part; only the id itself if it is one.

        Deleted sessions are included.
        """
        ...

    def warehouses(self) -> list[str]:
        """Return the URLs of the warehouses that may have rows of this store."""
        ...

    def archived_in(self, warehouse: str, *, alone: bool = False) -> int:
        """Return the number of archived sessions whose rows the store has dropped and a warehouse has, or may have.

        Args:
            warehouse: The warehouse's URL; the result is 0 if the store does not ship to it.
            alone: True to count only sessions that no other warehouse of the store is known to have.
        """
        ...

    def archived_elsewhere(self, warehouse: str) -> list[ArchivedElsewhere]:
        """Return the archived sessions whose rows are in other warehouses only, ordered by id.

        These are sessions whose rows the store had dropped before it shipped to this warehouse.

        Args:
            warehouse: The warehouse's URL, as ``Sink.url`` gives it.
        """
        ...

    def unreconciled(self) -> list[Unreconciled]:
        """Return the warehouses with which the store was not reconciled since a backup took the place of its file."""
        ...

    def forget_warehouse(self, warehouse: str, *, even_if_needed: bool = False) -> Forgotten:
        """Forget a warehouse, so that no session waits for it any more. The warehouse itself is not changed.

        A relay that ships to it again later starts from the first row, and sends only what the warehouse lacks.

        Args:
            warehouse: The warehouse's URL, as ``Sink.url`` gives it.
            even_if_needed: Forget it even if archived sessions may have their rows only there, or purged sessions must
                still be deleted there.

        Raises:
            InvalidInput: The store does not ship to this warehouse.
            LeaseHeld: A relay ships to it at this moment.
            StoreRejected: The warehouse is still needed, and ``even_if_needed`` is False.
        """
        ...

    def rename_warehouse(self, former: str, present: str) -> None:
        """Record a warehouse under another URL, because its file was moved. The warehouse itself is not read.

        If the store has shipped to it under the other URL too, the checkpoint and the dead letters there stay.

        Args:
            former: The URL under which the store knows the warehouse.
            present: The URL under which it is to know it.

        Raises:
            LeaseHeld: A relay ships to one of the two at this moment.
        """
        ...


class ArchivingStore(EventStore, Protocol):
    """Protocol of stores that declare ``archive``: the store can tell if a session may be archived."""

    def check_shippable(self, session_id: str) -> None:
        """Raise StoreRejected if the session cannot be archived because a warehouse refused some of its rows."""
        ...


class PendingDeletion(NamedTuple):
    """A session that was purged in a store and must still be deleted in a warehouse.

    Attributes:
        key: The session's id and creation time.
        version: The version of the session's last event in the store.
    """

    key: SessionKey
    version: int


class Waiting(NamedTuple):
    """A session whose retention waits for a warehouse: its rows cannot be dropped, purged or deleted there yet.

    Attributes:
        session_id: The session.
        status: Its recorded status: ``expired``, ``archived`` or ``deleted``; ``purged`` for ``deletion``.
        warehouse: URL of the warehouse.
        waits_for: ``shipping`` (rows must be shipped), ``redrive`` (the warehouse refused rows), ``dropping`` (the rows
            were shipped, and ``drop_archived`` with this warehouse has not dropped them yet) or ``deletion`` (the
            session was purged, and must still be deleted in the warehouse).
        since: When the oldest waiting row was recorded, refused or, for ``dropping``, the session changed last; for
            ``deletion``, when the session was purged. None if it was purged by an earlier release.
        updated_at: When the session changed last; None if it was purged.
    """

    session_id: str
    status: str
    warehouse: str
    waits_for: str
    since: datetime | None
    updated_at: datetime | None


class PurgingStore(EventStore, Protocol):
    """Protocol of stores that declare ``purge``: the store can purge sessions."""

    def recorded(self, session_id: str) -> tuple[int, str | None] | None:
        """Return the version and the recorded status of a session; None if the store does not have it.

        Of an archived session whose rows were dropped, the store knows both, and no warehouse is read.
        """
        ...

    def purge(self, session_id: str, version: int) -> bool:
        """Delete everything that the store holds of a session, including its tombstone, in one transaction.

        For each warehouse that it has shipped to, the store records that the session must still be deleted there; see
        ``pending_deletions``.

        Returns:
            True if the session was deleted. False if it does not exist, is not at ``version``, or has rows that must
            still be shipped, or dead letters that are neither dismissed nor of a day that the warehouse has dropped.
        """
        ...

    def forget_purged(self) -> None:
        """Remove the words of deleted texts from the store's search index. Call it after the last of several purges.

        The store's own searches do not find these words, but its file may still contain them.
        """
        ...

    def pending_deletions(self) -> list[PendingDeletion]:
        """Return the purged sessions that a warehouse must still delete, oldest first.

        A session is returned once for each warehouse that must delete it.
        """
        ...

    def waiting(self) -> list[Waiting]:
        """Return the expired, archived, deleted and purged sessions whose retention waits for a warehouse."""
        ...


class VerifyingStore(EventStore, Protocol):
    """Protocol of stores that declare ``verify``: the store can compare its data with what was recorded."""

    def verify(
        self,
        session_ids: Collection[str] | None = None,
        *,
        rebuild: bool = False,
        limit: int = MAX_FINDINGS,
        progress: Callable[[int], object] | None = None,
    ) -> Verification:
        """Verify sessions: their events against the hash chain, and everything derived from events.

        Args:
            session_ids: The sessions; None for all sessions and for the store itself.
            rebuild: Compute wrong derived data again. Events are never changed. If a session's events are not what was
                recorded, nothing of the session is changed.
            limit: Maximum number of findings in the result.
            progress: Called with the number of rows read since the last call.

        Raises:
            SessionNotFound: The store does not know one of the sessions.
        """
        ...


class TieredStore(EventStore, Protocol):
    """Protocol of stores that declare ``tiered``: the store has a warehouse, which holds its archived sessions."""

    def drop_archived(self, session_ids: Collection[str] | None = None) -> int:
        """Drop the rows of each archived session, if the warehouse has every row of that session.

        Args:
            session_ids: Only these sessions; None for all.

        Returns:
            The number of sessions whose rows were dropped. If rows of a session have not arrived in the warehouse yet,
            a later call drops them.

        Raises:
            StoreUnavailable: The warehouse cannot be reached; some sessions may have been dropped.
        """
        ...

    def rehydrate(self, session_id: str) -> int:
        """Restore a session's rows from the warehouse, unless the store holds them.

        Returns:
            The number of events restored; 0 if the store holds the rows already, or the session does not exist.

        Raises:
            StoreUnavailable: The warehouse cannot be reached; nothing was written.
            CorruptEvent, StoreRejected: The warehouse lacks the history that this store archived; nothing was written.
        """
        ...

    def purge_warehouse(self) -> int:
        """Delete from the warehouse every session that was purged in the store; return the number deleted.

        Raises:
            StoreUnavailable: The warehouse cannot be reached; the next call deletes the rest.
        """
        ...


class SealingStore(EventStore, Protocol):
    """Protocol of stores that declare ``seals``: the store can seal its sessions; see ``ledger.model.seals``."""

    def seal(self) -> Seal:
        """Seal all sessions as they are now, and keep the seal and its leaves.

        Raises:
            StoreUnavailable: The store is busy or full; no seal was made.
        """
        ...

    def seals(self) -> list[Seal]:
        """Return the seals that the store keeps, oldest first."""
        ...

    def sealed(self, seal_id: str) -> Iterator[Leaf]:
        """Return the leaves that the store keeps of a seal, sorted by session; none if it does not have the seal."""
        ...

    def compare_sealed(self, leaves: Sequence[Leaf]) -> list[LeafCheck]:
        """Compare sealed sessions with what the store holds now.

        For each session, only the hash of the event at the sealed version is compared. This hash covers all earlier
        events, and ``ledger.model.integrity.verify`` checks the earlier events against it.

        Args:
            leaves: Some of the leaves of a seal. All leaves of one call are compared with one snapshot of the store.

        Returns:
            One result for each leaf, in the same order.
        """
        ...


class WarehouseStore(EventStore, Protocol):
    """Protocol of stores that declare ``warehouse``: the sessions are in a warehouse, and there is no local file."""

    @property
    def warehouse(self) -> Warehouse:
        """The warehouse; it is open as long as the store is."""
        ...


def outbox_store(store: EventStore) -> OutboxStore | None:
    """Return the store as an ``OutboxStore``; None if it does not declare ``outbox``."""
    return cast(OutboxStore, store) if store.capabilities.outbox else None


def archiving_store(store: EventStore) -> ArchivingStore | None:
    """Return the store as an ``ArchivingStore``; None if it does not declare ``archive``."""
    return cast(ArchivingStore, store) if store.capabilities.archive else None


def purging_store(store: EventStore) -> PurgingStore | None:
    """Return the store as a ``PurgingStore``; None if it does not declare ``purge``."""
    return cast(PurgingStore, store) if store.capabilities.purge else None


def verifying_store(store: EventStore) -> VerifyingStore | None:
    """Return the store as a ``VerifyingStore``; None if it does not declare ``verify``."""
    return cast(VerifyingStore, store) if store.capabilities.verify else None


def tiered_store(store: EventStore) -> TieredStore | None:
    """Return the store as a ``TieredStore``; None if it does not declare ``tiered``."""
    return cast(TieredStore, store) if store.capabilities.tiered else None


def sealing_store(store: EventStore) -> SealingStore | None:
    """Return the store as a ``SealingStore``; None if it does not declare ``seals``."""
    return cast(SealingStore, store) if store.capabilities.seals else None


def warehouse_store(store: EventStore) -> WarehouseStore | None:
    """Return the store as a ``WarehouseStore``; None if it does not declare ``warehouse``."""
    return cast(WarehouseStore, store) if store.capabilities.warehouse else None
