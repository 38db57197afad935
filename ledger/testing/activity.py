"""The reference model of ``session_items`` and ``session_metrics``, computed from all events of a session.

Each function is written for clarity, and shares nothing with the views but ``ledger.model.call_times``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

from ledger.model.call_times import CallTimes, call_times
from ledger.model.events import RecordedChange, RecordedEvent
from ledger.model.instants import from_text
from ledger.model.prices import ModelPrice

#: Fields whose values are items, with the part of a value that names the item.
_NAMES = {"message": "role", "model_call": "model", "query": "query_type", "score": "name", "error": ""}
_DURATIONS = {"message": "processing_time_ms", "model_call": "duration_ms", "query": "execution_time_ms"}
_CALL = ("tool_call", "tool_call_status", "tool_call_result")
#: Fields that say nothing about when somebody last worked in a session.
_LIFECYCLE = ("expires_at", "grant", "child", "lineage", "score", "tag", "title")
#: A session in which nothing happened for so long is abandoned.
IDLE = timedelta(hours=24)

Write = tuple[RecordedEvent, RecordedChange]


def in_order(events: Iterable[RecordedEvent]) -> list[RecordedEvent]:
    """Return each event once, in the order (version, event_id)."""
    return [event for _, event in sorted({event.position: event for event in events}.items())]


def items(events: Iterable[RecordedEvent], prices: Sequence[ModelPrice] = ()) -> list[dict[str, Any]]:
    """Return the rows of ``session_items`` of one session, each with all columns.

    Args:
        events: The session's events.
        prices: The rows of ``model_prices``.
    """
    ordered = in_order(events)
    writes: dict[tuple[str, str], list[Write]] = {}
    for event in ordered:
        for change in event.changes:
            if change.field in _NAMES or change.field in _CALL:
                kind = "tool_call" if change.field in _CALL else change.field
                writes.setdefault((kind, change.key), []).append((event, change))
    times = call_times(ordered)
    found = []
    for (kind, key), of_item in writes.items():
        if kind == "tool_call":
            if any(change.field != "tool_call_result" for _, change in of_item):
                found.append(_call(key, of_item, times.get(key, CallTimes())))
        elif any(not change.removed for _, change in of_item):
            found.append(_item(kind, key, of_item, prices))
    return found


def _is_copy(event: RecordedEvent) -> bool:
    """Return whether a fork wrote the event to copy another session."""
    return event.event_type == "session.copied" or any(change.field == "lineage" for change in event.changes)


def _row(kind: str, key: str, first: RecordedEvent) -> dict[str, Any]:
    """Return a row with the columns of the first event; of all others, the row has NULL or False."""
    columns = (
        *("name", "status", "provider", "error_type", "error_message", "duration_ms", "time_to_first_token_ms"),
        *("retry_count", "failure_count", "token_count", *TOKENS, "cost_usd", "cost_source", "is_cache_hit"),
        "score",
    )
    empty = dict.fromkeys(columns)
    return empty | {
        "session_id": first.session_id,
        "item_type": kind,
        "item_id": key,
        "is_copy": _is_copy(first),
        "is_error": False,
        "day": first.recorded_at.date(),
        "actor": first.actor,
        "occurred_at": first.occurred_at,
        "recorded_at": first.recorded_at,
        "user_id": first.user_id,
        "created_at": first.created_at,
    }


def _item(kind: str, key: str, writes: Sequence[Write], prices: Sequence[ModelPrice]) -> dict[str, Any]:
    set_ = [(event, change) for event, change in writes if not change.removed]
    row = _row(kind, key, set_[0][0])
    value = set_[-1][1].value
    row["is_current"] = not writes[-1][1].removed
    is_object = isinstance(value, dict)
    parts = value if is_object else {}
    if kind == "message" and set_[-1][1].text is None:
        row["name"] = "erased"
    elif kind != "error":
        row["name"] = text_of(parts.get(_NAMES[kind]))
    if kind in ("message", "model_call", "error"):
        error = value if kind == "error" else parts.get("error")
        row["is_error"] = error is not None and error is not False
        about = error if isinstance(error, dict) else {}
        row["error_type"] = text_of(about.get("type"))
        message = text_of(about.get("message"))
        row["error_message"] = text_of(error) if message is None else message
    if kind in _DURATIONS:
        row["duration_ms"] = _positive(parts.get(_DURATIONS[kind]))
    if kind == "message":
        row["token_count"] = parts.get("token_count")
    if kind == "model_call":
        row["provider"] = text_of(parts.get("provider"))
        row["time_to_first_token_ms"] = _positive(parts.get("time_to_first_token_ms"))
        for name in ("input", "output", "cached_input", "reasoning"):
            row[f"{name}_token_count"] = parts.get(f"{name}_tokens")
        row |= cost_of(parts, set_[-1][0].occurred_at.date(), prices)
    if kind == "query":
        row["is_cache_hit"] = parts.get("cache_hit") if isinstance(parts.get("cache_hit"), bool) else None
    if kind == "score":
        score = parts.get("value")
        row["score"] = float(score) if isinstance(score, bool | int | float) else None
    return row


def cost_of(call: Mapping[str, Any], day: date, prices: Sequence[ModelPrice]) -> dict[str, Any]:
    """Return ``cost_usd`` and ``cost_source`` of a model call that occurred on a day.

    Args:
        call: The value of the field ``model_call``.
        day: The day, in UTC.
        prices: The rows of ``model_prices``.
    """
    if call.get("cost_usd") is not None:
        return {"cost_usd": float(call["cost_usd"]), "cost_source": "recorded"}
    estimate = _estimated_cost(call, day, prices)
    return {"cost_usd": estimate, "cost_source": None if estimate is None else "estimated"}


def _estimated_cost(call: Mapping[str, Any], day: date, prices: Sequence[ModelPrice]) -> float | None:
    price = price_on(day, text_of(call.get("model")), text_of(call.get("provider")), prices)
    tokens, written = call.get("input_tokens"), call.get("output_tokens")
    if price is None or tokens is None or (written is None and price.output_usd_per_million != 0):
        return None
    cached = min(max(call.get("cached_input_tokens") or 0, 0), tokens)
    of_cached = price.cached_input_usd_per_million
    of_cached = price.input_usd_per_million if of_cached is None else of_cached
    parts = float(tokens - cached) * price.input_usd_per_million + float(cached) * of_cached
    return (parts + float(written or 0) * price.output_usd_per_million) / 1_000_000


def price_on(day: date, model: str | None, provider: str | None, prices: Sequence[ModelPrice]) -> ModelPrice | None:
    """Return the price of a model on a day: of its provider or else of any provider; None if there is none."""
    for wanted in (provider, ""):
        begun = [it for it in prices if (it.model, it.provider) == (model, wanted) and it.valid_from <= day]
        if begun:
            return max(begun, key=lambda it: it.valid_from)
    return None


def _call(key: str, writes: Sequence[Write], times: CallTimes) -> dict[str, Any]:
    row = _row("tool_call", key, writes[0][0])
    last = {change.field: change for _, change in writes}
    names = [change for _, change in writes if change.field == "tool_call" and not change.removed]
    statuses = [change for _, change in writes if change.field == "tool_call_status" and not change.removed]
    name = text_of(names[-1].value.get("name")) if names and names[-1].text is not None else None
    status = statuses[-1].value if statuses else None
    current = [last[field] for field in _CALL[:2] if field in last and not last[field].removed]
    row |= {"name": key if name is None else name, "status": status or "pending", "is_current": bool(current)}
    row |= {"duration_ms": times.latency_ms, "retry_count": times.retry_count, "failure_count": times.failure_count}
    row["is_error"] = status == "failed"
    result = last.get("tool_call_result")
    if status == "failed" and result is not None and not result.removed:
        value = result.value
        about = value if isinstance(value, dict) else {}
        row["error_type"] = text_of(about.get("type"))
        messages = [text_of(about.get("message")), text_of(about.get("error")), text_of(value)]
        row["error_message"] = next((it for it in messages if it is not None), None)
    return row


def text_of(value: Any) -> str | None:
    """Return a scalar as JSON_VALUE does, of the values that the tests use; None for null, objects and arrays."""
    if value is None or isinstance(value, dict | list):
        return None
    return str(value).lower() if isinstance(value, bool) else str(value)


def _positive(value: Any) -> float | None:
    return float(value) if value is not None and value >= 0 else None


def metrics(events: Iterable[RecordedEvent], now: datetime, prices: Sequence[ModelPrice] = ()) -> dict[str, Any]:
    """Return the row of ``session_metrics`` of one session, as of a query at the time ``now``; see ``items``."""
    ordered = in_order(events)
    rows = items(ordered, prices)
    state: dict[tuple[str, str], RecordedChange] = {}
    outcome = None
    active: list[datetime] = []
    for event in ordered:
        for change in event.changes:
            state[change.field, change.key] = change
            value = change.value
            is_end = change.field == "status" and value in ("completed", "failed")
            if is_end or (change.field == "status" and value == "active"):
                outcome = value
            if is_end or (change.field not in _LIFECYCLE and change.field != "status"):
                active.append(event.occurred_at)
    current = {name: change.value for (name, key), change in state.items() if not change.removed and key == ""}
    started, updated = min(e.occurred_at for e in ordered), max(e.recorded_at for e in ordered)
    expires_at = current.get("expires_at")
    if outcome not in ("completed", "failed"):
        is_over = current.get("status") in ("expired", "archived", "deleted")
        is_over = is_over or (expires_at is not None and from_text(expires_at) <= now) or updated < now - IDLE
        outcome = "abandoned" if is_over else "open"
    reward = state.get(("attribute", "reward"))
    has_reward, value = reward is not None and not reward.removed, None if reward is None else reward.value
    number = float(value) if has_reward and isinstance(value, int | float) else None
    completed = (None if number is None else number >= 1) if has_reward else True
    success = {"completed": completed, "open": None}.get(outcome, False)
    of_kind = {kind: [row for row in rows if row["item_type"] == kind and row["is_current"]] for kind in _KINDS}
    roles = Counter(row["name"] for row in of_kind["message"])
    statuses = Counter(row["status"] for row in of_kind["tool_call"])
    made = [row for row in rows if row["item_type"] == "model_call" and not row["is_copy"]]
    calls = of_kind["tool_call"]
    hits = Counter(row["is_cache_hit"] for row in of_kind["query"])
    known = hits[True] + hits[False]
    last = max(active, default=None)
    first = ordered[-1]
    return {
        "session_id": first.session_id,
        "day": first.created_at.date(),
        "status": current.get("status"),
        "outcome": outcome,
        "is_success": success,
        "reward": number,
        "session_type": current.get("session_type"),
        "version": first.version,
        "event_count": len(ordered),
        "started_at": started,
        "last_activity_at": last,
        "duration_ms": (last - started) / timedelta(milliseconds=1) if last is not None and last >= started else None,
        "message_count": roles.total(),
        "turn_count": roles["user"],
        **{f"{role}_message_count": roles[role] for role in ("assistant", "system", "tool")},
        "other_message_count": sum(n for role, n in roles.items() if role not in _ROLES),
        "message_token_count": total(row["token_count"] for row in of_kind["message"]),
        "tool_call_count": len(calls),
        **{f"{status}_tool_call_count": statuses[status] for status in ("pending", "running", "completed", "failed")},
        "tool_retry_count": sum(row["retry_count"] for row in calls),
        "tool_failure_count": sum(row["failure_count"] for row in calls),
        "tool_latency_total_ms": total(row["duration_ms"] for row in calls),
        "tool_latency_max_ms": max(
            (row["duration_ms"] for row in calls if row["duration_ms"] is not None), default=None
        ),
        "model_call_count": len(made),
        "failed_model_call_count": sum(row["is_error"] for row in made),
        "model_duration_total_ms": total(row["duration_ms"] for row in made),
        **{name: total(row[name] for row in made) for name in TOKENS},
        **costs(made),
        "query_count": len(of_kind["query"]),
        "cache_hit_count": hits[True],
        "cache_hit_ratio": hits[True] / known if known else None,
        "error_count": sum(row["is_error"] for row in rows if row["is_current"]),
        "updated_at": updated,
        "user_id": first.user_id,
        "created_at": first.created_at,
    }


_KINDS = ("message", "tool_call", "query")
_ROLES = ("user", "assistant", "system", "tool")
TOKENS = ("input_token_count", "output_token_count", "cached_input_token_count", "reasoning_token_count")


def costs(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the sums ``cost_usd`` and ``estimated_cost_usd`` of some items."""
    known = list(rows)
    estimated = (row["cost_usd"] for row in known if row["cost_source"] == "estimated")
    return {"cost_usd": total(row["cost_usd"] for row in known), "estimated_cost_usd": total(estimated)}


def total(values: Iterable[Any]) -> Any:
    """Return the sum of the values that are not None, exact for floats; None if there are none."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    return math.fsum(known) if any(isinstance(value, float) for value in known) else sum(known)
