"""A program of SessionLedger that says which type each result has; see ``tests/sdk/test_types.py``."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, assert_type

from ledger import (
    AppendResult,
    Difference,
    Envelope,
    Match,
    Message,
    Page,
    RecordedEvent,
    Role,
    Session,
    SessionLedger,
    SessionNotFound,
    ToolCall,
    ToolStatus,
    Verification,
    WrongExpectedVersion,
)
from ledger.sdk.frames import EventPage, MessagePage


def main(url: str) -> None:
    with SessionLedger.open(url, relay="off", default_ttl_hours=None) as ledger:
        assert_type(ledger, SessionLedger)
        assert_type(ledger.url, str)
        session_id = assert_type(ledger.create_session("ada", "How many orders?", fields={"title": "Orders"}), str)
        appended = assert_type(ledger.add_message(session_id, "user", "hello", event_id="m1"), AppendResult)
        assert_type((appended.version, appended.replayed, appended.event_id), tuple[int, bool, str])
        assert_type(ledger.update_tool_call_status(session_id, "count", "completed", {"orders": 7}), AppendResult)
        role: Role = "assistant"
        status: ToolStatus = "failed"
        ledger.add_message(session_id, role, "hi")
        ledger.update_tool_call_status(session_id, "plot", status)
        assert_type(ledger.rewind(session_id, 2), AppendResult | None)

        found = assert_type(ledger.get_session(session_id, messages=True), Session | None)
        assert found is not None
        session = assert_type(ledger.require_session(session_id, version=None), Session)
        ledger.update_summary(session.session_id, "none is as not given", expected_version=None, event_id=None)
        assert_type((found.question, found.status, found.version), tuple[str | None, str | None, int])
        assert_type((found.created_at, found.expires_at), tuple[datetime, datetime | None])
        assert_type((found.tags, found.messages), tuple[tuple[str, ...], tuple[Message, ...]])
        assert_type((found.calls, found.tool_call_status), tuple[tuple[ToolCall, ...], list[ToolStatus]])
        assert_type((found.attributes, found["summary"]), tuple[dict[str, Any], Any])
        assert_type((found.to_dict(), found.to_json()), tuple[dict[str, Any], str])

        assert_type(ledger.get_messages(session_id), MessagePage)
        for message in ledger.get_messages(session_id):
            if message.role != "erased":
                ledger.add_message(session_id, message.role, message.content, message_id=message.message_id)
        for call in session.calls:
            ledger.update_tool_call_status(session_id, call.call_id, call.status, call.result)
        keyed: Envelope = {"event_id": "m9", "actor": "agent"}
        ledger.add_message(session_id, "user", "bye", **keyed)
        events = assert_type(ledger.history(session_id, limit=1), EventPage)
        assert_type(ledger.history(session_id, after=events.next), EventPage)
        assert_type(ledger.list_sessions("ada").next, str | None)
        assert_type(ledger.iter_sessions("ada"), Iterator[Session])
        assert_type(ledger.search("hello"), Page[Match])
        assert_type(ledger.diff(session_id, 0), list[Difference])
        assert_type(ledger.count_sessions("status"), dict[Any, int])
        assert_type(ledger.get_or_create_session("ada", ttl=timedelta(hours=1)), Session)
        for event, session in ledger.replay(session_id):
            assert_type((event, session), tuple[RecordedEvent, Session])
        for delivery in ledger.subscribe(after=0, timeout=0):
            assert_type((delivery.seq, delivery.event), tuple[int, RecordedEvent])
        assert_type(ledger.verify(), Verification)
        try:
            ledger.update_summary(session_id, "late", expected_version=1)
        except WrongExpectedVersion as error:
            assert_type(error.actual, int)
        try:
            ledger.update_summary("unknown", "nothing")
        except SessionNotFound as missing:
            assert_type((missing.code, missing.retryable, missing.session_id), tuple[str, bool, str])
        assert_type(ledger.close(drain=0), int)
