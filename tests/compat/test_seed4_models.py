"""Seed 4, analysis sessions: the core models."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from pydantic import ValidationError

from ledger.compat.analysis_sessions import (
    AnalysisHistory,
    QueryRecord,
    Session,
    SessionState,
    SessionSummary,
    SessionType,
)
from ledger.testing import START
from support.analysis import price

# Core models


def test_session_type_has_equity_crypto_portfolio_comparative_and_macro() -> None:
    assert {kind.name: kind.value for kind in SessionType} == {
        "EQUITY": "equity",
        "CRYPTO": "crypto",
        "PORTFOLIO": "portfolio",
        "COMPARATIVE": "comparative",
        "MACRO": "macro",
    }


def test_query_record_tracks_a_query_with_parameters_results_and_timing() -> None:
    query = QueryRecord(
        query_type="price",
        parameters={"symbol": "AAPL"},
        result_summary="AAPL: $175.43 (+2.3%)",
        cache_hit=True,
        execution_time_ms=12.5,
    )
    assert (query.query_type, query.parameters) == ("price", {"symbol": "AAPL"})
    assert (query.result_summary, query.cache_hit, query.execution_time_ms) == ("AAPL: $175.43 (+2.3%)", True, 12.5)
    assert query.timestamp.tzinfo is not None
    assert query.query_id != QueryRecord(query_type="price").query_id


def test_analysis_history_tracks_the_cache_hit_rate_and_running_statistics() -> None:
    history = AnalysisHistory()
    assert (history.total_queries, history.cache_hit_rate, history.last_query) == (0, 0.0, None)
    for number in range(4):
        history.add_query(price(cache_hit=number == 0, execution_time_ms=number))
    history.add_query(QueryRecord(query_type="news"))
    assert (history.total_queries, history.cache_hits, history.cache_hit_rate) == (5, 1, 0.2)
    assert history.query_types == {"price": 4, "news": 1}
    assert history.average_execution_time_ms == 1.5


def test_session_state_stores_context_preferences_and_intermediate_results() -> None:
    state = SessionState()
    state.update_context("preference", "detailed")
    state.set_preference("currency", "EUR")
    state.store_intermediate_result("correlation", [[1, 0.8]])
    assert state.get_context("preference") == "detailed"
    assert state.get_preference("currency") == "EUR"
    assert state.get_intermediate_result("correlation") == [[1, 0.8]]
    assert (state.get_context("no"), state.get_preference("no", 1), state.get_intermediate_result("no")) == (
        *(None, 1, None),
    )


def test_automatic_timestamp_tracking() -> None:
    session = Session(assets=["AAPL"])
    before = session.last_accessed_at
    session.add_query(QueryRecord(query_type="price"))
    assert session.last_accessed_at >= before >= session.created_at
    assert session.duration >= timedelta(0)


def test_expiration_and_ttl_management() -> None:
    session = Session(expires_at=START)
    assert session.is_expired
    assert session.time_remaining == timedelta(0)
    assert not session.is_expired_at(START - timedelta(seconds=1))
    assert not Session().is_expired
    assert Session().time_remaining is None


def test_serialization_support_to_and_from_dict() -> None:
    session = Session(user_id="ada", type=SessionType.CRYPTO, assets=["BTC"], tags=["weekly"], expires_at=START)
    session.add_query(price(cache_hit=True))
    session.state.update_context("topic", "volatility")
    data = session.to_dict()
    assert json.loads(json.dumps(data)) == data
    assert data["state"]["history"]["total_queries"] == 1
    assert data["state"]["history"]["cache_hit_rate"] == 1.0
    assert Session.from_dict(data) == session
    with pytest.raises(ValidationError):
        Session.from_dict({"nonsense": 1})


def test_session_summary_is_a_lightweight_summary_for_listing() -> None:
    session = Session(user_id="ada", assets=["AAPL"], tags=["x"])
    session.add_query(price(cache_hit=True))
    summary = SessionSummary.from_session(session)
    assert (summary.id, summary.user_id, summary.assets, summary.tags) == (session.id, "ada", ["AAPL"], ["x"])
    assert (summary.total_queries, summary.cache_hit_rate, summary.is_archived) == (1, 1.0, False)
