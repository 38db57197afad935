"""Verification that the stored sessions are what was recorded."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

from ledger.model.findings import Verification
from ledger.model.seals import Seal
from ledger.sdk.seals import Seals
from ledger.stores.base import verifying_store


class Verifying(Seals):
    """Mixin class: verification of sessions against their hash chains and against a seal."""

    def verify(
        self,
        *session_ids: str,
        against: Seal | str | os.PathLike[str] | None = None,
        rebuild: bool = False,
        progress: Callable[[int], object] | None = None,
    ) -> Verification:
        """Verify that stored sessions are what was recorded. Writers may append meanwhile.

        Each event is verified against the hash chain of its session. The state, the head and the entries of the search
        index are compared with the events. If no session is named, the file itself and the position of each relay are
        checked too.

        Some tampering is found only with an earlier seal (``against``): if the last events of a session, or the whole
        session, were deleted together with everything derived from them, or if events were changed and the whole hash
        chain was computed again.

        Args:
            session_ids: The sessions; all if none is given.
            against: A seal. Each session must still have the events that it had when the seal was made. Pass a
                ``Seal``, the root of a seal, or the path of a file that ``seal`` wrote. A seal in the ledger is named
                ``latest`` or by its id. A seal in the warehouse is named ``warehouse:latest`` or ``warehouse:`` and
                its id.
            rebuild: If true, compute states, heads and the search index again where they differ from the events.
                Events are never changed. A session whose events were changed is left as it is, since its state may
                still have the right values.
            progress: Called with the number of rows read since the last call.

        Returns:
            The findings, and what was verified. ``clean`` is true if every finding was mended, or there are none.

        Raises:
            SessionNotFound: A named session is neither in the ledger nor in the seal.
            InvalidInput: There is no such seal, the seal's file is damaged, or the seal belongs to another ledger.
            ConfigurationError: ``against`` names a seal in the warehouse, but no warehouse is attached.
            StoreUnavailable: The seal or an archived session is in the warehouse, which cannot be reached.
            OSError: The seal's file cannot be read.
            CapabilityMissing: The ledger is in BigQuery.
            PermissionDenied: The ledger was returned by ``for_user``.
        """
        store = self._for_all_users(
            "verify",
            verifying_store,
            "A ledger in BigQuery cannot be verified in place. Verify the SQLite file that ships to it and compare "
            "the two with `ledger reconcile`, or import an export of it into a file, which verifies its chains.",
        )
        if against is None:
            return store.verify(session_ids or None, rebuild=rebuild, progress=progress)
        from ledger.sdk.against import compare

        compared = compare(self._sealing("verify"), self._warehouse, against, only=set(session_ids) or None)
        there = [each for each in session_ids if each not in compared.gone]
        result = Verification(0, 0, 0, 0)
        if there or not session_ids:
            result = store.verify(there or None, rebuild=rebuild, progress=progress)
        return replace(
            result,
            findings=(*result.findings, *compared.findings),
            omitted=result.omitted + compared.omitted,
            against=compared.against,
        )
