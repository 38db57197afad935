"""Analysis sessions for tests: a store whose clock and ids are given, and queries to put into it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from ledger import SessionLedger
from ledger.compat.analysis_sessions import QueryRecord, SessionSettings, SessionStore, SessionType
from ledger.testing import START, CountedIds, SetClock

HOUR = 3600
DAY = 24 * HOUR


def store_over(ledger: SessionLedger, clock: SetClock, **settings: Any) -> SessionStore:
    """A store of analysis sessions over a ledger."""
    chosen = SessionSettings.model_validate(settings)
    return SessionStore(ledger, settings=chosen, clock=clock, ids=CountedIds(50_000))


def run(scenario: Callable[[], Awaitable[Any]]) -> Any:
    """What a coroutine function gives."""

    async def whole() -> Any:
        return await scenario()

    return asyncio.run(whole())


def price(symbol: str = "AAPL", *, at: float = 0, **more: Any) -> QueryRecord:
    """A query for a price, so many seconds after the start."""
    return QueryRecord(
        query_type="price", parameters={"symbol": symbol}, timestamp=START + timedelta(seconds=at), **more
    )


async def some_sessions(store: SessionStore, clock: SetClock) -> tuple[str, str, str]:
    """One that is completed after ten minutes, one that is abandoned, one that goes on."""
    completed = await store.create_session(["AAPL", "MSFT"], SessionType.COMPARATIVE, "ada")
    abandoned = await store.create_session(["AAPL"], SessionType.EQUITY, "ada", ttl_hours=1)
    for number in range(3):
        await store.track_query(completed.id, price(at=number, cache_hit=number == 0))
    await store.track_query(abandoned.id, QueryRecord(query_type="news", timestamp=START + timedelta(seconds=120)))
    clock.move(600)
    await store.complete_session(completed.id)
    clock.move(2 * HOUR)
    going_on = await store.create_session(["BTC"], SessionType.CRYPTO, "bob")
    return completed.id, abandoned.id, going_on.id
