"""Analysis sessions of several queries, stored in a ledger: a drop-in for an earlier session management package."""

from __future__ import annotations

from ledger.compat.analysis_sessions.analytics import SessionAnalytics
from ledger.compat.analysis_sessions.metrics import SessionMetrics
from ledger.compat.analysis_sessions.models import (
    AnalysisHistory,
    QueryRecord,
    Session,
    SessionState,
    SessionSummary,
    SessionType,
    TooManyQueries,
)
from ledger.compat.analysis_sessions.settings import SessionSettings
from ledger.compat.analysis_sessions.single import close_session_store, get_session_store, track_query_in_session
from ledger.compat.analysis_sessions.store import SessionStore

__all__ = [
    "AnalysisHistory",
    "QueryRecord",
    "Session",
    "SessionAnalytics",
    "SessionMetrics",
    "SessionSettings",
    "SessionState",
    "SessionStore",
    "SessionSummary",
    "SessionType",
    "TooManyQueries",
    "close_session_store",
    "get_session_store",
    "track_query_in_session",
]
