"""Tool calls in the forms in which chat APIs write them, and their arguments and answers, exactly."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ledger import InvalidInput, Session, SessionLedger
from ledger.formats.openai_chat import import_runs

Importer = Callable[..., Session]
ASKED = {"role": "user", "content": "How is the weather?"}


@pytest.fixture
def recorded(tmp_path: Path) -> Any:
    """Import of one run, given as a value or as JSON text, which returns the session with its messages."""
    with SessionLedger.open(f"sqlite:///{tmp_path / 'ledger.db'}?synchronous=NORMAL") as ledger:

        def one(run: Any) -> Session:
            import_runs(ledger.store, [(run if isinstance(run, str) else json.dumps(run)).encode()])
            found = ledger.get_session(ledger.list_sessions()[0].session_id, messages=True)
            assert found is not None
            return found

        yield one


def calls_of(session: Session) -> list[tuple[str, str, Any, str, Any]]:
    return [(it.call_id, it.name, it.definition.get("arguments"), it.status, it.result) for it in session.calls]


def chat(*calls: Any, **keys: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, **({"tool_calls": list(calls)} if calls else {}), **keys}


def function(name: str, arguments: Any = "{}", **keys: Any) -> dict[str, Any]:
    return {**keys, "function": {"name": name, "arguments": arguments}}


CHAT_FORMS = {
    "Ollama, without ids": (
        [chat(function("weather", {"city": "Bern"})), {"role": "tool", "tool_name": "weather", "content": "3"}],
        ("weather", "weather", {"city": "Bern"}, "completed", 3),
    ),
    "an empty id": (
        [chat(function("weather", id="", type="function")), {"role": "tool", "tool_call_id": "", "content": "3"}],
        ("weather", "weather", {}, "completed", 3),
    ),
    "null for the id": (
        [chat(function("weather", id=None)), {"role": "tool", "tool_call_id": None, "content": "3"}],
        ("weather", "weather", {}, "completed", 3),
    ),
    "a custom tool": (
        [
            chat({"id": "c1", "type": "custom", "custom": {"name": "code", "input": "print(1)"}}),
            {"role": "tool", "tool_call_id": "c1", "content": "1"},
        ],
        ("c1", "code", "print(1)", "completed", 1),
    ),
    "function_call": (
        [
            chat(function_call={"name": "weather", "arguments": '{"city": "Bern"}'}),
            {"role": "function", "name": "weather", "content": "Error: no station"},
        ],
        ("weather", "weather", {"city": "Bern"}, "failed", "Error: no station"),
    ),
    "LangChain": (
        [
            chat({"name": "weather", "args": {"city": "Bern"}, "id": "c1", "type": "tool_call"}),
            {"role": "tool", "tool_call_id": "c1", "status": "error", "content": "no station"},
        ],
        ("c1", "weather", {"city": "Bern"}, "failed", "no station"),
    ),
    "an id that only the call has": (
        [chat(function("weather", id="c1")), {"role": "tool", "name": "weather", "content": "3"}],
        ("c1", "weather", {}, "completed", 3),
    ),
}


@pytest.mark.parametrize("form", CHAT_FORMS)
def test_a_call_of_each_chat_form_is_recorded_and_answered(recorded: Importer, form: str) -> None:
    messages, expected = CHAT_FORMS[form]
    session = recorded([ASKED, *messages])
    assert calls_of(session) == [expected]
    assert session.messages[1].tools_used == [expected[1]]
    assert [it.role for it in session.messages] == ["user", "assistant", messages[-1]["role"]]


def test_calls_of_one_tool_without_ids_are_answered_in_turn(recorded: Importer) -> None:
    run = [
        ASKED,
        chat(function("search", {"q": "a"}), function("price"), function("search", {"q": "b"})),
        {"role": "tool", "tool_name": "search", "content": "first"},
        {"role": "tool", "content": "the price"},
        {"role": "tool", "tool_name": "search", "content": "second"},
    ]
    assert {it.call_id: (it.definition.get("id"), it.result) for it in recorded(run).calls} == {
        "search": (None, "first"),
        "price": (None, "the price"),
        "search#2": (None, "second"),
    }


def test_items_of_the_responses_api_become_messages_and_calls(recorded: Importer) -> None:
    run = {
        "object": "response",
        "status": "completed",
        "input": "How is the weather?",
        "output": [
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "I ask the station."}]},
            {
                "type": "function_call",
                "id": "fc_1",
                "call_id": "c1",
                "name": "weather",
                "arguments": '{"city": "Bern"}',
            },
            {"type": "function_call_output", "call_id": "c1", "output": '{"celsius": 3}'},
            {"type": "custom_tool_call", "call_id": "c2", "name": "code", "input": "print(1)"},
            {
                "type": "custom_tool_call_output",
                "call_id": "c2",
                "output": [{"type": "input_text", "text": "Error: x"}],
            },
            {
                "type": "web_search_call",
                "id": "ws_1",
                "status": "completed",
                "action": {"type": "search", "query": "q"},
            },
            {"type": "code_interpreter_call", "id": "ci_1", "status": "failed", "code": "1/0", "outputs": None},
            {"type": "mcp_call", "id": "m1", "name": "files", "arguments": "{}", "error": "no such server"},
            {
                "type": "computer_call",
                "id": "cu_1",
                "call_id": "c3",
                "action": {"type": "click"},
                "status": "completed",
            },
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "3 degrees"}]},
        ],
    }
    session = recorded(run)
    assert session.question == "How is the weather?"
    assert {it.call_id: (it.name, it.definition["arguments"], it.status, it.result) for it in session.calls} == {
        "c1": ("weather", {"city": "Bern"}, "completed", {"celsius": 3}),
        "c2": ("code", "print(1)", "failed", "Error: x"),
        "ws_1": ("web_search", {"action": {"type": "search", "query": "q"}}, "completed", None),
        "ci_1": ("code_interpreter", {"code": "1/0"}, "failed", None),
        "m1": ("files", {}, "failed", "no such server"),
        "c3": ("computer", {"action": {"type": "click"}}, "pending", None),
    }
    assert [it.role for it in session.messages] == [
        "user",
        *["assistant"] * 2,
        "tool",
        "assistant",
        "tool",
        *["assistant"] * 5,
    ]
    assert session.messages[1].content == "I ask the station."
    assert session.messages[2].metadata == {
        "type": "function_call",
        "id": "fc_1",
        "call_id": "c1",
        "name": "weather",
        "call_ids": ["c1"],
    }
    assert session.attributes["status"] == "completed"


def test_a_list_of_items_is_a_run_as_an_agents_session_keeps_it(recorded: Importer) -> None:
    run = [ASKED, {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"}]
    assert calls_of(recorded(run)) == [("c1", "weather", {}, "pending", None)]


def test_content_blocks_of_anthropics_api_hold_calls_and_answers(recorded: Importer) -> None:
    run = {
        "system": "Be brief.",
        "messages": [
            ASKED,
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "I ask."},
                    {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Bern"}},
                    {"type": "tool_use", "id": "t2", "name": "traffic", "input": {}},
                    {"type": "server_tool_use", "id": "t3", "name": "web_search", "input": {"query": "q"}},
                    {
                        "type": "web_search_tool_result",
                        "tool_use_id": "t3",
                        "content": {"type": "web_search_tool_result_error"},
                    },
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "t2", "is_error": True, "content": "no camera"},
                    {
                        "type": "tool_result",
                        "tool_use_id": "t1",
                        "content": [{"type": "text", "text": '{"celsius": 3}'}],
                    },
                ],
            },
            {"role": "user", "content": [{"type": "text", "text": "And tomorrow?"}]},
        ],
    }
    session = recorded(run)
    assert {it.call_id: (it.name, it.definition["arguments"], it.status, it.result) for it in session.calls} == {
        "t1": ("weather", {"city": "Bern"}, "completed", {"celsius": 3}),
        "t2": ("traffic", {}, "failed", "no camera"),
        "t3": ("web_search", {"query": "q"}, "failed", {"type": "web_search_tool_result_error"}),
    }
    # A message that has nothing but answers is no turn of the user.
    assert [it.role for it in session.messages] == ["user", "assistant", "tool", "user"]
    assert session.messages[2].metadata == {"role": "user", "call_ids": ["t2", "t1"]}
    assert session.messages[1].content == run["messages"][1]["content"]  # type: ignore[index]
    assert (session.question, session.attributes["system"]) == ("How is the weather?", "Be brief.")


@pytest.mark.parametrize("text", ["Error: the service is down", '{"celsius": 3}', "plain", ""])
def test_an_answer_in_parts_is_read_like_the_same_answer_as_text(recorded: Importer, text: str) -> None:
    def run(content: Any) -> list[Any]:
        return [ASKED, chat(function("f", id="c1")), {"role": "tool", "tool_call_id": "c1", "content": content}]

    (plain,) = calls_of(recorded(run(text)))
    (parts,) = calls_of(recorded(run([{"type": "text", "text": text}])))
    assert plain == parts


def test_an_answer_with_a_picture_keeps_its_parts(recorded: Importer) -> None:
    content = [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": "u"}}]
    run = [ASKED, chat(function("f", id="c1")), {"role": "tool", "tool_call_id": "c1", "content": content}]
    assert recorded(run).calls[0].result == content


INEXACT = [
    '{"amount": 100000000000000000.05}',
    '{"eth": 0.123456789012345678}',
    '{"deep": [{"to": "acct-1", "to": "acct-2"}]}',
    '{"n": 123456789012345678901234567890}',
    '{"tiny": 1e-400}',
    '{"huge": 1e99999999999999999999}',
    '{"text": "half \\ud83d"}',
    '{"x": NaN}',
    "not json",
]


@pytest.mark.parametrize("arguments", INEXACT)
def test_arguments_that_their_value_would_change_stay_the_text_that_the_model_wrote(
    recorded: Importer, arguments: str
) -> None:
    assert recorded([ASKED, chat(function("pay", arguments))]).calls[0].definition["arguments"] == arguments


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        ('{"a": 0.1, "b": 1e2, "c": 2.50}', {"a": 0.1, "b": 100.0, "c": 2.5}),
        ('{"n": 18446744073709551615}', {"n": 2**64 - 1}),
    ],
)
def test_arguments_that_their_value_keeps_are_recorded_as_a_value(
    recorded: Importer, arguments: str, value: Any
) -> None:
    assert recorded([ASKED, chat(function("pay", arguments))]).calls[0].definition["arguments"] == value


@pytest.mark.parametrize("arguments", INEXACT[:3])
def test_arguments_and_answers_that_are_objects_lose_nothing_either(recorded: Importer, arguments: str) -> None:
    planned = (
        '{"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "pay", "arguments": ARGUMENTS}}]}'
    )
    answered = '{"type": "function_call_output", "call_id": "", "output": ARGUMENTS}'
    run = f"[{planned}, {answered}]".replace("ARGUMENTS", arguments)
    (call,) = recorded(run).calls
    assert (call.definition["arguments"], call.result) == (arguments, arguments)


def test_a_number_elsewhere_is_the_nearest_double_and_a_repeated_key_elsewhere_is_refused(recorded: Importer) -> None:
    session = recorded('{"messages": [{"role": "user", "content": "a", "logprob": -0.123456789012345678}]}')
    assert session.messages[0].metadata == {"logprob": -0.12345678901234568}
    with pytest.raises(InvalidInput, match=r"^Line 1: the key messages\[0\]\.content is repeated"):
        recorded('{"messages": [{"role": "user", "content": "a", "content": "b"}]}')


@pytest.mark.parametrize(
    ("message", "place"),
    [
        (chat({"id": "c"}), "messages.0.tool_calls.0 has no function, custom tool or name"),
        (chat({"function": {"arguments": "{}"}}), "messages.0.tool_calls.0.function.name: Field required"),
        (
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t"}]},
            "messages.0.content.0 is a tool call without",
        ),
        ({"type": "function_call", "call_id": "c"}, "messages.0 is a tool call without a name"),
        ({"content": "neither"}, "messages.0 has no role, and no type"),
    ],
)
def test_a_message_that_cannot_be_read_is_named(recorded: Importer, message: Any, place: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        recorded([message])
    assert place in str(refused.value)
