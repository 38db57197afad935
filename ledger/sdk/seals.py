"""Making and listing seals. A seal is a Merkle root over a ledger, which shows later whether history was rewritten."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ledger.model.seals import Seal
from ledger.sdk.command_base import CommandBase
from ledger.stores.base import SealingStore, sealing_store


class Seals(CommandBase):
    """Mixin class: sealing the ledger, and listing its seals."""

    def seal(self, *, output: str | os.PathLike[str] | None = None, command: str | Sequence[str] | None = None) -> Seal:
        """Seal the ledger: record a Merkle root over the heads of all sessions.

        ``verify(against=...)`` later finds each sealed session whose history was rewritten, shortened or removed. The
        seal is recorded in the ledger and, if a warehouse is attached, in the warehouse, together with earlier seals
        that the warehouse lacks. Other writers may append meanwhile. The seal does not cover later appends.

        Args:
            output: Path of a file to write with the seal and its leaves. An existing file is refused. Keep the file
                where those who can write to the ledger cannot change it.
            command: A program and its arguments, as a list, or as text that is split as by a shell. No shell is run.
                The program gets the seal, without its leaves, as one line of JSON on its standard input.

        Returns:
            The seal.

        Raises:
            WitnessFailed: The seal is recorded in the ledger, but the file or the warehouse could not be written, or
                the command failed. The error's ``seal`` is the seal.
            InvalidInput: The command is empty, or ``output`` exists already or is a file of the ledger or of its
                warehouse; no seal was made.
            StoreUnavailable, StoreRejected: No seal was made.
            CapabilityMissing: The ledger is in BigQuery.
            PermissionDenied: The ledger was returned by ``for_user``.
        """
        from ledger.sdk.witnesses import Witnesses

        store = self._sealing("seal")
        witnesses = Witnesses.of(store, output, self._warehouse, command)
        seal = store.seal()
        witnesses.tell(seal)
        return seal

    def seals(self) -> list[Seal]:
        """Return the seals that are recorded in the ledger, oldest first.

        Raises:
            CapabilityMissing: The ledger is in BigQuery.
            PermissionDenied: The ledger was returned by ``for_user``.
        """
        return self._sealing("seals").seals()

    def _sealing(self, call: str) -> SealingStore:
        """Return the store as a ``SealingStore``; see ``_for_all_users``."""
        return self._for_all_users(
            call,
            sealing_store,
            "A ledger in BigQuery cannot be sealed. Record sessions in a SQLite file, which can ship its rows to "
            "BigQuery, and seal that file.",
        )
