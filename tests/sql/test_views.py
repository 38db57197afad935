"""Fixture events in, expected rows out, per view; the same on any DuckDB."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from support.histories import DAY, REMOVED, event

RUN = [
    event(1, ("question", "", "How many orders?"), ("status", "", "active")),
    event(2, ("constraints", "", {"kpi": ["orders"]}), ("tool_call", "b", {"name": "Sum", "description": "adds"})),
    event(3, ("tool_call", "a", {"name": "Trend", "message_id": "m1"}), ("tool_call_status", "a", "running")),
    event(4, ("tool_call_status", "b", "completed"), ("tool_call_result", "b", {"rows": [1, None]})),
    event(5, ("summary", "", "Twelve."), ("expires_at", "", "2026-04-01T00:00:00.000000Z")),
    event(6, ("summary", "", REMOVED), ("status", "", "completed")),
]


def test_session_fields_holds_the_last_write_of_each_slot_and_no_removed_one(ask):
    rows = ask(RUN, "SELECT field, key, value, version FROM session_fields ORDER BY field, key")
    assert rows == [
        ("constraints", "", {"kpi": ["orders"]}, 2),
        ("expires_at", "", "2026-04-01T00:00:00.000000Z", 5),
        ("question", "", "How many orders?", 1),
        ("status", "", "completed", 6),
        ("tool_call", "a", {"name": "Trend", "message_id": "m1"}, 3),
        ("tool_call", "b", {"name": "Sum", "description": "adds"}, 2),
        ("tool_call_result", "b", {"rows": [1, None]}, 4),
        ("tool_call_status", "a", "running", 3),
        ("tool_call_status", "b", "completed", 4),
    ]


def test_of_equal_versions_the_later_event_id_holds(ask):
    events = [event(1, ("title", "", "first"), event_id="e1"), event(1, ("title", "", "second"), event_id="e2")]
    assert ask(events, "SELECT value, event_id FROM session_fields") == [("second", "e2")]


def test_a_value_set_after_its_removal_is_there_again(ask):
    events = [
        event(1, ("title", "", "old")),
        event(2, ("title", "", REMOVED)),
        event(3, ("title", "", "new")),
    ]
    assert ask(events, "SELECT value, version FROM session_fields") == [("new", 3)]
    assert ask(events[:2], "SELECT value, version FROM session_fields") == []


def test_session_history_holds_every_write_once_and_what_superseded_it(ask):
    rows = ask(
        RUN, "SELECT field, version, removed, superseded_by FROM session_history WHERE key = '' ORDER BY field, version"
    )
    assert rows == [
        ("constraints", 2, False, None),
        ("expires_at", 5, False, None),
        ("question", 1, False, None),
        ("status", 1, False, 6),
        ("status", 6, False, None),
        ("summary", 5, False, 6),
        ("summary", 6, True, None),
    ]


def test_sessions_is_one_wide_row_with_calls_in_the_order_they_were_planned(warehouse, ask):
    assert ask(RUN, "SELECT * FROM sessions") == [
        (
            *("s1", "ann", "How many orders?", {"kpi": ["orders"]}, None, None, None, "completed"),
            *(["b", "a"], ["completed", "running"], {"b": {"rows": [1, None]}}),
            *(DAY, DAY + timedelta(seconds=6), 6, None, None, datetime(2026, 4, 1, tzinfo=UTC), False),
        )
    ]
    assert warehouse.query("SELECT * FROM sessions").columns == (
        *("session_id", "user_id", "question", "constraints", "response_plan", "strategy", "summary", "status"),
        *("tool_calls", "tool_call_status", "tool_call_results", "created_at", "updated_at"),
        *("version", "title", "session_type", "expires_at", "tool_call_results_omitted"),
    )


def test_results_that_would_make_a_row_too_large_are_omitted_and_each_of_them_is_a_row_elsewhere(ask):
    half = "x" * (2_500_000 - 2)  # and its quotes
    events = [
        event(1, ("tool_call", "a", {"name": "A"}), ("tool_call_result", "a", half)),
        event(2, ("tool_call", "b", {"name": "B"}), ("tool_call_result", "b", half)),
        event(3, ("tool_call", "c", {"name": "C"}), ("tool_call_result", "c", 1)),
    ]
    columns = "version, tool_calls, tool_call_results IS NULL AS no_results, tool_call_results_omitted"
    rows = ask(events, f"SELECT {columns} FROM session_versions ORDER BY version")
    assert rows == [(1, ["a"], False, False), (2, ["a", "b"], False, False), (3, ["a", "b", "c"], True, True)]
    assert ask(events, f"SELECT {columns} FROM sessions") == rows[-1:]
    calls = ask(events, "SELECT call_id, LENGTH(JSON_VALUE(result)) AS length FROM tool_calls ORDER BY call_id")
    assert calls == [("a", len(half)), ("b", len(half)), ("c", 1)]


def test_a_session_whose_values_are_all_removed_is_still_a_row(ask):
    events = [event(1, ("question", "", "?")), event(2, ("question", "", REMOVED))]
    columns = "session_id, question, tool_calls, tool_call_status, tool_call_results, version"
    assert ask(events, f"SELECT {columns} FROM sessions") == [("s1", None, [], [], None, 2)]


def test_session_versions_is_the_wide_row_at_every_version(ask):
    columns = "version, status, summary, tool_calls, tool_call_status, updated_at"
    rows = ask(RUN, f"SELECT {columns} FROM session_versions ORDER BY version")
    assert [row[:5] for row in rows] == [
        (1, "active", None, [], []),
        (2, "active", None, ["b"], ["pending"]),
        (3, "active", None, ["b", "a"], ["pending", "running"]),
        (4, "active", None, ["b", "a"], ["completed", "running"]),
        (5, "active", "Twelve.", ["b", "a"], ["completed", "running"]),
        (6, "completed", None, ["b", "a"], ["completed", "running"]),
    ]
    assert [row[5] for row in rows] == [DAY + timedelta(seconds=version) for version in range(1, 7)]


def test_tool_calls_is_one_row_per_call(ask):
    rows = ask(
        RUN,
        "SELECT call_id, position, name, description, status, has_result, result, message_id, planned_version "
        "FROM tool_calls ORDER BY position",
    )
    assert rows == [
        ("b", 1, "Sum", "adds", "completed", True, {"rows": [1, None]}, None, 2),
        ("a", 2, "Trend", None, "running", False, None, "m1", 3),
    ]


def test_tool_calls_says_whose_they_are_as_what_they_were_planned_and_when_they_last_changed(ask):
    rows = ask(
        RUN, "SELECT call_id, user_id, definition, planned_at, updated_at, created_at FROM tool_calls ORDER BY position"
    )
    assert rows == [
        ("b", "ann", {"name": "Sum", "description": "adds"}, DAY + timedelta(0, 2), DAY + timedelta(0, 4), DAY),
        ("a", "ann", {"name": "Trend", "message_id": "m1"}, DAY + timedelta(0, 3), DAY + timedelta(0, 3), DAY),
    ]


def test_a_call_without_a_definition_goes_by_its_id_and_a_result_alone_is_none(ask):
    events = [event(1, ("tool_call_status", "a", "running")), event(2, ("tool_call_result", "b", 1))]
    assert ask(events, "SELECT call_id, name, planned_version FROM tool_calls") == [("a", "a", 1)]


def test_messages_are_in_order_with_their_parts(ask):
    events = [
        event(1, ("message", "m2", {"role": "user", "content": "Hallo, Wörld"})),
        event(2, ("message", "m1", {"role": "assistant", "content": [{"type": "text"}], "token_count": 3})),
        event(3, ("message", "m0", {"role": "tool", "content": None, "processing_time_ms": 1.5, "error": "no"})),
    ]
    columns = "position, message_id, role, text, content, token_count, processing_time_ms, error, tools_used"
    assert ask(events, f"SELECT {columns} FROM messages ORDER BY position") == [
        (1, "m2", "user", "Hallo, Wörld", "Hallo, Wörld", None, None, None, None),
        (2, "m1", "assistant", None, [{"type": "text"}], 3, None, None, None),
        (3, "m0", "tool", None, None, None, 1.5, "no", None),
    ]


def test_conflicts_names_the_events_that_wrote_one_version(ask):
    events = [
        event(1, ("title", "", "a")),
        event(2, ("title", "", "b"), event_id="e3"),
        event(2, ("summary", "", "c"), event_id="e2"),
    ]
    assert ask(events, "SELECT session_id, version, events, event_ids FROM conflicts") == [("s1", 2, 2, ["e2", "e3"])]
