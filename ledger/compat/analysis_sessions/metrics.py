"""The summary and the metrics of an analysis session.

Other programs may record any value in a session. A value of the wrong type is shown as text or left out, so that one
such session does not make a list of sessions fail.
"""

from __future__ import annotations

from datetime import datetime
from typing import Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from ledger.compat.analysis_sessions.models import SessionSummary
from ledger.compat.analysis_sessions.slots import METRICS, assets_of, query_time, session_of
from ledger.model.session import Session as Recorded


class SessionMetrics(BaseModel):
    """Metrics of one session.

    Attributes:
        ended_at: Time of the last recorded event. For an expired session, it is the time of the last query
            instead. For an expired session without queries, it is the creation time.
        duration_seconds: Seconds from ``created_at`` to ``ended_at``.
        status: Status when the metrics were computed.
        abandoned: True if the session expired without being completed or failed.
    """

    model_config = ConfigDict(extra="ignore")

    session_id: str
    user_id: str
    session_type: str
    assets: list[str]
    created_at: AwareDatetime
    ended_at: AwareDatetime
    duration_seconds: float
    total_queries: int
    cache_hits: int
    cache_hit_rate: float
    query_types: dict[str, int]
    average_execution_time_ms: float | None
    status: str
    abandoned: bool

    @classmethod
    def kept(cls, recorded: Recorded) -> Self | None:
        """Return the metrics recorded in a session; None if there are none, or if the recorded value is not metrics."""
        try:
            return cls.model_validate(recorded.attributes.get(METRICS))
        except ValidationError:
            return None

    @classmethod
    def of(cls, recorded: Recorded) -> Self:
        """Return a session's metrics.

        For an archived session, these are the recorded metrics. For a session that has ended in another way, they are
        the recorded metrics if its status and its number of queries are still the same. In all other cases, they are
        computed.
        """
        kept = cls.kept(recorded)
        statistics = recorded.query_statistics
        if kept is not None:
            same = (kept.status, kept.total_queries) == (recorded.status, statistics.total_queries)
            if recorded.status == "archived" or (same and recorded.status != "active"):
                return kept
        ended = _last_activity(recorded)
        return cls(
            session_id=recorded.session_id,
            user_id=recorded.user_id,
            session_type=recorded.session_type or "",
            assets=assets_of(recorded),
            created_at=recorded.created_at,
            ended_at=ended,
            duration_seconds=(ended - recorded.created_at).total_seconds(),
            total_queries=statistics.total_queries,
            cache_hits=statistics.cache_hits,
            cache_hit_rate=statistics.cache_hit_rate,
            query_types=statistics.by_type,
            average_execution_time_ms=statistics.average_execution_time_ms,
            status=recorded.status or "",
            abandoned=recorded.status == "expired",
        )


def summary_of(recorded: Recorded) -> SessionSummary:
    """Return the summary of a session.

    If only the warehouse holds the session's queries, its query statistics are taken from the recorded metrics.

    Raises:
        InvalidInput: The session has a type that analysis sessions do not have.
    """
    summary = SessionSummary.from_session(session_of(recorded))
    metrics = SessionMetrics.kept(recorded)
    if summary.is_archived and not recorded.queries and metrics is not None:
        summary.total_queries = metrics.total_queries
        summary.cache_hit_rate = metrics.cache_hit_rate
    return summary


def _last_activity(recorded: Recorded) -> datetime:
    """Return the time of a session's last event or, if the session is expired, of its last query."""
    if recorded.status != "expired":
        return recorded.updated_at
    created_at = recorded.created_at
    return max([created_at, *(query_time(value or {}, created_at) for value in recorded.queries.values())])
