"""Random histories, their rows, and what the Python model makes of them: the other side of every SQL view."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from ledger.model.call_times import CallTimes, call_times
from ledger.model.events import RecordedChange, RecordedEvent
from ledger.model.fold import fold
from ledger.model.prices import ModelPrice
from ledger.model.session import Head, Message, Session
from ledger.model.values import canonical
from ledger.outbox.columns import change_values, event_values, row_of
from ledger.testing.reference import head_after, history

DAY = datetime(2026, 3, 4, tzinfo=UTC)
VERSIONS = 6
#: Above every version.
LAST = 2**62
#: What a message says, after its id and version.
MESSAGE_PARTS = tuple(part.name for part in fields(Message))[2:]
#: The value of a removal, for ``event``.
REMOVED = object()

_text = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=8)
_numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False, width=32)
_scalars = st.none() | st.booleans() | _numbers | _text
_text_or_number = st.booleans() | st.sampled_from(["good", "0.2", "true"])
_json = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_text, inner, max_size=2), max_leaves=4
)
# In the past, so that a session without an end is abandoned whenever the tests run.
_instants = st.datetimes(datetime(2025, 6, 1), datetime(2026, 6, 1), timezones=st.just(UTC))  # noqa: DTZ001


def _values(field: str) -> st.SearchStrategy[Any]:
    """Values of the shape that ``ledger.model.fields`` lets through."""
    if field in ("question", "title", "session_type", "summary"):
        return _text
    if field == "status":
        return st.sampled_from(["active", "completed", "failed", "on_hold2"])
    if field == "expires_at":
        return st.none() | _instants.map(lambda at: at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"))
    if field in ("constraints", "response_plan"):
        return st.dictionaries(_text, _json, max_size=2)
    if field == "tool_call":
        tables = st.lists(_text | st.fixed_dictionaries({"name": _text | st.none()}) | st.none(), max_size=2)
        optional = {"description": _text, "message_id": _text, "x": _json, "tables": tables}
        return st.fixed_dictionaries({"name": _text}, optional=optional)
    if field == "tool_call_result":
        # No float by itself: of a failed call it is the message, and each engine writes floats in another form.
        return _json.filter(lambda value: not isinstance(value, float))
    if field == "tool_call_status":
        return st.sampled_from(["pending", "running", "completed", "failed"])
    if field == "model_call":
        parts = {part: st.none() | (_text if kind is str else kind) for part, kind in MODEL_CALL_PARTS.items()}
        unpriced = st.fixed_dictionaries({"model": _text.filter(lambda it: it and it not in PRICED)}, optional=parts)
        # So few tokens that sums of what they cost by ``price_lists`` are exact, in any order.
        tokens = dict.fromkeys((*_TOKENS, "cached_input_tokens"), st.none() | st.integers(0, 10**6))
        priced = parts | tokens | {"provider": st.none() | st.sampled_from(PROVIDERS)}
        return unpriced | st.fixed_dictionaries({"model": st.sampled_from(PRICED)}, optional=priced)
    if field == "query":
        parts = {"cache_hit": st.none() | st.booleans(), "execution_time_ms": st.none() | st.floats(-9, 1e6, width=32)}
        return st.fixed_dictionaries({"query_type": _text}, optional=parts)
    if field == "attribute":
        return _text | st.booleans() | st.integers(-2, 2) | st.sampled_from(["0.2", "1", "true", [1], {"a": None}])
    if field == "score":
        return st.fixed_dictionaries({"name": _text, "value": _text_or_number | st.floats(-9, 9, width=32)})
    if field == "error":
        return st.fixed_dictionaries({"type": _text, "message": _text})
    if field == "lineage":
        return st.just({"session_id": "s", "version": 1, "kind": "fork"})
    if field == "message":
        optional: dict[str, st.SearchStrategy[Any]] = {
            **dict.fromkeys(("tools_used", "metadata", "payload"), _json),
            # No number, which JSON_VALUE gives in another form on each engine.
            "error": st.none() | st.booleans() | _text | st.lists(_text) | st.dictionaries(_text, _text, max_size=2),
            "token_count": st.none() | st.integers(0, 10**6),
            "processing_time_ms": st.none() | st.floats(0, 1e6, width=32),
        }
        parts = {"role": st.sampled_from(["user", "assistant", "tool"]), "content": _json}
        return st.fixed_dictionaries(parts, optional=optional)
    return _json


#: Models and providers of ``price_lists``; calls have them often.
PRICED, PROVIDERS = ("m", "n"), ("", "p", "q")
_TOKENS = ("input_tokens", "output_tokens")
_prices = st.integers(0, 64).map(lambda sixty_fourth: sixty_fourth * 15_625.0)


def price_lists() -> st.SearchStrategy[list[ModelPrice]]:
    """Price lists in which each day of the histories has several prices, and some have none."""
    days = st.dates(date(2025, 6, 1), date(2026, 6, 1))
    one = st.builds(
        ModelPrice, st.sampled_from(PRICED), days, _prices, _prices, st.none() | _prices, st.sampled_from(PROVIDERS)
    )
    return st.lists(one, max_size=12, unique_by=lambda price: price.key)


#: Parts of a model call that are columns of the view ``model_calls``, with their values.
MODEL_CALL_PARTS: dict[str, Any] = {
    **dict.fromkeys(("provider", "operation"), str),
    **dict.fromkeys(
        ("input_tokens", "output_tokens", "cached_input_tokens", "reasoning_tokens"), st.integers(0, 2**63 - 1)
    ),
    **dict.fromkeys(
        ("cost_usd", "duration_ms", "time_to_first_token_ms"), st.floats(0, 1e6, width=32) | st.integers(0, 9)
    ),
    **dict.fromkeys(("finish_reason", "message_id"), str),
}
_SLOTS = [
    *(("question", ""), ("status", ""), ("strategy", ""), ("constraints", ""), ("expires_at", ""), ("x_free", "")),
    *((field, key) for field in ("tool_call", "tool_call_status", "tool_call_result") for key in ("a", 'ü"\\')),
    *(("message", "m1"), ("message", "m2"), ("context", "k"), ("model_call", "c1"), ("model_call", "c2")),
    *(("title", ""), ("session_type", ""), ("summary", ""), ("response_plan", "")),
]
#: Slots of histories for the views that count what happened; messages, calls and their statuses come more often.
_ITEM_SLOTS = [
    *((field, key) for field in ("tool_call", "tool_call_status", "tool_call_result") for key in ("a", "b")),
    *(("tool_call_status", "a"), ("message", "m1"), ("message", "m2"), ("model_call", "c1"), ("model_call", "c2")),
    *(("query", "q1"), ("query", "q2"), ("score", "n1"), ("error", ""), ("lineage", ""), ("attribute", "reward")),
    ("attribute", "topic"),
    *(("status", ""), ("session_type", ""), ("expires_at", ""), ("tag", "t"), ("question", ""), ("summary", "")),
]


@st.composite
def _changes(draw: st.DrawFn, kinds: list[tuple[str, str]]) -> tuple[RecordedChange, ...]:
    slots = draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=3, unique=True))
    changes = []
    for field, key in slots:
        kind = draw(st.sampled_from(["set", "set", "set", "removed", "erased"]))
        if kind == "set":
            changes.append(RecordedChange(field, key, canonical(draw(_values(field))), False, "hash", "salt"))
        else:
            changes.append(RecordedChange(field, key, None, kind == "removed", None if kind == "removed" else "hash"))
    return tuple(changes)


@dataclass(frozen=True, slots=True)
class History:
    """The events of one session, in the order they come: with duplicates, out of order, and with equal versions."""

    session_id: str
    events: tuple[RecordedEvent, ...]


@st.composite
def histories(
    draw: st.DrawFn, sessions: int = 3, events: int = 8, items: bool = False, rewinds: bool = True
) -> list[History]:
    """Histories of several sessions; ids are filled in, so that every example can go into one table.

    With ``items``, they hold what the views for dashboards count. Without ``rewinds``, a store takes the events.
    """
    types = ["x.happened", *(["session.rewound"] if rewinds else []), *(["session.copied"] if items else [])]
    result = []
    for number in range(sessions):
        session_id = f"s{number}-é'"
        created_at = DAY + timedelta(days=number % 3, hours=number % 24)
        recorded = [
            RecordedEvent(
                session_id=session_id,
                version=draw(st.integers(1, VERSIONS)),
                event_id=f"e{index}",
                event_type=draw(st.sampled_from(types)),
                changes=draw(_changes(_ITEM_SLOTS if items else _SLOTS)),
                user_id=f"u{number}",
                actor=draw(st.none() | _text),
                occurred_at=draw(_instants),
                recorded_at=draw(_instants),
                created_at=created_at,
                schema_version=1,
                store_id="store",
                event_hash=f"h{index}",
                idempotency_key=draw(st.none() | _text),
            )
            for index in range(draw(st.integers(1, events)))
        ]
        again = draw(st.lists(st.sampled_from(recorded), max_size=3))
        result.append(History(session_id, tuple(draw(st.permutations(recorded + again)))))
    return result


def rows_of(events: Iterable[RecordedEvent]) -> list[tuple[Any, ...]]:
    """The rows of events as a store hands them to the relay, without ``seq``."""
    return [row_of(event_values(event), change) for event in events for change in change_values(event)]


def shuffled(rows: Sequence[tuple[Any, ...]], seed: int) -> list[tuple[Any, ...]]:
    """The rows of all sessions mixed, with a number in front as a store gives them."""
    mixed = random.Random(seed).sample(rows, len(rows))
    return [(seq, *row) for seq, row in enumerate(mixed, 1)]


def head_of(events: Sequence[RecordedEvent], version: int = LAST) -> Head:
    """Where a session stood at a version."""
    return head_after([event for event in events if event.version <= version])


def session_at(events: Sequence[RecordedEvent], version: int = LAST) -> Session:
    """The session at a version, by the Python fold, with its messages."""
    return Session(head_of(events, version), fold(events, at_version=version), with_messages=True)


def expected_fields(item: History) -> list[tuple[Any, ...]]:
    """Rows of ``session_fields``."""
    state = fold(item.events)
    return [(item.session_id, *slot, held.value, held.version, held.event_id) for slot, held in state.items()]


def expected_history(item: History) -> list[tuple[Any, ...]]:
    """Rows of ``session_history``."""
    keys = {event.position: event.idempotency_key for event in item.events}
    return [
        (
            *(item.session_id, i.field, i.key, i.value, i.removed, i.version, i.event_id),
            *(keys[i.version, i.event_id], i.superseded_by),
        )
        for i in history(item.events)
    ]


def expected_events(item: History) -> list[RecordedEvent]:
    """Each event once and in order, its changes in the order of their slots."""
    once = {event.position: event for event in item.events}
    return [
        replace(once[position], changes=tuple(sorted(once[position].changes, key=lambda it: (it.field, it.key))))
        for position in sorted(once)
    ]


def expected_sessions(item: History) -> list[tuple[Any, ...]]:
    """Rows of ``sessions``."""
    return [tuple(session_at(item.events).values())]


def expected_versions(item: History) -> list[tuple[Any, ...]]:
    """Rows of ``session_versions``."""
    versions = sorted({event.version for event in item.events})
    return [tuple(session_at(item.events, version).values()) for version in versions]


def expected_calls(item: History) -> list[tuple[Any, ...]]:
    """Rows of ``tool_calls``."""
    times = call_times(expected_events(item))
    return [
        (
            *(item.session_id, call.call_id, position, call.name, call.definition.get("description"), call.status),
            *(call.has_result, call.result, call.definition.get("message_id")),
            *_times(times.get(call.call_id, CallTimes())),
        )
        for position, call in enumerate(session_at(item.events).calls, 1)
    ]


def _times(of: CallTimes) -> tuple[Any, ...]:
    return of.started_at, of.finished_at, of.latency_ms, of.retry_count, of.failure_count


def expected_messages(item: History) -> list[tuple[Any, ...]]:
    """Rows of ``messages``."""
    messages = session_at(item.events).messages or ()
    return [
        (item.session_id, message.message_id, position, *(getattr(message, part) for part in MESSAGE_PARTS))
        for position, message in enumerate(messages, 1)
    ]


def expected_model_calls(item: History) -> list[tuple[Any, ...]]:
    """Rows of ``model_calls``."""
    calls = session_at(item.events).model_calls
    return [
        (item.session_id, call_id, position, *(_column(call, part) for part in ("model", *MODEL_CALL_PARTS)))
        for position, (call_id, call) in enumerate(calls.items(), 1)
    ]


def _column(call: dict[str, Any] | None, part: str) -> Any:
    value = (call or {}).get(part)
    return float(value) if part.endswith(("_ms", "_usd")) and value is not None else value


def expected_conflicts(item: History) -> list[tuple[Any, ...]]:
    """Rows of ``conflicts``."""
    by_version: dict[int, set[str]] = {}
    for event in item.events:
        by_version.setdefault(event.version, set()).add(event.event_id)
    return [
        (item.session_id, version, len(ids), sorted(ids)) for version, ids in sorted(by_version.items()) if len(ids) > 1
    ]


def event(
    version: int, *changes: tuple[str, str, Any], session: str = "s1", event_id: str = "", day: int = 0
) -> RecordedEvent:
    """An event in short: changes are (field, key, value), with REMOVED for the value of a removal."""
    return RecordedEvent(
        session_id=session,
        version=version,
        event_id=event_id or f"e{version}",
        event_type="x.happened",
        changes=tuple(
            RecordedChange(field, key, None if value is REMOVED else canonical(value), value is REMOVED)
            for field, key, value in changes
        ),
        user_id="ann",
        actor=None,
        occurred_at=DAY + timedelta(days=day, seconds=version),
        recorded_at=DAY + timedelta(days=day, seconds=version),
        created_at=DAY + timedelta(days=day),
        schema_version=1,
        store_id="store",
    )
