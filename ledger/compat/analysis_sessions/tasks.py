"""Three tasks for a scheduler, as plain functions, and their schedule.

With Celery, make a task of each function, as in ``app.task(cleanup_expired_sessions)``, and set
``app.conf.beat_schedule = CELERY_BEAT_SCHEDULE``. The schedule expects tasks to be named after their module and
function, as ``app.task`` names them by default. Without Celery, use cron:
``python -c "from ledger.compat.analysis_sessions.tasks import *; cleanup_expired_sessions()"``.

A task starts an event loop of its own. Where an event loop is running, await the methods of the store instead.
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

#: The daily metrics include sessions created within this many days.
RECENT_DAYS = 1
_DAY = 86_400.0


def cleanup_expired_sessions(store: SessionStore | None = None) -> dict[str, Any]:
    """Archive expired sessions. By default, the schedule runs this every hour.

    Returns:
        ``archived_sessions``, the number of sessions archived, and ``duration_seconds``.
    """

    async def work(chosen: SessionStore) -> dict[str, Any]:
        return {"archived_sessions": await chosen.cleanup_expired_sessions()}

    return _run(store, work)


def delete_old_archived_sessions(store: SessionStore | None = None) -> dict[str, Any]:
    """Purge sessions that ended more than ``session_retention_days`` ago. The schedule runs this every day.

    Returns:
        ``deleted_sessions``, ``retention_days`` and ``duration_seconds``.
    """

    async def work(chosen: SessionStore) -> dict[str, Any]:
        deleted = await chosen.delete_old_archived_sessions()
        return {"deleted_sessions": deleted, "retention_days": chosen.settings.session_retention_days}

    return _run(store, work)


def generate_session_metrics(store: SessionStore | None = None) -> dict[str, Any]:
    """Record the metrics of each ended session without metrics, and return statistics. The schedule runs this daily.

    Returns:
        ``recorded_sessions``, the number of sessions whose metrics were recorded; ``duration_seconds``; and the
        statistics of ``get_session_stats``, over the sessions created in the last ``RECENT_DAYS`` days.
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
    """Return the interval of each task in seconds, in the format of Celery's ``beat_schedule``.

    Args:
        settings: Settings that hold the interval of the cleanup; by default, those of the environment.
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


#: The schedule with default settings: the cleanup every hour, the other tasks every day.
CELERY_BEAT_SCHEDULE = beat_schedule(SessionSettings.from_environment({}))


def _run(store: SessionStore | None, work: Callable[[SessionStore], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
    chosen = store or get_session_store()
    started = time.perf_counter()

    async def whole() -> dict[str, Any]:
        return await work(chosen)

    return {**asyncio.run(whole()), "duration_seconds": time.perf_counter() - started}
