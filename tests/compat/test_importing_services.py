"""What the older services of seeds 3 and 4 hold comes into a ledger with its ids and times."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest
from sqlalchemy import Engine

from ledger import ConfigurationError, InvalidInput, SessionLedger
from ledger.compat.analysis_sessions import Session, SessionAnalytics, SessionStore, SessionType
from ledger.compat.conversations import ConversationService
from ledger.compat.importing_services import import_analysis_sessions, import_conversations
from support.older_stores import ANALYSES, CONVERSATIONS, make, put

T = TypeVar("T")
BEGAN, CHANGED = datetime(2025, 3, 11, 10, 0, 0, 123456), datetime(2025, 3, 11, 10, 5)  # noqa: DTZ001 - as they stand
AT = BEGAN.replace(tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SID = "5f0f8a52-6c6b-4a55-9d5e-6a0a8d1f0003"


def run(waited: Awaitable[T]) -> T:
    async def whole() -> T:
        return await waited

    return asyncio.run(whole())


def put_conversation(engine: Engine, session_id: str = SID, **columns: Any) -> None:
    values = {
        "user_id": 7,
        "title": "Travel",
        "description": "To Rome",
        "context_data": '{"city": "Rome"}',
        "session_metadata": '{"client": "web"}',
        "is_active": True,
        "created_at": str(BEGAN),
        "last_activity_at": str(CHANGED),
        **columns,
    }
    put(engine, "conversation_sessions", session_id=session_id, **values)


def put_message(engine: Engine, minute: int, session_id: str = SID, **columns: Any) -> None:
    values = {"role": "user", "content": f"at {minute}", "created_at": str(BEGAN + minute * MINUTE), **columns}
    put(engine, "conversation_messages", session_id=session_id, **values)


def put_analysis(engine: Engine, session_id: str = SID, **columns: Any) -> None:
    state = {
        "context": {"preference": "detailed"},
        "preferences": {"currency": "EUR"},
        "intermediate_results": {"mean": 3},
        "history": {
            "queries": [
                {
                    "query_id": f"q{number}",
                    "query_type": "price",
                    "parameters": {"symbol": "AAPL"},
                    "result_summary": "AAPL: $175.43",
                    "cache_hit": number == 1,
                    "execution_time_ms": 12.5,
                    "timestamp": (AT + number * MINUTE).isoformat(),
                }
                for number in (1, 2)
            ],
            "total_queries": 2,
            "cache_hit_rate": 0.5,
        },
    }
    values = {
        "user_id": "analyst_001",
        "type": "comparative",
        "assets": '["AAPL", "GOOGL"]',
        "state": json.dumps(state),
        "tags": '["weekly"]',
        "created_at": str(BEGAN),
        "expires_at": str(BEGAN + timedelta(days=1)),
        "last_accessed_at": str(CHANGED),
        "is_archived": True,
        "archived_at": str(CHANGED + MINUTE),
        "desk": "tech",
        **columns,
    }
    put(engine, "sessions", id=session_id, **values)


# Conversations


def test_a_conversation_keeps_its_ids_times_and_values(older: Engine, ledger: SessionLedger) -> None:
    make(older, *CONVERSATIONS)
    put_conversation(older)
    put_message(older, 1)
    put_message(
        older,
        2,
        role="assistant",
        content="",
        tools_used='["calendar"]',
        processing_time_ms=120,
        token_count=42,
        has_error=True,
        error_message="Timeout",
        message_metadata='{"model": "m"}',
    )
    done = import_conversations(older, ledger)
    assert (done.sessions, done.events, done.new) == (1, 4, 4)
    found = run(ConversationService(ledger).get_session(SID, 7, include_messages=True))
    assert found is not None
    assert (found.session_id, found.user_id, found.title, found.description) == (SID, "7", "Travel", "To Rome")
    assert (found.context_data, found.session_metadata) == ({"city": "Rome"}, {"client": "web"})
    assert (found.is_active, found.created_at, found.last_activity_at) == (True, AT, CHANGED.replace(tzinfo=UTC))
    assert found.messages is not None
    first, second = found.messages
    assert (first.role, first.content, first.created_at) == ("user", "at 1", AT + MINUTE)
    assert (second.tools_used, second.processing_time_ms, second.token_count) == (["calendar"], 120, 42)
    assert (second.has_error, second.error_message, second.message_metadata) == (True, "Timeout", {"model": "m"})


def test_importing_conversations_again_adds_what_is_new_and_nothing_else(older: Engine, ledger: SessionLedger) -> None:
    make(older, *CONVERSATIONS)
    put_conversation(older)
    put_message(older, 1)
    assert import_conversations(older, ledger).new == 3
    assert import_conversations(older, ledger).new == 0
    put_message(older, 7)
    assert import_conversations(older, ledger).new == 1
    found = run(ConversationService(ledger).get_session(SID, 7, include_messages=True))
    assert found is not None
    assert [message.content for message in found.messages or ()] == ["at 1", "at 7"]


def test_an_imported_conversation_goes_on_in_the_ledger(sqlite: Engine, ledger: SessionLedger) -> None:
    make(sqlite, *CONVERSATIONS)
    put_conversation(sqlite)
    import_conversations(sqlite, ledger)
    service = ConversationService(ledger)
    run(service.add_message(SID, "user", "And on", user=7))
    assert import_conversations(sqlite, ledger).new == 0


def test_a_conversation_that_is_not_active_is_over(sqlite: Engine, ledger: SessionLedger) -> None:
    make(sqlite, *CONVERSATIONS)
    put_conversation(sqlite, is_active=False)
    import_conversations(sqlite, ledger)
    service = ConversationService(ledger)
    found = run(service.get_session(SID, 7))
    assert found is not None
    assert not found.is_active
    assert list(run(service.get_user_sessions(7))) == []


def test_a_conversation_that_is_active_again_goes_on(older: Engine, ledger: SessionLedger) -> None:
    make(older, *CONVERSATIONS)
    put_conversation(older, is_active=False)
    import_conversations(older, ledger)
    with older.begin() as connection:
        connection.exec_driver_sql("UPDATE conversation_sessions SET is_active = TRUE, title = NULL")
    put_message(older, 9)
    assert import_conversations(older, ledger).new == 2
    assert import_conversations(older, ledger).new == 0
    found = run(ConversationService(ledger).get_session(SID, 7, include_messages=True))
    assert found is not None
    assert (found.is_active, found.title) == (True, None)
    assert [message.content for message in found.messages or ()] == ["at 9"]
    run(ConversationService(ledger).add_message(SID, "user", "And on", user=7))


@pytest.mark.parametrize(("word", "active"), [("f", False), ("false", False), ("0", False), ("t", True), (None, True)])
def test_whether_a_conversation_is_active_may_be_a_word(
    sqlite: Engine, ledger: SessionLedger, word: str | None, active: bool
) -> None:
    make(sqlite, CONVERSATIONS[0].replace("BOOLEAN DEFAULT TRUE", "TEXT"), CONVERSATIONS[1])
    put_conversation(sqlite, is_active=word)
    import_conversations(sqlite, ledger)
    found = run(ConversationService(ledger).get_session(SID, 7))
    assert found is not None
    assert found.is_active is active


@pytest.mark.parametrize("kind", ["json", "TEXT"])
@pytest.mark.parametrize("tools", ["search", "123", ["search"], None])
def test_json_comes_in_as_it_is_whatever_the_column(
    older: Engine, ledger: SessionLedger, kind: str, tools: Any
) -> None:
    make(
        older,
        CONVERSATIONS[0],
        CONVERSATIONS[1].replace(
            "tools_used {json}", f"tools_used {{{kind}}}" if kind == "json" else "tools_used TEXT"
        ),
    )
    put_conversation(older)
    put_message(older, 1, tools_used=json.dumps(tools))
    import_conversations(older, ledger)
    (message,) = ledger.get_messages(SID)
    assert message.tools_used == tools


def test_numbers_may_be_numeric(older: Engine, ledger: SessionLedger) -> None:
    make(older, CONVERSATIONS[0], CONVERSATIONS[1].replace("processing_time_ms INTEGER", "processing_time_ms NUMERIC"))
    put_conversation(older)
    put_message(older, 1, processing_time_ms=12.5)
    put_message(older, 2, processing_time_ms=12)
    import_conversations(older, ledger)
    assert [message.processing_time_ms for message in ledger.get_messages(SID)] == [12.5, 12]


def test_rows_of_conversations_that_cannot_be_recorded_are_named_and_nothing_is_written(
    sqlite: Engine, ledger: SessionLedger
) -> None:
    make(sqlite, *CONVERSATIONS)
    put_conversation(sqlite)
    put_message(sqlite, 1, role="nobody")
    put_conversation(sqlite, "b", context_data="[1]")
    put_message(sqlite, 2, session_id="gone")
    with pytest.raises(InvalidInput) as refused:
        import_conversations(sqlite, ledger)
    text = str(refused.value)
    assert text.startswith("3 rows of conversation_sessions and conversation_messages cannot be recorded")
    assert all(part in text for part in ("message 1", "session b: context_data", "message 2: belongs to no session"))
    assert list(ledger.list_sessions()) == []


def test_a_database_without_conversations_is_refused(sqlite: Engine, ledger: SessionLedger) -> None:
    make(sqlite, *ANALYSES)
    with pytest.raises(ConfigurationError, match="conversation_sessions"):
        import_conversations(sqlite, ledger)


# Analysis sessions


def loaded(ledger: SessionLedger, session_id: str = SID) -> Session:
    found = run(SessionStore(ledger).get_session(session_id))
    assert found is not None
    return found


def test_an_analysis_session_keeps_its_ids_times_and_values(older: Engine, ledger: SessionLedger) -> None:
    make(older, *ANALYSES)
    put_analysis(older)
    put(older, "session_metrics", session_id=SID, total_queries=2, duration_seconds=300.0)
    done = import_analysis_sessions(older, ledger)
    assert (done.sessions, done.events, done.new) == (1, 5, 5)
    session = loaded(ledger)
    assert (session.id, session.user_id, session.type) == (SID, "analyst_001", SessionType.COMPARATIVE)
    assert (session.assets, session.tags, session.is_archived) == (["AAPL", "GOOGL"], ["weekly"], True)
    assert (session.created_at, session.expires_at) == (AT, AT + timedelta(days=1))
    state = session.state
    assert (state.context, state.preferences) == ({"preference": "detailed"}, {"currency": "EUR"})
    assert (state.intermediate_results, state.history.cache_hit_rate) == ({"mean": 3}, 0.5)
    assert [(query.query_id, query.timestamp) for query in state.history.queries] == [
        ("q1", AT + MINUTE),
        ("q2", AT + 2 * MINUTE),
    ]
    recorded = ledger.get_session(SID)
    assert recorded is not None
    assert recorded.attributes["desk"] == "tech"
    assert recorded.attributes["older_metrics"]["duration_seconds"] == 300.0
    assert [event.recorded_at for event in ledger.history(SID)] == [
        *(AT, AT + MINUTE, AT + 2 * MINUTE, CHANGED.replace(tzinfo=UTC), CHANGED.replace(tzinfo=UTC) + MINUTE),
    ]


def test_importing_analysis_sessions_again_adds_nothing(older: Engine, ledger: SessionLedger) -> None:
    make(older, *ANALYSES)
    put_analysis(older)
    assert import_analysis_sessions(older, ledger).new == 5
    assert import_analysis_sessions(older, ledger).new == 0


def test_the_metrics_table_need_not_be_there(sqlite: Engine, ledger: SessionLedger) -> None:
    make(sqlite, ANALYSES[0])
    put_analysis(sqlite, is_archived=False, archived_at=None, user_id=None, tags=None)
    import_analysis_sessions(sqlite, ledger)
    session = loaded(ledger)
    assert (session.user_id, session.tags, session.is_archived) == ("anonymous", [], False)


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"type": "bonds"}, "equity"),
        ({"assets": '"AAPL"'}, "assets must be a list"),
        ({"assets": '[{"symbol": "AAPL"}]'}, "assets must be a list"),
        ({"tags": '[{"a": 1}]'}, "tags must be a list"),
        ({"state": '{"history": {"queries": [{"query_type": "p", "parameters": [1]}]}}'}, "query 1: parameters"),
        (
            {"state": '{"history": {"queries": [{"query_type": "p", "execution_time_ms": "12ms"}]}}'},
            "query 1: execution_time_ms",
        ),
        (
            {"state": '{"history": {"queries": [{"query_type": "p", "id": 1}, {"query_type": "p", "id": "1"}]}}'},
            "more than one query 1",
        ),
        ({"state": '{"history": {"queries": [1]}}'}, "query 1 must be an object"),
        ({"state": "[1]"}, "state must be an object"),
        ({"expires_at": "soon"}, "expires_at"),
    ],
)
def test_a_row_of_analysis_sessions_that_cannot_be_recorded_is_named(
    sqlite: Engine, ledger: SessionLedger, columns: dict[str, Any], why: str
) -> None:
    make(sqlite, *ANALYSES)
    put_analysis(sqlite, **columns)
    with pytest.raises(InvalidInput, match=f"session {SID}: .*{why}"):
        import_analysis_sessions(sqlite, ledger)
    assert list(ledger.list_sessions()) == []


def test_a_session_that_was_extended_meanwhile_stays_what_it_is_and_ends_later(
    sqlite: Engine, ledger: SessionLedger
) -> None:
    make(sqlite, *ANALYSES)
    put_analysis(sqlite)
    import_analysis_sessions(sqlite, ledger)
    with sqlite.begin() as connection:
        connection.exec_driver_sql("UPDATE sessions SET expires_at = '2025-03-13 10:00:00'")
    assert import_analysis_sessions(sqlite, ledger).new == 1
    session = loaded(ledger)
    assert session.expires_at == datetime(2025, 3, 13, 10, tzinfo=UTC)
    assert session.is_archived


def test_columns_that_the_store_has_a_meaning_for_keep_out_of_its_way(older: Engine, ledger: SessionLedger) -> None:
    names = ("metrics", "older_metrics", "analysis_session")
    make(older, ANALYSES[0].replace("    desk", "".join(f"    {name} TEXT,\n" for name in names) + "    desk"))
    put_analysis(older, metrics="m", older_metrics="o", analysis_session="a")
    import_analysis_sessions(older, ledger)
    assert loaded(ledger).is_archived
    attributes = ledger.get_session(SID).attributes  # type: ignore[union-attr]
    assert [attributes[f"column_{name}"] for name in names] == ["m", "o", "a"]
    assert attributes["analysis_session"] is True
    assert run(SessionAnalytics(SessionStore(ledger)).get_session_stats())["total_sessions"] == 1


def test_the_metrics_may_be_of_sessions_whose_ids_are_of_another_type(older: Engine, ledger: SessionLedger) -> None:
    make(older, ANALYSES[0], ANALYSES[1].replace("session_id {uuid}", "session_id VARCHAR(36)"))
    put_analysis(older)
    put(older, "session_metrics", session_id=SID, total_queries=2, duration_seconds=300.0)
    import_analysis_sessions(older, ledger)
    assert ledger.get_session(SID).attributes["older_metrics"]["total_queries"] == 2  # type: ignore[union-attr]
    make(older, ANALYSES[0].replace("id {uuid}", "id VARCHAR(36)"), ANALYSES[1])
    put_analysis(older, "no uuid")
    put(older, "session_metrics", session_id=SID, total_queries=2, duration_seconds=300.0)
    assert import_analysis_sessions(older, ledger).new == 5


def test_an_analysis_session_that_is_archived_no_more_goes_on(older: Engine, ledger: SessionLedger) -> None:
    make(older, *ANALYSES)
    put_analysis(older, expires_at=None)
    import_analysis_sessions(older, ledger)
    with older.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE sessions SET is_archived = FALSE, tags = '[]', last_accessed_at = '2025-04-01'"
        )
    assert import_analysis_sessions(older, ledger).new == 1
    assert import_analysis_sessions(older, ledger).new == 0
    session = loaded(ledger)
    assert (session.is_archived, session.tags, session.assets) == (False, [], ["AAPL", "GOOGL"])
