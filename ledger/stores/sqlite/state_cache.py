"""A cache of the latest states.

Each read compares the cached head with the stored head, so it never returns a stale state.
"""

from __future__ import annotations

import sqlite3
from types import MappingProxyType

from ledger.model.fold import State
from ledger.model.session import Head
from ledger.stores.sqlite import read
from ledger.stores.sqlite.rows import HeadRow, head_of

#: Maximum number of cached states, and maximum size of one state in characters. The oldest states are evicted first.
CACHED_STATES, CACHED_CHARACTERS = 256, 100_000


class StateCache:
    """Cache of the latest states of some sessions, without messages. Any number of threads may share one cache."""

    def __init__(self) -> None:
        self._states: dict[str, tuple[HeadRow, Head, State]] = {}

    def latest(self, connection: sqlite3.Connection, session_id: str) -> tuple[Head, State] | None:
        """Return a session's latest state, from the cache if the head is unchanged; None if there is no such session.

        Raises:
            SessionArchived: The session's rows are only in a warehouse.
        """
        cached = self._states.get(session_id)
        if cached is not None and connection.execute(read.HEAD, (session_id,)).fetchone() == cached[0]:
            return cached[1], cached[2]
        latest = read.latest(connection, session_id, with_messages=False)
        if latest is None:
            self._states.pop(session_id, None)
            return None
        row, state = latest[0], MappingProxyType(latest[1])  # read-only, as callers share it
        head = head_of(session_id, row)
        if sum(len(value.text or "") for value in state.values()) <= CACHED_CHARACTERS:
            self._states[session_id] = (row, head, state)
            for oldest in list(self._states)[: max(0, len(self._states) - CACHED_STATES)]:
                self._states.pop(oldest, None)
        return head, state

    def clear(self) -> None:
        """Evict all states."""
        self._states.clear()
