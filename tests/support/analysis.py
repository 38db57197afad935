"""Analysis sessions for tests: a store whose clock and ids are given, and queries to put into it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from ledger import SessionLedger
from ledger.compat.analysis_sessions import QueryRecord, SessionSettings, SessionStore
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
