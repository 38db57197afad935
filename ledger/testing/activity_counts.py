"""The reference model of the table functions for dashboards, computed from what ``ledger.testing.activity`` gives."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ledger.model.events import RecordedEvent
from ledger.model.fold import fold
from ledger.model.prices import ModelPrice
from ledger.testing.activity import TOKENS, costs, in_order, items, metrics, text_of, total


@dataclass(frozen=True, slots=True)
class Span:
    """The arguments of the table functions: midnights in UTC, and for activity the days to look back."""

    first_day: datetime
    next_day: datetime
    lookback_days: int

    def creates(self, created_at: datetime) -> bool:
        """Return True if a session of this creation time is of the span."""
        return self.first_day <= created_at < self.next_day

    def reads(self, row: Mapping[str, Any]) -> bool:
        """Return True if the functions of activity count an item."""
        begun = self.first_day - timedelta(days=self.lookback_days) <= row["created_at"] < self.next_day
        return begun and self.first_day <= row["recorded_at"] < self.next_day and not row["is_copy"]


def by_day(rows: Iterable[Mapping[str, Any]], span: Span, *keys: str) -> list[dict[str, Any]]:
    """Return the rows of ``daily_activity`` or, with the key ``user_id``, of ``user_activity``, for items."""
    found = []
    for group, of_group in _grouped((row for row in rows if span.reads(row)), ("day", *keys)):
        kinds = {kind: [row for row in of_group if row["item_type"] == kind] for kind in _COUNTED}
        found.append(
            group
            | _owners(of_group)
            | {
                "message_count": len(kinds["message"]),
                "turn_count": sum(row["name"] == "user" for row in kinds["message"]),
                "tool_call_count": len(kinds["tool_call"]),
                "failed_tool_call_count": sum(row["is_error"] for row in kinds["tool_call"]),
                "model_call_count": len(kinds["model_call"]),
                "failed_model_call_count": sum(row["is_error"] for row in kinds["model_call"]),
                "input_token_count": total(row["input_token_count"] for row in of_group),
                "output_token_count": total(row["output_token_count"] for row in of_group),
                **costs(of_group),
                "error_count": sum(row["is_error"] for row in of_group),
            }
        )
    return found


def tool_usage(rows: Iterable[Mapping[str, Any]], span: Span) -> list[dict[str, Any]]:
    """Return the rows of ``tool_usage``, for items."""
    found = []
    calls = [{**row, "tool": row["name"]} for row in rows if row["item_type"] == "tool_call" and span.reads(row)]
    for group, of_group in _grouped(calls, ("day", "tool")):
        statuses = Counter(row["status"] for row in of_group)
        finished = statuses["completed"] + statuses["failed"]
        latencies = sorted(row["duration_ms"] for row in of_group if row["duration_ms"] is not None)
        found.append(
            group
            | _owners(of_group)
            | {
                "call_count": len(of_group),
                "completed_count": statuses["completed"],
                "failed_count": statuses["failed"],
                "failure_ratio": statuses["failed"] / finished if finished else None,
                "retry_count": sum(row["retry_count"] for row in of_group),
                "attempt_failure_count": sum(row["failure_count"] for row in of_group),
                "latency_p50_ms": _quantile(latencies, 50),
                "latency_p95_ms": _quantile(latencies, 95),
                "latency_max_ms": max(latencies, default=None),
            }
        )
    return found


def model_usage(rows: Iterable[Mapping[str, Any]], span: Span) -> list[dict[str, Any]]:
    """Return the rows of ``model_usage``, for items."""
    found = []
    calls = [{**row, "model": row["name"]} for row in rows if row["item_type"] == "model_call" and span.reads(row)]
    for group, of_group in _grouped(calls, ("day", "provider", "model")):
        failed = sum(row["is_error"] for row in of_group)
        durations = sorted(row["duration_ms"] for row in of_group if row["duration_ms"] is not None)
        first = sorted(row["time_to_first_token_ms"] for row in of_group if row["time_to_first_token_ms"] is not None)
        found.append(
            group
            | _owners(of_group)
            | {name: total(row[name] for row in of_group) for name in TOKENS}
            | costs(of_group)
            | {
                "call_count": len(of_group),
                "failed_count": failed,
                "failure_ratio": failed / len(of_group),
                "unpriced_count": sum(row["cost_usd"] is None for row in of_group),
                "duration_p50_ms": _quantile(durations, 50),
                "duration_p95_ms": _quantile(durations, 95),
                "time_to_first_token_p50_ms": _quantile(first, 50),
            }
        )
    return found


_COUNTED = ("message", "tool_call", "model_call")


def _grouped(
    rows: Iterable[Mapping[str, Any]], keys: Sequence[str]
) -> list[tuple[dict[str, Any], list[Mapping[str, Any]]]]:
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return [(dict(zip(keys, values, strict=True)), of_group) for values, of_group in groups.items()]


def _owners(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    found = {row["session_id"]: row["user_id"] for row in rows}
    return {"session_count": len(found), "user_count": len(set(found.values()))}


def _quantile(values: Sequence[float], percent: int) -> float | None:
    """Return the smallest of sorted values that at least so many percent of them do not exceed."""
    return values[math.ceil(len(values) * percent / 100) - 1] if values else None


def outcomes(
    histories: Iterable[Sequence[RecordedEvent]], span: Span, now: datetime, prices: Sequence[ModelPrice] = ()
) -> list[dict[str, Any]]:
    """Return the rows of ``outcomes`` for the events of each session, as of a query at the time ``now``."""
    rows = [
        {"name": name, "value": value, **metrics(events, now, prices)}
        for events in histories
        if span.creates(events[0].created_at)
        for name, value in _attributes(events).items()
    ]
    found = []
    for group, of_group in _grouped(rows, ("name", "value")):
        ended = Counter(row["outcome"] for row in of_group)
        rewards = [row["reward"] for row in of_group if row["reward"] is not None]
        successes = sum(row["is_success"] is True for row in of_group)
        known = sum(row["is_success"] is not None for row in of_group)
        found.append(
            group
            | {f"{outcome}_count": ended[outcome] for outcome in ("completed", "failed", "abandoned", "open")}
            | {
                "session_count": len(of_group),
                "success_count": successes,
                "unknown_count": sum(row["outcome"] == "completed" and row["is_success"] is None for row in of_group),
                "success_ratio": successes / known if known else None,
                "reward_average": sum(rewards) / len(rewards) if rewards else None,
                "turn_average": sum(row["turn_count"] for row in of_group) / len(of_group),
                "cost_usd": total(row["cost_usd"] for row in of_group),
                "estimated_cost_usd": total(row["estimated_cost_usd"] for row in of_group),
            }
        )
    return found


def attribute_distribution(histories: Iterable[Sequence[RecordedEvent]], span: Span) -> list[dict[str, Any]]:
    """Return the rows of ``attribute_distribution`` for the events of each session."""
    rows = [
        {"name": name, "value": value, "session_id": events[0].session_id, "user_id": events[0].user_id}
        for events in histories
        if span.creates(events[0].created_at)
        for name, value in _attributes(events).items()
    ]
    of_name = Counter(row["name"] for row in rows)
    return [
        group | _owners(of_group) | {"session_ratio": len(of_group) / of_name[group["name"]]}
        for group, of_group in _grouped(rows, ("name", "value"))
    ]


def cohorts(histories: Iterable[Sequence[RecordedEvent]], span: Span, now: datetime) -> list[dict[str, Any]]:
    """Return the rows of ``cohorts`` for the events of each session, as of a query at the time ``now``."""
    begun = [events[0] for events in histories if span.creates(events[0].created_at)]
    weeks = [(event.user_id, event.created_at.date() - timedelta(event.created_at.weekday())) for event in begun]
    first = {user: min(week for owner, week in weeks if owner == user) for user, _ in weeks}
    visits = [(first[user], (week - first[user]).days // 7, user) for user, week in weeks]
    last = (min(span.next_day, now) - timedelta(microseconds=1)).date()
    found = []
    for week, size in Counter(first.values()).items():
        of_cohort = [(number, user) for cohort, number, user in visits if cohort == week]
        for number in range(max((last - week).days // 7, max(of_cohort)[0]) + 1):
            users = [user for visited, user in of_cohort if visited == number]
            active = len(set(users))
            counts = {"user_count": size, "active_user_count": active, "session_count": len(users)}
            group = {"cohort_week": week, "week_number": number}
            found.append(group | counts | {"retention_ratio": active / size})
    return found


def top_assets(histories: Iterable[Sequence[RecordedEvent]], span: Span) -> list[dict[str, Any]]:
    """Return the rows of ``top_assets`` for the events of each session."""
    rows = []
    for events in histories:
        if not span.creates(events[0].created_at):
            continue
        state = fold(in_order(events))
        recorded = {event.position: event.recorded_at for event in events}
        for row in items(events):
            if row["item_type"] != "tool_call" or not row["is_current"] or row["is_copy"]:
                continue
            planned = state.get(("tool_call", row["item_id"])) or state["tool_call_status", row["item_id"]]
            at = {"planned_at": recorded[planned.version, planned.event_id]}
            rows += [{**row, **at, "asset": asset} for asset in _assets(planned.value)]
    found = []
    for group, of_group in _grouped(rows, ("asset",)):
        statuses = Counter(row["status"] for row in of_group)
        counts = {f"{status}_count": statuses[status] for status in ("completed", "failed")}
        last = {"last_planned_at": max(row["planned_at"] for row in of_group)}
        found.append(group | _owners(of_group) | counts | last | {"call_count": len(of_group)})
    return found


def _assets(definition: Any) -> set[str]:
    """Return the tables that the definition of a call names, as text or by their name."""
    tables = definition.get("tables") if isinstance(definition, dict) else None
    named = [table.get("name") if isinstance(table, dict) else table for table in tables or []]
    return {text for value in named if (text := text_of(value)) is not None}


def storage_growth(histories: Iterable[Sequence[RecordedEvent]], span: Span) -> list[dict[str, Any]]:
    """Return the rows of ``storage_growth``, without its characters, for the recorded events of each session."""
    rows = [
        {"day": event.recorded_at.date(), "session_id": event.session_id, "event_id": event.event_id}
        for events in histories
        for event in events
        if span.reads({"created_at": event.created_at, "recorded_at": event.recorded_at, "is_copy": False})
        for _ in event.changes
    ]
    found, sum_of_rows = [], 0
    for group, of_group in sorted(_grouped(rows, ("day",)), key=lambda each: each[0]["day"]):
        sum_of_rows += len(of_group)
        events_of_day = {(row["session_id"], row["event_id"]) for row in of_group}
        sessions = {row["session_id"] for row in of_group}
        counts = {"event_count": len(events_of_day), "session_count": len(sessions)}
        found.append(group | counts | {"row_count": len(of_group), "total_row_count": sum_of_rows})
    return found


def _attributes(events: Iterable[RecordedEvent]) -> dict[str, str | None]:
    """Return the attributes of a session, each value as text; an erased one is None."""
    state = fold(in_order(events))
    held = {key: value for (field, key), value in state.items() if field == "attribute"}
    return {
        key: None if value.text is None else value.text if text_of(value.value) is None else text_of(value.value)
        for key, value in held.items()
    }
