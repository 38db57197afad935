"""What recorded runs say of tokens, models and titles lands where the ledger has a place for it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ledger import IdempotencyConflict, Session, SessionLedger
from ledger.formats.openai_chat import import_runs, read_runs
from ledger.formats.recording import record
from ledger.model.events import RecordedEvent
from support.shell import Shell

CHAT = {
    "prompt_tokens": 100,
    "completion_tokens": 20,
    "total_tokens": 120,
    "prompt_tokens_details": {"cached_tokens": 60, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 8},
}
IN_THE_LEDGERS_NAMES = {"input_tokens": 100, "output_tokens": 20, "cached_input_tokens": 60, "reasoning_tokens": 8}


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SessionLedger]:
    with SessionLedger.open(f"sqlite:///{tmp_path / 'ledger.db'}?synchronous=NORMAL") as opened:
        yield opened


def asked() -> dict[str, Any]:
    return {"role": "user", "content": "How many?"}


def answered(**keys: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": "Seven.", **keys}


def line(*messages: dict[str, Any], **keys: Any) -> bytes:
    return json.dumps({"messages": messages, **keys}).encode()


def imported(ledger: SessionLedger, run: bytes) -> Session:
    import_runs(ledger.store, [run])
    (found,) = ledger.list_sessions()
    session = ledger.get_session(found.session_id, messages=True)
    assert session is not None
    return session


@pytest.mark.parametrize("own", [{}, {"id": "conv-1"}], ids=["without an id", "with an id"])
def test_the_usage_of_a_message_is_a_model_call_that_names_the_message(ledger: SessionLedger, own: Any) -> None:
    answer = answered(usage=CHAT, model="m-1", provider="p", finish_reason="stop")
    session = imported(ledger, line(asked(), answer, **own))
    call = {"model": "m-1", "provider": "p", "finish_reason": "stop", "message_id": "message-0002"}
    assert session.model_calls == {"message-0002": call | IN_THE_LEDGERS_NAMES}
    assert session.messages is not None
    assert session.messages[1].metadata == {key: answer[key] for key in answer if key not in ("role", "content")}


@pytest.mark.parametrize("own", [{}, {"id": "conv-1"}], ids=["without an id", "with an id"])
def test_the_usage_of_a_run_is_one_model_call_if_its_messages_have_none(ledger: SessionLedger, own: Any) -> None:
    session = imported(ledger, line(asked(), answered(), usage=CHAT, model="m-1", **own))
    assert session.model_calls == {"run": {"model": "m-1", **IN_THE_LEDGERS_NAMES}}
    assert (session.attributes["model"], session.results["usage"]) == ("m-1", CHAT)


def test_the_usage_of_a_run_is_not_counted_beside_that_of_its_messages(ledger: SessionLedger) -> None:
    session = imported(ledger, line(asked(), answered(usage=CHAT), usage=CHAT, model="m-1"))
    assert list(session.model_calls) == ["message-0002"]
    assert session.model_calls["message-0002"]["model"] == "m-1"


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"usage": CHAT}, IN_THE_LEDGERS_NAMES),
        (
            {
                "usage": {
                    "input_tokens": 100,
                    "output_tokens": 20,
                    "input_tokens_details": {"cached_tokens": 60},
                    "output_tokens_details": {"reasoning_tokens": 8},
                }
            },
            IN_THE_LEDGERS_NAMES,
        ),
        (
            {
                "usage": {
                    "input_tokens": 30,
                    "output_tokens": 20,
                    "cache_read_input_tokens": 60,
                    "cache_creation_input_tokens": 10,
                }
            },
            {"input_tokens": 100, "output_tokens": 20, "cached_input_tokens": 60},
        ),
        (
            {"usage": {"prompt_tokens": 100, "completion_tokens": 20, "cache_read_input_tokens": 60}},
            {"input_tokens": 100, "output_tokens": 20},
        ),
        (
            {
                "usage_metadata": {
                    "input_tokens": 100,
                    "output_tokens": 20,
                    "input_token_details": {"cache_read": 60},
                    "output_token_details": {"reasoning": 8},
                },
                "response_metadata": {"model_name": "unknown"},
            },
            IN_THE_LEDGERS_NAMES,
        ),
        ({"usage": {"prompt_tokens": "100", "completion_tokens": None}}, {"input_tokens": 100}),
    ],
    ids=["chat", "responses", "anthropic", "cached apart in chat", "langchain", "text"],
)
def test_usage_is_read_in_each_form(ledger: SessionLedger, keys: Any, expected: Any) -> None:
    (call,) = imported(ledger, line(asked(), answered(**keys))).model_calls.values()
    assert call == {"model": "unknown", "message_id": "message-0002", **expected}


@pytest.mark.parametrize(
    "usage",
    [None, "much", [1], {}, {"prompt_tokens": 0, "completion_tokens": 0}, {"prompt_tokens": -1}, {"input_tokens": 1.5}],
)
def test_a_usage_without_tokens_is_kept_and_no_model_call(ledger: SessionLedger, usage: Any) -> None:
    session = imported(ledger, line(answered(usage=usage, model="m")))
    assert session.model_calls == {}
    assert session.messages is not None
    assert session.messages[0].metadata == {"usage": usage, "model": "m"}


@pytest.mark.duckdb
def test_the_view_has_the_same_tokens_by_model_as_the_file(shell: Shell, tmp_path: Path) -> None:
    runs: list[dict[str, Any]] = []
    expected: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for number in range(12):
        model = f"m-{number % 3}"
        usage = {"prompt_tokens": 100 + number, "completion_tokens": number}
        mine = {"usage": usage, "model": model}
        own = {"id": f"run-{number}"} if number % 2 else {"task": number}
        of_run = number % 4 == 0
        runs.append({"messages": [asked(), answered(**({} if of_run else mine))], **own, **(mine if of_run else {})})
        for index, amount in enumerate((1, 100 + number, number)):
            expected[model][index] += amount
    (tmp_path / "runs.jsonl").write_text("".join(json.dumps(run) + "\n" for run in runs), encoding="utf-8")
    shell.ok("import", "--format", "openai-chat", str(tmp_path / "runs.jsonl"))
    statement = (
        "SELECT model, COUNT(*) AS calls, SUM(input_tokens) AS read, SUM(output_tokens) AS written "
        "FROM model_calls GROUP BY model ORDER BY model"
    )
    rows = json.loads(shell.ok("sql", statement, "--json"))["rows"]
    assert [list(row.values()) for row in rows] == [[model, *expected[model]] for model in sorted(expected)]


def test_amounts_of_a_message_are_parts_of_it(ledger: SessionLedger) -> None:
    session = imported(ledger, line(asked(), answered(token_count=7, processing_time_ms=12.5, id="m7", cost=1)))
    (_, message) = session.messages or ()
    assert (message.message_id, message.token_count, message.processing_time_ms) == ("message-0002", 7, 12.5)
    assert message.metadata == {"id": "m7", "cost": 1}


@pytest.mark.parametrize("keys", [{"token_count": -1}, {"token_count": "many"}, {"processing_time_ms": True}])
def test_what_is_no_amount_stays_in_the_metadata(ledger: SessionLedger, keys: Any) -> None:
    (message,) = imported(ledger, line(answered(**keys))).messages or ()
    assert (message.token_count, message.processing_time_ms, message.metadata) == (None, None, keys)


@pytest.mark.parametrize("own", [{}, {"id": "conv-1"}], ids=["without an id", "with an id"])
def test_the_title_of_a_run_is_that_of_the_session(ledger: SessionLedger, own: Any) -> None:
    session = imported(ledger, line(asked(), title="Counting", **own))
    assert (session.title, "title" in session.attributes) == ("Counting", False)
    assert [found.title for found in ledger.list_sessions()] == ["Counting"]


@pytest.mark.parametrize("title", ["", 7, None, {"en": "Counting"}])
def test_what_is_no_title_is_kept_as_any_other_key(ledger: SessionLedger, title: Any) -> None:
    session = imported(ledger, line(asked(), title=title))
    assert session.title is None
    assert {**session.attributes, **session.results}["title"] == title


def test_a_longer_export_that_names_another_model_extends_the_session(ledger: SessionLedger) -> None:
    answers = [answered(usage=CHAT), answered(usage=CHAT)]
    import_runs(ledger.store, [line(asked(), answers[0], id="r", model="m-1", title="One")])
    assert import_runs(ledger.store, [line(asked(), *answers, id="r", model="m-2", title="Two")]).new == 2
    session = ledger.require_session("r")
    assert [call["model"] for call in session.model_calls.values()] == ["m-1", "m-2"]
    assert session.title == "Two"


def without_model_calls(event: RecordedEvent) -> RecordedEvent:
    return replace(event, changes=tuple(change for change in event.changes if change.field != "model_call"))


@pytest.mark.parametrize("own", [{}, {"id": "conv-1"}], ids=["without an id", "with an id"])
def test_a_run_that_an_earlier_release_recorded_without_model_calls_is_already_recorded(
    ledger: SessionLedger, own: Any
) -> None:
    runs = [line(asked(), answered(usage=CHAT), model="m", **own), line(asked(), usage=CHAT, model="m")]
    for run in read_runs(runs, store_id=ledger.store.store_id):
        assert any(change.field == "model_call" for event in run.events for change in event.changes)
        record(ledger.store, [replace(run, events=tuple(map(without_model_calls, run.events)))])
    assert import_runs(ledger.store, runs).new == 0


def titled_by_an_attribute(event: RecordedEvent) -> RecordedEvent:
    """An event as earlier releases recorded it."""
    changes = [
        replace(change, field="attribute", key="title") if change.field == "title" else change
        for change in event.changes
    ]
    return replace(event, changes=tuple(changes))


def test_a_run_whose_title_an_earlier_release_recorded_as_an_attribute_is_refused(ledger: SessionLedger) -> None:
    titled = line(asked(), title="Counting")
    (run,) = read_runs([titled], store_id=ledger.store.store_id)
    record(ledger.store, [replace(run, events=tuple(map(titled_by_an_attribute, run.events)))])
    with pytest.raises(IdempotencyConflict, match=r"^Line 1: .* by another release: import into a new ledger"):
        import_runs(ledger.store, [titled])


def test_a_run_with_another_usage_is_another_run(ledger: SessionLedger) -> None:
    import_runs(ledger.store, [line(asked(), answered(usage=CHAT), id="r")])
    with pytest.raises(IdempotencyConflict, match=r"^Line 1: session r: version 3, event .*with other content"):
        import_runs(ledger.store, [line(asked(), answered(usage={**CHAT, "prompt_tokens": 1}), id="r")])
