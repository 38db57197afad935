"""Metrics of single analysis sessions, and statistics over many."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import AsyncIterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ledger.compat.analysis_sessions.metrics import SessionMetrics
from ledger.compat.analysis_sessions.models import Session, SessionType, session_type_of
from ledger.compat.arguments import days_before, user_id_of
from ledger.errors import InvalidInput
from ledger.model.session import Session as Recorded
from ledger.model.values import canonical

if TYPE_CHECKING:
    from ledger.compat.analysis_sessions.store import SessionStore

FORMATS = ("json", "jsonl", "csv")
#: Number of assets in ``top_assets``.
TOP = 10


class SessionAnalytics:
    """Metrics and statistics of analysis sessions.

    Args:
        store: Defaults to the process-wide store.
    """

    def __init__(self, store: SessionStore | None = None) -> None:
        if store is None:
            from ledger.compat.analysis_sessions.single import get_session_store

            store = get_session_store()
        self.store: SessionStore = store

    async def record_session_metrics(self, session: Session | str) -> SessionMetrics | None:
        """Compute a session's metrics and record them as an attribute of the session.

        The metrics remain readable after the session's queries are archived.

        Args:
            session: A session or its id. Metrics are computed from the recorded state, not from unsaved changes.

        Returns:
            The metrics. If ``session_enable_analytics`` is off, nothing is recorded, and None is returned.

        Raises:
            SessionNotFound: The session does not exist.
        """
        return await self.store.record_metrics(session.id if isinstance(session, Session) else session)

    async def get_session_stats(
        self,
        user_id: Any = None,
        session_type: SessionType | str | None = None,
        days: float | None = None,
        *,
        created_from: datetime | None = None,
        created_until: datetime | None = None,
    ) -> dict[str, Any]:
        """Return statistics over the sessions that meet all criteria. Deleted sessions are left out.

        Args:
            user_id: Only sessions of this user.
            session_type: Only sessions of this type.
            days: Only sessions created within the last ``days`` days.
            created_from: Only sessions created at this time or later. It cannot be combined with ``days``.
            created_until: Only sessions created before this time.

        Raises:
            InvalidInput: The session type does not exist, ``days`` is out of range, or ``days`` and ``created_from``
                are both given.

        Returns:
            A dict with total_sessions, active_sessions, completed_sessions, archived_sessions, abandoned_sessions,
            total_queries, average_duration_seconds, average_queries_per_session, abandonment_rate, cache_hit_rate,
            top_assets, query_type_distribution and session_type_distribution. Rates are from 0 to 1. Without
            sessions, rates and averages are 0.
        """
        tally = _Tally()
        async for found in self._sessions(user_id, session_type, days, created_from, created_until):
            tally.add(found)
        return tally.result()

    async def get_user_session_summary(self, user_id: Any) -> dict[str, Any]:
        """Return ``get_session_stats`` of one user, plus ``user_id``, ``first_session_at`` and ``last_session_at``."""
        tally = _Tally()
        created: list[datetime] = []
        async for found in self._sessions(user_id, None, None, None, None):
            tally.add(found)
            created.append(found.created_at)
        return {
            "user_id": user_id_of(user_id),
            "first_session_at": min(created, default=None),
            "last_session_at": max(created, default=None),
            **tally.result(),
        }

    async def export_session_metrics(
        self,
        format: str = "json",  # noqa: A002 - public name of the earlier service
        user_id: Any = None,
        session_type: SessionType | str | None = None,
        days: float | None = None,
        *,
        created_from: datetime | None = None,
        created_until: datetime | None = None,
    ) -> str:
        """Return the metrics of each session in one text, newest session first.

        Args:
            format: ``json`` gives an array of objects. ``jsonl`` gives one object per line. ``csv`` gives a header and
                one line per session; lists and objects in it are JSON text.
            user_id, session_type, days, created_from, created_until: See ``get_session_stats``.

        Raises:
            InvalidInput: The format does not exist, or ``get_session_stats`` would refuse another argument.
        """
        if format not in FORMATS:
            raise InvalidInput(f"format must be one of {', '.join(FORMATS)}, not {format!r}.")
        sessions = self._sessions(user_id, session_type, days, created_from, created_until)
        rows = [SessionMetrics.of(found).model_dump(mode="json") async for found in sessions]
        if format == "json":
            return canonical(rows)
        if format == "jsonl":
            return "".join(f"{canonical(row)}\n" for row in rows)
        text = io.StringIO()
        writer = csv.DictWriter(text, list(SessionMetrics.model_fields), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({name: canonical(it) if isinstance(it, list | dict) else it for name, it in row.items()})
        return text.getvalue()

    def _sessions(
        self,
        user_id: Any,
        session_type: SessionType | str | None,
        days: float | None,
        created_from: datetime | None,
        created_until: datetime | None,
    ) -> AsyncIterator[Recorded]:
        if days is not None:
            if created_from is not None:
                raise InvalidInput("Pass days or created_from, not both.")
            created_from = days_before(self.store.now(), days)
        return self.store.all_sessions(
            user_id=None if user_id is None else user_id_of(user_id),
            session_type=None if session_type is None else str(session_type_of(session_type)),
            created_from=created_from,
            created_until=created_until,
        )


class _Tally:
    """Totals over the sessions added so far."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._seconds = 0.0
        self._assets: Counter[str] = Counter()
        self._queries: Counter[str] = Counter()
        self._kinds: Counter[str] = Counter()

    def add(self, recorded: Recorded) -> None:
        """Add one session."""
        metrics = SessionMetrics.of(recorded)
        self._counts["sessions"] += 1
        self._counts[f"status {recorded.status}"] += 1
        self._counts["abandoned"] += metrics.abandoned
        self._counts["queries"] += metrics.total_queries
        self._counts["hits"] += metrics.cache_hits
        self._seconds += metrics.duration_seconds
        self._assets.update(set(metrics.assets))
        self._queries.update(metrics.query_types)
        self._kinds[metrics.session_type] += 1

    def result(self) -> dict[str, Any]:
        """Return the statistics over the added sessions, as ``get_session_stats`` returns them."""
        counts = self._counts
        sessions, queries = counts["sessions"], counts["queries"]
        return {
            "total_sessions": sessions,
            "active_sessions": counts["status active"],
            "completed_sessions": counts["status completed"],
            "archived_sessions": counts["status archived"],
            "abandoned_sessions": counts["abandoned"],
            "total_queries": queries,
            "average_duration_seconds": self._seconds / sessions if sessions else 0.0,
            "average_queries_per_session": queries / sessions if sessions else 0.0,
            "abandonment_rate": counts["abandoned"] / sessions if sessions else 0.0,
            "cache_hit_rate": counts["hits"] / queries if queries else 0.0,
            "top_assets": [{"asset": asset, "sessions": number} for asset, number in self._assets.most_common(TOP)],
            "query_type_distribution": dict(self._queries.most_common()),
            "session_type_distribution": dict(self._kinds.most_common()),
        }
