"""What lists and statistics show of an analysis session: its summary, and what it amounts to.

Any program may record what it likes in a session of the ledger. Here a part that does not fit is shown as text, or as
nothing at all, and never keeps the sessions beside it from being read.
"""

from __future__ import annotations

from datetime import datetime
from typing import Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from ledger.compat.analysis_sessions.models import SessionSummary
from ledger.compat.analysis_sessions.slots import METRICS, asked_at, assets_of, session_of
from ledger.model.session import Session as Recorded


class SessionMetrics(BaseModel):
    """What one session amounts to.

    Attributes:
        ended_at: When something was last recorded in it, or its time was over.
        duration_seconds: From its beginning to its last query or change; waiting to expire does not count.
        status: As it was when this was worked out.
        abandoned: Whether it expired, and nobody had said that it was completed or had failed.
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
        """The metrics that were recorded with a session; None also where something else is kept under that name."""
        try:
            return cls.model_validate(recorded.attributes.get(METRICS))
        except ValidationError:
            return None

    @classmethod
    def of(cls, recorded: Recorded) -> Self:
        """The metrics of a session; of one that is over, those that were recorded then."""
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
    """What a list shows of a session; of one that is in the warehouse alone, metrics say how many queries it had.

    Raises:
        InvalidInput: It has no type that an analysis session can have.
    """
    summary = SessionSummary.from_session(session_of(recorded))
    metrics = SessionMetrics.kept(recorded)
    if summary.is_archived and not recorded.queries and metrics is not None:
        summary.total_queries = metrics.total_queries
        summary.cache_hit_rate = metrics.cache_hit_rate
    return summary


def _last_activity(recorded: Recorded) -> datetime:
    """When something was last done in a session; that its time was over is no doing."""
    if recorded.status != "expired":
        return recorded.updated_at
    began = recorded.created_at
    return max([began, *(asked_at(value or {}, began) for value in recorded.queries.values())])
