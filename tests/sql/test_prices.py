"""Prices of model calls from the price list: by day and provider, cached tokens apart, recorded ones first."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from ledger import InvalidInput, ModelPrice, PermissionDenied, SessionLedger, StoreRejected
from ledger.analytics import Analytics
from ledger.testing import CountedIds, SetClock

pytestmark = pytest.mark.duckdb
PRICES = [
    ModelPrice("m", date(2026, 1, 1), 1, 10, 0.5),
    ModelPrice("m", date(2026, 3, 1), 2, 20),
    ModelPrice("m", date(2026, 2, 1), 4, 40, 0, "p"),
    ModelPrice("embed", date(2026, 1, 1), 3, 0),
]
MILLION = 1_000_000


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SessionLedger]:
    clock = SetClock()
    with SessionLedger.open(f"sqlite:///{tmp_path / 'l.db'}", clock=clock, ids=CountedIds()) as opened:
        yield opened


def costs(ledger: SessionLedger, tmp_path: Path) -> list[tuple[float | None, str | None]]:
    """Price and source of each call, which the warehouse and the file tell alike."""
    sql = "SELECT cost_usd, cost_source FROM model_calls ORDER BY position"
    with closing(sqlite3.connect(tmp_path / "l.db")) as connection:
        in_file = connection.execute(sql).fetchall()
    found = [(row["cost_usd"], row["cost_source"]) for row in ledger.sql(sql)]
    assert found == in_file
    items = "SELECT cost_usd, cost_source FROM session_items WHERE item_type = 'model_call'"
    assert sorted(ledger.sql(items).rows, key=str) == sorted(found, key=str)
    return found


@pytest.mark.parametrize(
    ("day", "call", "cost"),
    [
        ((2025, 12, 31), {"input_tokens": MILLION, "output_tokens": MILLION}, None),
        ((2026, 1, 1), {"input_tokens": MILLION, "output_tokens": MILLION}, 11.0),
        ((2026, 2, 28), {"input_tokens": MILLION, "output_tokens": 0, "cached_input_tokens": MILLION // 2}, 0.75),
        ((2026, 3, 1), {"input_tokens": MILLION, "output_tokens": MILLION}, 22.0),
        ((2026, 3, 1), {"input_tokens": MILLION, "output_tokens": 0, "cached_input_tokens": MILLION}, 2.0),
        ((2026, 1, 31), {"input_tokens": MILLION, "output_tokens": 0, "provider": "p"}, 1.0),
        ((2026, 2, 1), {"input_tokens": MILLION, "output_tokens": 0, "provider": "p"}, 4.0),
        ((2026, 2, 1), {"input_tokens": MILLION, "output_tokens": 0, "provider": "q"}, 1.0),
        ((2026, 1, 1), {"output_tokens": MILLION}, None),
        ((2026, 1, 1), {"input_tokens": MILLION}, None),
        ((2026, 1, 1), {}, None),
        ((2026, 1, 1), {"input_tokens": 0, "output_tokens": 0}, 0.0),
    ],
)
def test_a_call_without_a_price_costs_what_its_tokens_cost_on_its_day(
    ledger: SessionLedger, tmp_path: Path, day: tuple[int, int, int], call: dict[str, Any], cost: float | None
) -> None:
    ledger.import_model_prices(PRICES)
    session = ledger.create_session("ann", "?")
    at = datetime(*day, 23, 59, tzinfo=UTC)
    ledger.record_model_call(session, "m", **call, occurred_at=at)
    assert costs(ledger, tmp_path) == [(cost, None if cost is None else "estimated")]


def test_recorded_prices_stay_and_sums_tell_the_estimated_part(ledger: SessionLedger, tmp_path: Path) -> None:
    session = ledger.create_session("ann", "?")
    tokens = {"input_tokens": MILLION, "output_tokens": 0}
    ledger.record_model_call(session, "m", cost_usd=0.25, **tokens)
    ledger.record_model_call(session, "m", **tokens)
    ledger.record_model_call(session, "embed", input_tokens=MILLION)
    ledger.record_model_call(session, "unheard-of", **tokens)
    without = [(0.25, "recorded"), (None, None), (None, None), (None, None)]
    assert costs(ledger, tmp_path) == without
    assert ledger.import_model_prices(PRICES) == len(PRICES)
    assert costs(ledger, tmp_path) == [(0.25, "recorded"), (2.0, "estimated"), (3.0, "estimated"), (None, None)]
    day = ledger.get_session(session).created_at.date()
    analytics = Analytics(ledger)
    for answer in (
        analytics.sessions(day, day),
        analytics.daily_activity(day, day),
        analytics.user_activity(day, day),
    ):
        assert (answer[0]["cost_usd"], answer[0]["estimated_cost_usd"]) == (5.25, 5.0)
    by_model = {row["model"]: row for row in analytics.model_usage(day, day)}
    assert (by_model["m"]["cost_usd"], by_model["m"]["estimated_cost_usd"]) == (2.25, 2.0)
    assert [tuple(row.values()) for row in analytics.unpriced_models(day, day)] == [(None, "unheard-of", 1, day, day)]
    (tmp_path / "l.duckdb").unlink()
    assert costs(ledger, tmp_path)[1] == (2.0, "estimated"), "the file keeps the list, for a warehouse created anew"
    ledger.import_model_prices([], replace=True)
    assert ledger.model_prices() == []
    assert costs(ledger, tmp_path) == without


def test_an_import_adds_to_the_list_and_replaces_prices_of_the_same_day(ledger: SessionLedger) -> None:
    ledger.import_model_prices(PRICES)
    changed = ModelPrice("m", date(2026, 1, 1), 9, 9)
    ledger.import_model_prices([changed, ModelPrice("n", date(2026, 1, 1), 1, 1)])
    held = {price.key: price for price in ledger.model_prices()}
    assert held[changed.key] == changed
    assert len(held) == len(PRICES) + 1
    assert ledger.import_model_prices([]) == 0
    assert len(ledger.model_prices()) == len(held)


def test_the_view_of_a_user_a_ledger_that_is_only_read_and_two_prices_of_a_day_are_refused(
    ledger: SessionLedger, tmp_path: Path
) -> None:
    with pytest.raises(PermissionDenied):
        ledger.for_user("ann").import_model_prices(PRICES)
    with pytest.raises(PermissionDenied):
        ledger.for_user("ann").model_prices()
    with pytest.raises(InvalidInput, match="two prices of m of p from 2026-02-01 on"):
        ledger.import_model_prices([PRICES[2], PRICES[2]])
    ledger.import_model_prices(PRICES[:1])
    with SessionLedger.open(f"sqlite:///{tmp_path / 'l.db'}?mode=ro") as reader:
        assert reader.model_prices() == PRICES[:1]
        with pytest.raises(StoreRejected):
            reader.import_model_prices(PRICES)
    assert ledger.model_prices() == PRICES[:1]
