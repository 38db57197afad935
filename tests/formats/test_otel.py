"""Sessions as OpenTelemetry spans: their form by OTLP's own messages, their order, times, failures and texts."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from ledger import SessionLedger, SessionNotFound
from ledger.formats.otel_genai_0_1 import export_spans
from ledger.testing import START, CountedIds, SetClock


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def ledger(tmp_path: Path, clock: SetClock) -> Iterator[SessionLedger]:
    with SessionLedger.open(f"sqlite:///{tmp_path / 'l.db'}", clock=clock, ids=CountedIds()) as opened:
        yield opened


def talk(ledger: SessionLedger, clock: SetClock) -> None:
    """Two turns: a tool that fails once, a model call and an answer; then a model call that fails."""
    ledger.create_session("ada", session_id="s1")
    ledger.add_message("s1", "user", "How many orders?")
    ledger.update_session("s1", {"tool_calls": [{"name": "sql", "arguments": {"q": "SELECT 1"}}]})
    for status, result in [("running", None), ("failed", TimeoutError("late")), ("running", None), ("completed", [2])]:
        clock.now += timedelta(seconds=1.5)
        ledger.update_tool_call_status("s1", "sql", status, result)
    ledger.add_message("s1", "assistant", "There are 2.", message_id="m1", actor="orders-agent")
    ledger.record_model_call(
        *("s1", "small"),
        provider="openai",
        input_tokens=100,
        output_tokens=20,
        cached_input_tokens=50,
        duration_ms=500.4,
        time_to_first_token_ms=120,
        cost_usd=0.25,
        finish_reason="stop",
        message_id="m1",
    )
    ledger.add_message("s1", "user", [{"type": "text", "text": "And now?"}, {"type": "image", "url": "x"}])
    ledger.record_model_call("s1", "small", error={"type": "Overloaded", "message": "try later"})
    ledger.add_score("s1", "helpful", 4, comment="short")


def spans(ledger: SessionLedger, *session_ids: str) -> list[dict[str, Any]]:
    """The spans of the lines, with attributes as a dictionary; each line is a message of OTLP."""
    found = []
    for line in export_spans(ledger.store, session_ids or None):
        document = json.loads(line)
        check(document)
        of_line = document["resourceSpans"][0]["scopeSpans"][0]["spans"]
        found += [span | {"attributes": plain(span["attributes"])} for span in of_line]
    return found


def plain(attributes: list[dict[str, Any]]) -> dict[str, Any]:
    return {item["key"]: next(iter(item["value"].values())) for item in attributes}


def check(document: dict[str, Any]) -> None:
    """Parse a line by the messages of OTLP, which refuse unknown keys and wrong types. Ids are hexadecimal in JSON."""
    for span in document["resourceSpans"][0]["scopeSpans"][0]["spans"]:
        assert (len(bytes.fromhex(span["traceId"])), len(bytes.fromhex(span["spanId"]))) == (16, 8)
    copy = json.loads(json.dumps(document))
    for span in copy["resourceSpans"][0]["scopeSpans"][0]["spans"]:
        for name in ("traceId", "spanId", "parentSpanId"):
            if name in span:
                span[name] = base64.b64encode(bytes.fromhex(span[name])).decode()
    json_format.ParseDict(copy, TracesData())


def test_a_turn_is_a_trace_with_its_calls_below_it(ledger, clock):
    talk(ledger, clock)
    found = spans(ledger)
    assert [(span["name"], span["kind"]) for span in found] == [
        ("invoke_agent orders-agent", 1),
        ("execute_tool sql", 1),
        ("execute_tool sql", 1),
        ("chat small", 3),
        ("invoke_agent", 1),
        ("chat small", 3),
    ]
    first, second = found[0], found[4]
    assert [span.get("parentSpanId") for span in found] == [None, *[first["spanId"]] * 3, None, second["spanId"]]
    assert [span["traceId"] for span in found] == [first["traceId"]] * 4 + [second["traceId"]] * 2
    assert len({span["spanId"] for span in found}) == 6
    assert {span["attributes"]["gen_ai.conversation.id"] for span in found} == {"s1"}
    assert found == spans(ledger, "s1")


def test_a_span_lasts_as_long_as_what_it_tells(ledger, clock):
    talk(ledger, clock)
    begun = int(START.timestamp() * 1000)
    times = [
        (int(span["startTimeUnixNano"]) / 1e6 - begun, int(span["endTimeUnixNano"]) / 1e6 - begun)
        for span in spans(ledger)
    ]
    tools = [(1500, 3000), (4500, 6000)]
    assert times == [(0, 6000), *tools, (pytest.approx(5499.6), 6000), (6000, 6000), (6000, 6000)]


def test_attributes_have_what_was_said_called_and_spent(ledger, clock):
    talk(ledger, clock)
    root, failed, completed, model, *_ = (span["attributes"] for span in spans(ledger))
    question = [{"parts": [{"content": "How many orders?", "type": "text"}], "role": "user"}]
    answer = [{"parts": [{"content": "There are 2.", "type": "text"}], "role": "assistant"}]
    assert json.loads(root["gen_ai.input.messages"]) == question
    assert json.loads(root["gen_ai.output.messages"]) == json.loads(model["gen_ai.output.messages"]) == answer
    assert (completed["gen_ai.tool.call.id"], completed["gen_ai.tool.call.result"]) == ("sql", "[2]")
    assert failed["gen_ai.tool.call.arguments"] == '{"q":"SELECT 1"}'
    assert (model["gen_ai.provider.name"], model["gen_ai.usage.cost"]) == ("openai", 0.25)
    assert (model["gen_ai.usage.input_tokens"], model["gen_ai.usage.cache_read.input_tokens"]) == ("100", "50")
    assert model["gen_ai.response.time_to_first_chunk"] == 0.12
    assert model["gen_ai.response.finish_reasons"] == {"values": [{"stringValue": "stop"}]}


def test_what_failed_says_so_and_scores_are_events_of_the_last_turn(ledger, clock):
    talk(ledger, clock)
    _, failed, completed, _, last, overloaded = spans(ledger)
    assert failed["status"] == {"code": 2, "message": "late"}
    assert failed["attributes"]["error.type"] == "TimeoutError"
    assert (completed["status"], "error.type" in completed["attributes"]) == ({}, False)
    assert overloaded["status"] == {"code": 2, "message": "try later"}
    (score,) = last["events"]
    assert score["name"] == "gen_ai.evaluation.result"
    assert plain(score["attributes"]) == {
        "gen_ai.evaluation.name": "helpful",
        "gen_ai.evaluation.score.value": 4.0,
        "gen_ai.evaluation.explanation": "short",
    }


def test_a_question_and_a_summary_are_a_turn_and_an_error_of_the_session_fails_it(ledger):
    ledger.create_session("ada", "How many?", session_id="s1")
    ledger.update_summary("s1", "Many.")
    ledger.create_session("ada", "Why?", session_id="s2")
    ledger.fail_session("s2", {"type": "Quota", "message": "used up"})
    whole, failed = spans(ledger, "s1", "s2")
    assert json.loads(whole["attributes"]["gen_ai.output.messages"])[0]["parts"][0]["content"] == "Many."
    assert (failed["status"], failed["attributes"]["error.type"]) == ({"code": 2, "message": "used up"}, "Quota")


def test_what_a_fork_copied_has_no_spans_and_an_empty_session_no_line(ledger, clock):
    talk(ledger, clock)
    fork = ledger.fork_session("s1")
    ledger.create_session("ada", session_id="empty")
    assert list(export_spans(ledger.store, [fork, "empty"])) == []
    ledger.add_message(fork, "user", "And then?")
    (span,) = spans(ledger, fork)
    assert json.loads(span["attributes"]["gen_ai.input.messages"])[0]["parts"][0]["content"] == "And then?"


def test_clocks_that_go_back_and_calls_without_an_end_give_spans_all_the_same(ledger, clock):
    ledger.create_session("ada", session_id="s1")
    ledger.update_session("s1", {"tool_calls": ["sql", "never-begun"]})
    ledger.update_tool_call_status("s1", "sql", "running")
    clock.now -= timedelta(seconds=5)
    ledger.update_tool_call_status("s1", "sql", "completed")
    ledger.update_session("s1", {"tool_calls": ["open"]})
    ledger.update_tool_call_status("s1", "open", "running")
    found = spans(ledger)
    assert [span["name"] for span in found] == ["invoke_agent", "execute_tool sql", "execute_tool open"]
    assert all(int(span["startTimeUnixNano"]) <= int(span["endTimeUnixNano"]) for span in found)


def test_a_session_that_does_not_exist_is_named(ledger):
    with pytest.raises(SessionNotFound, match="nowhere"):
        list(export_spans(ledger.store, ["nowhere"]))
