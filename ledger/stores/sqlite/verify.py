"""The part of ``SqliteStore`` that verifies sessions."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from ledger.errors import CorruptEvent, SessionNotFound
from ledger.model.events import RecordedEvent
from ledger.model.findings import Finding, Verification
from ledger.model.integrity import verify
from ledger.model.upcast import Upcaster
from ledger.stores.base import MAX_FINDINGS
from ledger.stores.sqlite import read


class SqliteVerification:
    """The part of ``SqliteStore`` that verifies sessions."""

    path: Path
    store_id: str
    _upcast: Upcaster
    _run: Callable[[Callable[[sqlite3.Connection], Any]], Any]
    _reader: Callable[[], AbstractContextManager[sqlite3.Connection]]

    def verify(
        self,
        session_ids: Collection[str] | None = None,
        *,
        rebuild: bool = False,
        limit: int = MAX_FINDINGS,
        progress: Callable[[int], object] | None = None,
    ) -> Verification:
        """Verify sessions; see ``VerifyingStore.verify``."""
        findings: list[Finding] = []
        count = unchained = 0
        with self._reader() as connection:
            ids = session_ids or [
                row[0] for row in connection.execute("SELECT session_id FROM session_heads WHERE store_id <> ''")
            ]
            for session_id in ids:
                events: list[RecordedEvent] = list(
                    read.events(connection, session_id, after=0, limit=10_000, upcast=None)
                )
                if not events:
                    raise SessionNotFound(f"There is no session {session_id}.", session_id=session_id)
                count += len(events)
                unchained += sum(event.event_hash is None for event in events)
                try:
                    verify(events)
                except CorruptEvent as error:
                    findings.append(Finding(session_id, error.version, "event", str(error)))
        return Verification(len(ids), count, unchained, 0, tuple(findings[:limit]), len(findings[limit:]))
