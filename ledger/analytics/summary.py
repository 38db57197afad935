"""What a period was like beside the one before: sessions, messages, tools, models, in totals that cannot be added up.

A number that nobody knows is None: the success ratio where no session has ended, tokens that no call told, the latency
of calls that never finished. A count is never None.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from typing import Any

from ledger.errors import InvalidInput
from ledger.warehouse import catalog
from ledger.warehouse.base import Warehouse

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ToolTotals:
    """The calls of a tool in a period. Latencies are of the last attempts, in milliseconds."""

    tool: str | None
    call_count: int
    failed_count: int
    failure_ratio: float | None
    retry_count: int | None
    latency_p50_ms: float | None
    latency_p95_ms: float | None


@dataclass(frozen=True, slots=True)
class ModelTotals:
    """The calls of a model in a period. Tokens and prices are sums of those that are known."""

    provider: str | None
    model: str | None
    call_count: int
    failed_count: int
    input_token_count: int | None
    output_token_count: int | None
    cost_usd: float | None
    unpriced_count: int
    duration_p50_ms: float | None
    duration_p95_ms: float | None


@dataclass(frozen=True, slots=True)
class Totals:
    """What a period was like.

    Attributes:
        first_day, last_day: The period, in UTC.
        session_count: Number of sessions that were created.
        completed_count, failed_count, abandoned_count, open_count: Number of these by outcome; see ``session_metrics``.
        success_ratio: Successes per session of which it is known, 0 to 1; see ``session_metrics``.
        session_duration_p50_ms, session_duration_p95_ms: Median and 95th percentile of their durations.
        active_session_count, user_count: Number of sessions in which something happened, and of their owners.
        message_count, turn_count: Number of messages, and of those of the role user.
        tool_call_count, failed_tool_call_count, tool_failure_ratio: Number of tool calls, of those that failed, and
            failed calls per finished call.
        tool_latency_p50_ms, tool_latency_p95_ms: Median and 95th percentile of the latencies of tool calls.
        model_call_count, failed_model_call_count: Number of model calls, and of those that failed.
        model_duration_p50_ms, model_duration_p95_ms: Median and 95th percentile of their durations.
        input_token_count, output_token_count, cost_usd: Sums of the tokens and prices that are known.
        unpriced_count: Number of model calls without a price.
        error_count: Number of errors: of sessions, messages, tool calls and model calls.
        tools, models: The same by tool and by model, the ones with the most failures, or the most calls, first.
    """

    first_day: date
    last_day: date
    session_count: int
    completed_count: int
    failed_count: int
    abandoned_count: int
    open_count: int
    success_ratio: float | None
    session_duration_p50_ms: float | None
    session_duration_p95_ms: float | None
    active_session_count: int
    user_count: int
    message_count: int
    turn_count: int
    tool_call_count: int
    failed_tool_call_count: int
    tool_failure_ratio: float | None
    tool_latency_p50_ms: float | None
    tool_latency_p95_ms: float | None
    model_call_count: int
    failed_model_call_count: int
    model_duration_p50_ms: float | None
    model_duration_p95_ms: float | None
    input_token_count: int | None
    output_token_count: int | None
    cost_usd: float | None
    unpriced_count: int
    error_count: int
    tools: tuple[ToolTotals, ...]
    models: tuple[ModelTotals, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """A period beside the one before, which has as many days.

    Attributes:
        current, before: The two periods.
        days: The days of the current period, each with the columns of ``daily_activity``.
    """

    current: Totals
    before: Totals
    days: tuple[Row, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as an object of JSON values and dates, as ``ledger stats --json`` prints it."""
        return asdict(self)


def read_summary(warehouse: Warehouse, first_day: datetime, next_day: datetime, lookback_days: int) -> Summary:
    """Return what a period and the one before were like.

    Args:
        warehouse: The warehouse.
        first_day, next_day: The midnights in UTC that begin the first day and end the last one.
        lookback_days: Days before the first of the two periods on which sessions that are still worked in may have
            begun.

    Raises:
        InvalidInput: The period before, or the days to look back, would begin before the year 1.

    Source: sql/statements/sum_sessions.sql, sql/statements/sum_items.sql, sql/functions/daily_activity.sql
    """
    span = next_day - first_day
    try:
        begin = first_day - span
        created_from = {"created_from": begin - timedelta(days=lookback_days)}
    except OverflowError as error:
        raise InvalidInput("The days before the period would begin before the year 1; ask for fewer.") from error
    both = {"first_day": begin, "middle_day": first_day, "next_day": next_day}
    sessions = warehouse.query(catalog.query("sum_sessions"), both, operation="sum_sessions")
    items = list(warehouse.query(catalog.query("sum_items"), both | created_from, operation="sum_items"))
    days = warehouse.query(
        "SELECT * FROM daily_activity(@first_day, @next_day, @lookback_days) ORDER BY day",
        {"first_day": first_day, "next_day": next_day, "lookback_days": lookback_days + span.days},
    )
    outcomes = {row["in_period"]: row for row in sessions}

    def totals(in_period: bool, start: datetime) -> Totals:
        rows = [row for row in items if row["in_period"] == in_period]
        return _totals(outcomes.get(in_period, {}), rows, start.date(), (start + span).date() - timedelta(days=1))

    found = {row["day"]: row for row in days}
    dates = [first_day.date() + timedelta(days=number) for number in range(span.days)]
    all_days = tuple(found.get(day) or _empty_day(day, days.columns) for day in dates)
    return Summary(totals(True, first_day), totals(False, begin), all_days)


def _totals(outcomes: Row, rows: Iterable[Row], first_day: date, last_day: date) -> Totals:
    by_level = {(row["grouping_level"], row["item_type"], row["name"]): row for row in rows}
    everything: Row = by_level.get(("all", None, None), {})
    calls: Row = by_level.get(("type", "tool_call", None), {})
    model_calls: Row = by_level.get(("type", "model_call", None), {})
    return Totals(
        first_day=first_day,
        last_day=last_day,
        session_count=outcomes.get("session_count", 0),
        completed_count=outcomes.get("completed_count", 0),
        failed_count=outcomes.get("failed_count", 0),
        abandoned_count=outcomes.get("abandoned_count", 0),
        open_count=outcomes.get("open_count", 0),
        success_ratio=outcomes.get("success_ratio"),
        session_duration_p50_ms=outcomes.get("duration_p50_ms"),
        session_duration_p95_ms=outcomes.get("duration_p95_ms"),
        active_session_count=everything.get("session_count", 0),
        user_count=everything.get("user_count", 0),
        message_count=by_level.get(("type", "message", None), {}).get("item_count", 0),
        turn_count=by_level.get(("name", "message", "user"), {}).get("item_count", 0),
        tool_call_count=calls.get("item_count", 0),
        failed_tool_call_count=calls.get("error_count", 0),
        tool_failure_ratio=_ratio(calls),
        tool_latency_p50_ms=calls.get("duration_p50_ms"),
        tool_latency_p95_ms=calls.get("duration_p95_ms"),
        model_call_count=model_calls.get("item_count", 0),
        failed_model_call_count=model_calls.get("error_count", 0),
        model_duration_p50_ms=model_calls.get("duration_p50_ms"),
        model_duration_p95_ms=model_calls.get("duration_p95_ms"),
        input_token_count=model_calls.get("input_token_count"),
        output_token_count=model_calls.get("output_token_count"),
        cost_usd=model_calls.get("cost_usd"),
        unpriced_count=model_calls.get("unpriced_count", 0),
        error_count=everything.get("error_count", 0),
        tools=_tools(rows),
        models=_models(rows),
    )


def _tools(rows: Iterable[Row]) -> tuple[ToolTotals, ...]:
    found = [
        ToolTotals(
            tool=row["name"],
            call_count=row["item_count"],
            failed_count=row["error_count"],
            failure_ratio=_ratio(row),
            retry_count=row["retry_count"],
            latency_p50_ms=row["duration_p50_ms"],
            latency_p95_ms=row["duration_p95_ms"],
        )
        for row in _named(rows, "tool_call")
    ]
    return tuple(sorted(found, key=lambda it: (-it.failed_count, -it.call_count, it.tool or "")))


def _models(rows: Iterable[Row]) -> tuple[ModelTotals, ...]:
    found = [
        ModelTotals(
            provider=row["provider"],
            model=row["name"],
            call_count=row["item_count"],
            failed_count=row["error_count"],
            input_token_count=row["input_token_count"],
            output_token_count=row["output_token_count"],
            cost_usd=row["cost_usd"],
            unpriced_count=row["unpriced_count"],
            duration_p50_ms=row["duration_p50_ms"],
            duration_p95_ms=row["duration_p95_ms"],
        )
        for row in _named(rows, "model_call")
    ]
    return tuple(sorted(found, key=lambda it: (-(it.cost_usd or 0), -it.call_count, it.provider or "", it.model or "")))


def _named(rows: Iterable[Row], item_type: str) -> list[Row]:
    return [row for row in rows if row["grouping_level"] == "name" and row["item_type"] == item_type]


def _ratio(calls: Row) -> float | None:
    """Return failed calls per finished call; None if none has finished."""
    finished = calls.get("finished_count")
    ratio: float | None = calls["error_count"] / finished if finished else None
    return ratio


def _empty_day(day: date, columns: Iterable[str]) -> dict[str, Any]:
    """Return the row of a day on which nothing happened: counts are 0, sums are not known."""
    unknown = ("input_token_count", "output_token_count", "cost_usd", "estimated_cost_usd")
    return {name: None if name in unknown else 0 for name in columns} | {"day": day}
