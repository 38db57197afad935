"""Verification: whether the stored sessions are what was recorded."""

from __future__ import annotations

from collections.abc import Callable

from ledger.errors import CapabilityMissing
from ledger.model.findings import Verification
from ledger.sdk.command_base import CommandBase
from ledger.stores.base import verifying_store
from ledger.stores.user_view import UserView


class Verifying(CommandBase):
    """Verification of sessions against their hash chains."""

    def verify(
        self, *session_ids: str, rebuild: bool = False, progress: Callable[[int], object] | None = None
    ) -> Verification:
        """Verify that stored sessions are what was recorded. Writers may append meanwhile.

        Each event is verified against the hash chain of its session. The state, the head and the entries of the search
        index are compared with the events. If no session is named, the file itself and the position of each relay are
        checked too. What a file cannot show by itself is not found: a session whose last events, or all of them, were
        deleted together with everything derived from them, and a chain that was computed again as a whole.

        Args:
            session_ids: The sessions; all if none is given.
            rebuild: If true, compute states, heads and the search index again where they differ from the events.
                Events are never changed. A session whose events are not what was recorded is left as it is, since the
                state may be the better witness.
            progress: Called with the number of rows read since the last call.

        Returns:
            The findings, and what was verified. Its ``clean`` is true if nothing is wrong.

        Raises:
            SessionNotFound: The ledger has nothing of a named session.
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
        return store.verify(session_ids or None, rebuild=rebuild, progress=progress)
