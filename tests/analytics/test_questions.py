"""Analytics: the views and functions for dashboards as methods, with days and filters."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from ledger import InvalidInput, PermissionDenied, SessionLedger
from ledger.analytics import Analytics
from ledger.testing import START, CountedIds, SetClock

pytestmark = pytest.mark.duckdb
METHODS = (
    *("sessions", "daily_activity", "user_activity", "tool_usage", "model_usage", "storage_growth"),
    *("outcomes", "attribute_distribution", "top_assets", "cohorts"),
)
VIEWS = ("session_metrics", "session_items", "messages", "tool_calls", "model_calls", "queries", "scores", "errors")


@pytest.fixture(scope="module")
def clock() -> SetClock:
    return SetClock()


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory, clock: SetClock) -> Iterator[SessionLedger]:
    """Sessions of three days: two of ada and one of bob, the last one today."""
    folder = tmp_path_factory.mktemp("analytics")
    with SessionLedger.open(f"sqlite:///{folder}/l.db", clock=clock, ids=CountedIds()) as opened:
        for day, (user, topic) in enumerate([("ada", "orders"), ("bob", "orders"), ("ada", "stock")]):
            clock.now = START + timedelta(days=4 * day)
            attributes = {"topic": topic, "number": day, "is_urgent": day == 2}
            sid = opened.create_session(user, session_id=f"s{day}", fields={"attribute": attributes})
            opened.update_session(sid, {"tool_calls": [{"name": "sql", "tables": [topic]}]})
            opened.update_tool_call_status(sid, "sql", "failed", TimeoutError("late"))
            opened.record_model_call(sid, "small", cost_usd=0.5, input_tokens=10)
            opened.add_message(sid, "user", "hi")
            opened.add_query(sid, "sql")
            opened.add_score(sid, "helpful", 1)
        yield opened


@pytest.fixture
def analytics(ledger: SessionLedger) -> Analytics:
    return Analytics(ledger)


def ids(answer) -> set[str]:
    return {row["session_id"] for row in answer}


@pytest.mark.parametrize("method", METHODS)
def test_an_answer_without_days_has_the_last_seven(analytics, method):
    seven, all_days = getattr(analytics, method)(), getattr(analytics, method)("2026-03-01")
    assert 0 < len(seven) <= len(all_days)
    assert seven.rows == getattr(analytics, method)(START.date() + timedelta(days=2), "2026-03-13").rows


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_has_the_rows_of_the_sessions_of_the_days_and_of_the_user(analytics, view):
    assert ids(analytics.view(view)) == {"s1", "s2"}
    assert ids(analytics.view(view, "2026-03-05", "2026-03-09")) == {"s0", "s1"}
    assert ids(analytics.view(view, last_day="2026-03-11")) == {"s0", "s1"}
    assert ids(analytics.view(view, "2026-03-01", user_id="ada")) == {"s0", "s2"}
    assert ids(analytics.view(view, "2026-03-01", user_id="ada", attributes={"topic": "stock"})) == {"s2"}


@pytest.mark.parametrize("view", VIEWS)
def test_rows_of_a_view_are_in_the_order_of_creation(analytics, view):
    rows = list(analytics.view(view, "2026-03-01"))
    keys = [(row["created_at"], row["session_id"], row.get("position", 0)) for row in rows]
    assert keys == sorted(keys)


def test_attributes_are_compared_as_what_they_are(analytics):
    def found(**attributes):
        return ids(analytics.sessions("2026-03-01", attributes=attributes))

    assert found(number=1) == found(number=1.0) == {"s1"}
    assert found(is_urgent=True) == {"s2"}
    assert found(topic="orders", number=0) == {"s0"}
    assert found(topic="' OR TRUE --") == found(number="1' OR '1") == set()


def test_an_attribute_is_chosen_by_name(analytics):
    assert {row["name"] for row in analytics.outcomes("2026-03-01")} == {"topic", "number", "is_urgent"}
    rows = analytics.attribute_distribution("2026-03-01", attribute="topic")
    assert [(row["value"], row["session_count"]) for row in rows] == [("orders", 2), ("stock", 1)]


def test_an_answer_is_a_frame_with_days_and_nullable_integers(analytics):
    frame = analytics.model_usage("2026-03-01").to_frame()
    assert list(frame["day"]) == [date(2026, 3, 5), date(2026, 3, 9), date(2026, 3, 13)]
    assert frame["input_token_count"].dtype == "Int64"
    assert frame["cached_input_token_count"].isna().all()
    assert frame["cost_usd"].sum() == 1.5


def test_an_answer_is_read_by_libraries_that_know_arrow_streams(analytics):
    import pyarrow

    answer = analytics.daily_activity("2026-03-01")
    assert pyarrow.RecordBatchReader.from_stream(answer).read_all() == answer.to_arrow()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"first_day": "yesterday"}, "first_day must be a date, or text such as 2026-11-30, not 'yesterday'"),
        ({"first_day": 3}, "not int"),
        ({"last_day": datetime(2026, 3, 1, tzinfo=UTC)}, "last_day must be a day in UTC such as 2026-11-30, no"),
        ({"first_day": "2026-03-02", "last_day": "2026-03-01"}, "first_day 2026-03-02 is after last_day 2026-03-01"),
        ({"user_id": ""}, "user_id"),
        ({"attributes": {"topic": ["orders"]}}, "text, a number or a boolean, not list"),
    ],
)
def test_arguments_that_cannot_be_read_are_refused(analytics, arguments, message):
    with pytest.raises(InvalidInput, match=message):
        analytics.sessions(**arguments)


def test_a_view_that_is_none_is_refused_with_those_that_are(analytics):
    with pytest.raises(InvalidInput, match="session_metrics"):
        analytics.view("session_metric")
    with pytest.raises(InvalidInput, match="lookback_days"):
        analytics.daily_activity(lookback_days=-1)


def test_the_view_of_one_user_has_no_analytics_over_everybody(ledger):
    with pytest.raises(PermissionDenied):
        Analytics(ledger.for_user("ada")).sessions()


def test_a_ledger_without_sessions_has_answers_without_rows(tmp_path: Path):
    with SessionLedger.open(f"sqlite:///{tmp_path / 'l.db'}") as empty:
        assert [len(getattr(Analytics(empty), method)()) for method in METHODS] == [0] * len(METHODS)
        assert list(Analytics(empty).sessions().to_frame().columns)[:2] == ["session_id", "day"]
