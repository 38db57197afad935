"""The process-wide session store, and query tracking for tools."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ledger import forking
from ledger.compat.analysis_sessions.models import QueryRecord, validated
from ledger.compat.analysis_sessions.store import SessionStore
from ledger.sdk.aio import AsyncSessionLedger
from ledger.sdk.ledger import SessionLedger

_guard = forking.Guard()
_only: SessionStore | None = None


def get_session_store(db: SessionLedger | AsyncSessionLedger | str | None = None) -> SessionStore:
    """Return the process-wide store, which the first call creates. To open its ledger at once, await the store.

    Args:
        db: A ledger or its URL; defaults to the ledger that the environment names. Calls after the first ignore it.
    """
    global _only
    with _guard.lock:
        if _only is None:
            _only = SessionStore(db)
        return _only


async def close_session_store() -> None:
    """Close the process-wide store. The next call of ``get_session_store`` creates another."""
    global _only
    with _guard.lock:
        store, _only = _only, None
    if store is not None:
        await store.close()


async def track_query_in_session(
    session_id: str | None,
    query_type: str,
    parameters: Mapping[str, Any] | None = None,
    result_summary: Any = None,
    cache_hit: bool = False,
    execution_time_ms: float | None = None,
    *,
    store: SessionStore | None = None,
) -> QueryRecord | None:
    """Record a query in the session ``session_id``. Tools whose ``session_id`` is optional can pass None.

    Args:
        store: Defaults to the process-wide store.

    Returns:
        The recorded query. If ``session_id`` is None, nothing is recorded, and None is returned.

    Raises:
        SessionNotFound, SessionEnded, TooManyQueries, InvalidInput: The query cannot be recorded; nothing was written.
    """
    if session_id is None:
        return None
    values = {
        "query_type": query_type,
        "parameters": {} if parameters is None else parameters,
        "result_summary": result_summary,
        "cache_hit": cache_hit,
        "execution_time_ms": execution_time_ms,
    }
    query = validated(QueryRecord, values)
    await (store or get_session_store()).track_query(session_id, query)
    return query
