"""A multi-query analysis: create a session, track queries, accumulate context, read analytics.

Before: ``from fiml.sessions import ...`` on Redis and PostgreSQL. After: the import below, on a ledger.
"""

from __future__ import annotations

import asyncio

from ledger.compat.analysis_sessions import (
    QueryRecord,
    SessionAnalytics,
    SessionType,
    close_session_store,
    get_session_store,
    track_query_in_session,
)


async def main() -> None:
    """Run the documented workflow on the ledger at LEDGER_URL, else ./ledger.db."""
    session_store = await get_session_store()

    # Create session
    session = await session_store.create_session(
        assets=["AAPL", "GOOGL"],
        session_type=SessionType.COMPARATIVE,
        user_id="analyst_001",
        ttl_hours=24,
    )
    print(f"Session {session.id}: {session.type} of {', '.join(session.assets)}, until {session.expires_at}")

    # Track queries
    session.add_query(
        QueryRecord(
            query_type="price",
            parameters={"symbol": "AAPL"},
            result_summary="AAPL: $175.43 (+2.3%)",
            execution_time_ms=41.0,
        )
    )

    # Store context
    session.state.update_context("preference", "detailed")
    session.state.store_intermediate_result("prices", {"AAPL": 175.43})
    await session_store.update_session(session.id, session)

    # For tools that take an optional session_id
    await track_query_in_session(session.id, "price", {"symbol": "GOOGL"}, "GOOGL: $141.80", cache_hit=True)

    # Later retrieval
    retrieved = await session_store.get_session(session.id)
    assert retrieved is not None
    history = retrieved.state.history
    print(f"Total queries: {history.total_queries}, cache hit rate: {history.cache_hit_rate:.0%}")
    assert history.last_query is not None
    print(f"Previous query: {history.last_query.result_summary}")

    await session_store.extend_session(session.id, 12)
    for summary in await session_store.list_user_sessions("analyst_001"):
        print(f"Listed: {summary.id}, {summary.total_queries} queries")

    await session_store.complete_session(session.id)
    analytics = SessionAnalytics(session_store)
    await analytics.record_session_metrics(session)
    stats = await analytics.get_session_stats(user_id="analyst_001")
    print(f"Queries per session: {stats['average_queries_per_session']:g}, by type: {stats['query_type_distribution']}")
    print(await analytics.export_session_metrics("csv"))
    await session_store.archive_session(session.id)
    await close_session_store()


if __name__ == "__main__":
    asyncio.run(main())
