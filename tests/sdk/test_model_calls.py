"""Calls of language models: what is recorded of them, in the session, in SQL and from the command line."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

from ledger import InvalidInput, SessionLedger
from support.shell import Shell

WHOLE = {
    "provider": "google",
    "operation": "chat",
    "input_tokens": 1200,
    "output_tokens": 80,
    "cached_input_tokens": 1000,
    "reasoning_tokens": 20,
    "cost_usd": 0.0123,
    "duration_ms": 950.5,
    "time_to_first_token_ms": 120,
    "finish_reason": "stop",
    "message_id": "m1",
}


def test_a_model_call_has_what_was_given_and_its_id_or_that_of_its_event(ledger: SessionLedger, sid: str) -> None:
    ledger.record_model_call(sid, "gemini-2.5-flash", **WHOLE, call_id="c1")
    ledger.record_model_call(sid, "gemini-2.5-pro", event_id="c0")
    ledger.record_model_call(sid, "small", cost_usd=Decimal("0.5"), error=TimeoutError("late"), call_id="c9")
    assert list(ledger.require_session(sid).model_calls.items()) == [
        ("c1", {"model": "gemini-2.5-flash", **WHOLE}),
        (ledger.history(sid)[-2].event_id, {"model": "gemini-2.5-pro"}),
        ("c9", {"model": "small", "cost_usd": 0.5, "error": {"type": "TimeoutError", "message": "late"}}),
    ]
    assert ledger.record_model_call(sid, "gemini-2.5-pro", event_id="c0").replayed


def test_a_model_call_with_the_id_of_another_replaces_it_and_comes_last(ledger: SessionLedger, sid: str) -> None:
    for call_id, tokens in (("a", 1), ("b", 2), ("a", 3)):
        ledger.record_model_call(sid, "m", input_tokens=tokens, call_id=call_id)
    calls = ledger.require_session(sid).model_calls
    assert [(call_id, call["input_tokens"]) for call_id, call in calls.items()] == [("b", 2), ("a", 3)]


@pytest.mark.parametrize(
    ("part", "value"),
    [
        *(("input_tokens", -1), ("output_tokens", 1.5), ("reasoning_tokens", 2**63), ("input_tokens", -(10**5000))),
        *(("duration_ms", "fast"), ("provider", 5), ("duration_ms", -1), ("time_to_first_token_ms", -0.5)),
        *(("cost_usd", -1), ("cost_usd", Decimal("-0.01")), ("cost_usd", -(10**5000))),
    ],
    ids=[
        *("negative", "fraction", "more than SQL takes", "huge", "text", "number", "negative time", "negative part"),
        *("negative price", "negative decimal", "huge negative price"),
    ],
)
def test_a_part_of_another_type_is_refused_by_name(ledger: SessionLedger, sid: str, part: str, value: object) -> None:
    with pytest.raises(InvalidInput, match=rf"model_call\['c'\]\.{part} must be"):
        ledger.record_model_call(sid, "m", call_id="c", **{part: value})
    with pytest.raises(InvalidInput, match="model must be text"):
        ledger.record_model_call(sid, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("part", "whole"), [("cached_input_tokens", "input_tokens"), ("reasoning_tokens", "output_tokens")]
)
def test_tokens_of_one_kind_are_part_of_all_tokens(ledger: SessionLedger, sid: str, part: str, whole: str) -> None:
    version = ledger.require_session(sid).version
    with pytest.raises(InvalidInput, match=f"{part} is 2,000, and {whole}, which counts them too, is 1,999"):
        ledger.record_model_call(sid, "m", **{part: 2000, whole: 1999})
    with pytest.raises(InvalidInput, match=r"model must not be empty"):
        ledger.record_model_call(sid, "")
    assert ledger.require_session(sid).version == version
    ledger.record_model_call(sid, "m", **{part: 2000, whole: 2000})
    ledger.record_model_call(sid, "m", **{part: 2000})


def test_the_error_of_a_model_call_is_given_as_for_a_failed_session(ledger: SessionLedger, sid: str) -> None:
    for error in ("timeout", {"type": "error", "message": "timeout"}):
        ledger.record_model_call(sid, "m", error=error, call_id="c")
        assert ledger.require_session(sid).model_calls["c"]["error"] == {"type": "error", "message": "timeout"}
    with pytest.raises(InvalidInput, match="error must be an exception, an object or text, not int"):
        ledger.record_model_call(sid, "m", error=5)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match=r"model_call\['c'\]\.error lacks 'message'"):
        ledger.record_model_call(sid, "m", error={"type": "x"}, call_id="c")


@pytest.mark.parametrize("cost", ["NaN", "sNaN", "-Infinity", "1e400"])
def test_a_price_that_is_no_number_is_refused_by_name(ledger: SessionLedger, sid: str, cost: str) -> None:
    with pytest.raises(InvalidInput, match=r"model_call\['c'\]\.cost_usd is "):
        ledger.record_model_call(sid, "m", call_id="c", cost_usd=Decimal(cost))


def test_strict_values_converts_an_exception_as_for_a_failed_session_and_no_decimal(tmp_path: Path) -> None:
    with SessionLedger(f"sqlite:///{tmp_path}/l.db", strict_values=True) as ledger:
        sid = ledger.create_session("ada")
        with pytest.raises(InvalidInput, match=r"cost_usd must be a number, not decimal\.Decimal"):
            ledger.record_model_call(sid, "m", cost_usd=Decimal("0.5"))
        ledger.record_model_call(sid, "m", error=TimeoutError("late"), call_id="c")
        assert ledger.require_session(sid).model_calls["c"]["error"] == {"type": "TimeoutError", "message": "late"}


@pytest.mark.duckdb
def test_model_calls_are_rows_of_a_view_also_when_recorded_from_the_command_line(tmp_path: Path) -> None:
    shell = Shell(tmp_path / "l.db")
    sid = shell.ok("new", "Why?").strip()
    options = [each for part, value in WHOLE.items() for each in (f"--{part.replace('_', '-')}", str(value))]
    shell.ok("model-call", sid, "gemini-2.5-flash", *options, "--id", "c1")
    shell.ok("model-call", sid, "small", "--error", "late", "--error-type", "Timeout")
    columns = ", ".join(WHOLE)
    statement = f"SELECT position, model, {columns}, error_type, error_message, day = CURRENT_DATE() AS today"
    rows = json.loads(shell.ok("sql", f"{statement} FROM model_calls ORDER BY position", "--json"))["rows"]
    nothing = dict.fromkeys(WHOLE)
    assert rows == [
        {"position": 1, "model": "gemini-2.5-flash", **WHOLE, "error_type": None, "error_message": None, "today": True},
        {"position": 2, "model": "small", **nothing, "error_type": "Timeout", "error_message": "late", "today": True},
    ]
