"""A program of AsyncSessionLedger that says which type each result has; see ``tests/sdk/test_types.py``."""

from __future__ import annotations

from datetime import datetime
from typing import Any, assert_type

from ledger import (
    AppendResult,
    AsyncSessionLedger,
    Difference,
    Match,
    Page,
    RecordedEvent,
    Session,
    Verification,
)
from ledger.model.fold import State
from ledger.model.session import Head
from ledger.sdk.aio_iteration import AsyncIteration
from ledger.sdk.frames import EventPage, MessagePage, SessionPage
from ledger.sdk.subscriptions import Delivery


async def main(url: str) -> None:
    async with AsyncSessionLedger(url, relay="off", default_ttl_hours=None) as ledger:
        assert_type(ledger, AsyncSessionLedger)
        assert_type(await ledger, AsyncSessionLedger)
        assert_type((ledger.url, ledger.user_id), tuple[str, str | None])
        session_id = assert_type(await ledger.create_session("ada", "How many?", fields={"title": "Orders"}), str)
        appended = assert_type(await ledger.add_message(session_id, "user", "hello", event_id="m1"), AppendResult)
        assert_type((appended.version, appended.replayed), tuple[int, bool])
        assert_type(await ledger.rewind(session_id, 1), AppendResult | None)

        found = assert_type(await ledger.get_session(session_id, at=None, version=2), Session | None)
        assert found is not None
        assert_type((await ledger.require_session(session_id)).question, str | None)
        assert_type((found.question, found.created_at, found.tags), tuple[str | None, datetime, tuple[str, ...]])
        assert_type(await ledger.get_messages(session_id), MessagePage)
        page = assert_type(await ledger.history(session_id, limit=1), EventPage)
        assert_type(await ledger.history(session_id, after=page.next), EventPage)
        assert_type(await ledger.list_sessions("ada"), SessionPage)
        assert_type(await ledger.search("hello"), Page[Match])
        assert_type(await ledger.diff(session_id, 0), list[Difference])
        assert_type(await ledger.count_sessions("status"), dict[Any, int])
        assert_type(await ledger.verify(), Verification)
        assert_type(await ledger.store.state(session_id), tuple[Head, State] | None)
        assert_type(ledger.store.capabilities.search, bool)

        async for event, session in ledger.replay(session_id):
            assert_type((event, session), tuple[RecordedEvent, Session])
        async with ledger.subscribe(after=0, timeout=0) as events:
            assert_type(events, AsyncIteration[Delivery])
            assert_type((await anext(events)).event, RecordedEvent)
            assert_type(events.position, int | None)
        assert_type([each async for each in ledger.iter_sessions()], list[Session])
    assert_type(await ledger.close(drain=0), int)
