"""The table functions: one session at a version, its changes, and the sessions of a span of days."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from support.histories import DAY, REMOVED, event

EVENTS = [
    event(1, ("title", "", "first"), ("status", "", "active")),
    event(2, ("title", "", "second")),
    event(3, ("title", "", REMOVED)),
    event(1, ("title", "", "other"), session="s2", day=1),
]
LATE = DAY + timedelta(hours=1)
SCOPE: dict[str, Any] = {"id": "s1", "first": DAY, "next": DAY + timedelta(days=1)}


def test_session_state_holds_the_values_of_the_version_asked_for(ask):
    sql = "SELECT field, value FROM session_state(@id, @first, @next, @version) ORDER BY field"
    assert ask(EVENTS, sql, **SCOPE, version=1) == [("status", "active"), ("title", "first")]
    assert ask(EVENTS, sql, **SCOPE, version=2) == [("status", "active"), ("title", "second")]
    assert ask(EVENTS, sql, **SCOPE, version=3) == [("status", "active")]
    assert ask(EVENTS, sql, **SCOPE, version=None) == [("status", "active")]


def test_a_session_is_not_found_outside_its_day(ask):
    other_day = {"id": "s2", "first": DAY, "next": DAY + timedelta(days=1)}
    assert ask(EVENTS, "SELECT field FROM session_state(@id, @first, @next, NULL)", **other_day) == []


def test_session_changes_gives_the_versions_between_two(ask):
    sql = "SELECT field, version, superseded_by FROM session_changes(@id, @first, @next, @after, @until) ORDER BY 2, 1"
    assert ask(EVENTS, sql, **SCOPE, after=1, until=2) == [("title", 2, 3)]
    assert ask(EVENTS, sql, **SCOPE, after=None, until=None) == [
        ("status", 1, None),
        ("title", 1, 2),
        ("title", 2, 3),
        ("title", 3, None),
    ]


def test_session_version_at_is_the_last_version_recorded_by_then(ask):
    sql = "SELECT version FROM session_version_at(@id, @first, @next, @at)"
    assert ask(EVENTS, sql, **SCOPE, at=DAY) == [(0,)]
    assert ask(EVENTS, sql, **SCOPE, at=DAY + timedelta(seconds=2.5)) == [(2,)]


def test_session_state_at_holds_what_was_recorded_by_then_even_if_a_lower_version_came_later(ask):
    late = replace(event(2, ("title", "", "late"), ("question", "", "why?")), event_id="late", recorded_at=LATE)
    sql = "SELECT field, value FROM session_state_at(@id, @first, @next, @at) ORDER BY field"

    def at(time: datetime) -> list[tuple[Any, ...]]:
        return ask([*EVENTS, late], sql, **SCOPE, at=time)

    assert at(DAY) == []
    assert at(DAY + timedelta(seconds=2.5)) == [("status", "active"), ("title", "second")]
    assert at(DAY + timedelta(seconds=3)) == [("status", "active")]
    assert at(LATE) == [("question", "why?"), ("status", "active")]


def test_sessions_between_gives_the_sessions_created_in_the_span(ask):
    sql = "SELECT session_id, title, version FROM sessions_between(@first, @next) ORDER BY session_id"
    two_days = {"first": DAY, "next": DAY + timedelta(days=2)}
    assert ask(EVENTS, sql, **two_days) == [("s1", None, 3), ("s2", "other", 1)]
    second_day = {"first": DAY + timedelta(days=1), "next": DAY + timedelta(days=2)}
    assert ask(EVENTS, sql, **second_day) == [("s2", "other", 1)]
