"""Verification: whether the stored sessions are what was recorded."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

from ledger.errors import CapabilityMissing
from ledger.model.findings import Verification
from ledger.model.seals import Seal
from ledger.sdk.seals import Seals
from ledger.stores.base import verifying_store
from ledger.stores.user_view import UserView


class Verifying(Seals):
    """Verification of sessions against their hash chains."""

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
        checked too. What a file cannot show by itself is not found: a session whose last events, or all of them, were
        deleted together with everything derived from them, and a chain that was computed again as a whole. A seal from
        before shows these too; see ``seal``.

        Args:
            session_ids: The sessions; all if none is given.
            against: Also compare the sessions with a seal: each must still have the events that were sealed. Give a
                seal; ``latest`` or a seal's id, for one in the ledger; ``warehouse:latest`` or ``warehouse:`` and an
                id, for one in the warehouse; the root of one; or the path of a file that ``seal`` wrote.
            rebuild: If true, compute states, heads and the search index again where they differ from the events.
                Events are never changed. A session whose events are not what was recorded is left as it is, since the
                state may be the better witness.
            progress: Called with the number of rows read since the last call.

        Returns:
            The findings, and what was verified. Its ``clean`` is true if nothing is wrong.

        Raises:
            SessionNotFound: The ledger has nothing of a named session, and ``against`` does not cover it either.
            InvalidInput: There is no such seal, its file is damaged, or it is a seal of another ledger.
            ConfigurationError: The seal is to be taken from a warehouse, and none is attached.
            StoreUnavailable: The warehouse cannot be reached, and the seal is there, or archived sessions of it are.
            OSError: The seal's file cannot be read.
            CapabilityMissing: The ledger is in BigQuery.
            PermissionDenied: This is the view of one user.
        """
        if isinstance(self.store, UserView):
            raise self.store.everybodys("verify")
        store = verifying_store(self.store)
        if store is None:
            raise CapabilityMissing(
                "A ledger in BigQuery cannot be verified in place. Verify the SQLite file that ships to it and compare "
                "the two with `ledger reconcile`, or import an export of it into a file, which verifies its chains."
            )
        if against is None:
            return store.verify(session_ids or None, rebuild=rebuild, progress=progress)
        from ledger.sdk.against import compare

        compared = compare(self._sealing("verify"), self._warehouse, against, only=set(session_ids) or None)
        gone = {finding.session_id for finding in compared.findings if finding.code == "sealed_missing"}
        there = [each for each in session_ids if each not in gone.union(compared.against.purged)]
        result = Verification(0, 0, 0, 0)
        if there or not session_ids:
            result = store.verify(there or None, rebuild=rebuild, progress=progress)
        return replace(
            result,
            findings=(*result.findings, *compared.findings),
            omitted=result.omitted + compared.omitted,
            against=compared.against,
        )
