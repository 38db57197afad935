"""Three tasks for a scheduler, as plain functions, and when they are to run.

They need no Celery. Where there is one, ``app.task(cleanup_expired_sessions)`` makes a task of each and
``app.conf.beat_schedule = CELERY_BEAT_SCHEDULE`` runs them, given names that match; where there is none, cron does:
``python -c "from ledger.compat.analysis_sessions.tasks import *; cleanup_expired_sessions()"``.

A task runs to its end and returns what it did. It has an event loop of its own, so it is not for calling from one:
there, await the methods of the store.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from ledger.compat.analysis_sessions.analytics import SessionAnalytics
from ledger.compat.analysis_sessions.metrics import SessionMetrics
from ledger.compat.analysis_sessions.settings import SessionSettings
from ledger.compat.analysis_sessions.single import get_session_store
from ledger.compat.analysis_sessions.store import SessionStore

#: Days that the daily metrics look back.
RECENT_DAYS = 1
_DAY = 86_400.0


def cleanup_expired_sessions(store: SessionStore | None = None) -> dict[str, Any]:
    """Archive what has expired; hourly.

    Returns:
        ``archived_sessions``, how many there were, and ``duration_seconds``.
    """

    async def work(chosen: SessionStore) -> dict[str, Any]:
        return {"archived_sessions": await chosen.cleanup_expired_sessions()}

    return _run(store, work)


def delete_old_archived_sessions(store: SessionStore | None = None) -> dict[str, Any]:
    """Delete what has been over for longer than ``session_retention_days``; daily.

    Returns:
        ``deleted_sessions``, ``retention_days`` and ``duration_seconds``.
    """

    async def work(chosen: SessionStore) -> dict[str, Any]:
        deleted = await chosen.delete_old_archived_sessions()
        return {"deleted_sessions": deleted, "retention_days": chosen.settings.session_retention_days}

    return _run(store, work)


def generate_session_metrics(store: SessionStore | None = None) -> dict[str, Any]:
    """Record the metrics of sessions that ended since the last time, and tell of those begun lately; daily.

    Returns:
        ``recorded_sessions``, the keys of ``get_session_stats``, and ``duration_seconds``.
    """

    async def work(chosen: SessionStore) -> dict[str, Any]:
        analytics = SessionAnalytics(chosen)
        recorded = 0
        for status in ("completed", "failed", "expired"):
            async for found in chosen.all_sessions(status=status):
                if SessionMetrics.kept(found) is not None:
                    continue
                recorded += await analytics.record_session_metrics(found.session_id) is not None
        return {"recorded_sessions": recorded, **await analytics.get_session_stats(days=RECENT_DAYS)}

    return _run(store, work)


def beat_schedule(settings: SessionSettings | None = None) -> dict[str, dict[str, Any]]:
    """When each task is to run, in seconds, as Celery's ``beat_schedule`` takes it.

    Args:
        settings: ``session_cleanup_interval_minutes`` counts; those of the environment where None.
    """
    chosen = settings or SessionSettings.from_environment()
    every = {
        cleanup_expired_sessions: chosen.session_cleanup_interval_minutes * 60.0,
        delete_old_archived_sessions: _DAY,
        generate_session_metrics: _DAY,
    }
    return {
        task.__name__.replace("_", "-"): {"task": f"{__name__}.{task.__name__}", "schedule": seconds}
        for task, seconds in every.items()
    }


#: The schedule with the defaults of the settings: cleanup each hour, the others each day.
CELERY_BEAT_SCHEDULE = beat_schedule(SessionSettings.from_environment({}))


def _run(store: SessionStore | None, work: Callable[[SessionStore], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
    chosen = store or get_session_store()
    begun = time.perf_counter()

    async def whole() -> dict[str, Any]:
        return await work(chosen)

    return {**asyncio.run(whole()), "duration_seconds": time.perf_counter() - begun}
