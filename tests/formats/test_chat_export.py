"""Sessions as runs in the OpenAI chat form: what is exported is what the importer reads."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ledger import SessionLedger, SessionNotFound
from ledger.formats.chat_export import LeftOut, export_chats
from ledger.formats.openai_chat import import_runs
from support.recorded_runs import REAL
from support.shell import Shell


@pytest.fixture
def other(tmp_path: Path) -> Iterator[SessionLedger]:
    with SessionLedger.open(f"sqlite:///{tmp_path / 'other.db'}") as opened:
        yield opened


def exported(ledger: SessionLedger, **options: Any) -> list[dict[str, Any]]:
    ids = [session.session_id for session in ledger.list_sessions()]
    return [json.loads(line) for line in export_chats(ledger.store, ids, **options)]


def call(call_id: str, name: str, arguments: str = "{}") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def run_of(*messages: dict[str, Any], **parts: Any) -> bytes:
    return json.dumps({"session_id": "s", "messages": list(messages), **parts}).encode()


def with_arguments(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages with the arguments of their calls decoded, and without keys that are null in the input."""
    found = json.loads(json.dumps(messages))
    for message in found:
        if message.get("tool_calls") is None:
            message.pop("tool_calls", None)
        for each in message.get("tool_calls", ()):
            each["function"]["arguments"] = json.loads(each["function"]["arguments"])
    return found  # type: ignore[no-any-return]


@pytest.mark.skipif(not REAL.is_file(), reason="the recorded runs are not beside this checkout")
def test_the_recorded_runs_come_back_with_every_message_call_and_answer(
    ledger: SessionLedger, other: SessionLedger
) -> None:
    lines = REAL.read_bytes().splitlines(keepends=True)[:40]
    import_runs(ledger.store, lines)
    given = {(run["task_id"], run["trial"]): run for run in map(json.loads, lines)}
    ids = [session.session_id for session in ledger.list_sessions(limit=100)]
    written = list(export_chats(ledger.store, ids))
    assert len(written) == len(given) == 40
    for run in map(json.loads, written):
        source = given[run["task_id"], run["trial"]]
        assert with_arguments(run["messages"]) == with_arguments(source["traj"])
        assert {name: run[name] for name in source if name != "traj"} == {
            name: value for name, value in source.items() if name != "traj"
        }
        assert run["user_id"] == source["info"]["task"]["user_id"]
    assert import_runs(other.store, written).sessions == 40
    assert list(export_chats(other.store, ids)) == written
    assert import_runs(other.store, written).new == 0
    for session_id in ids[:5]:
        here, there = (it.require_session(session_id, messages=True) for it in (ledger, other))
        assert [message.content for message in there.messages] == [message.content for message in here.messages]
        assert there.calls == here.calls
        assert (there.created_at, there.user_id, there.results) == (here.created_at, here.user_id, here.results)


RUNS: dict[str, list[dict[str, Any]]] = {
    "several calls in one message, answered out of order": [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": None, "tool_calls": [call("a", "now"), call("b", "soon", '{"days":2}')]},
        {"role": "tool", "tool_call_id": "b", "content": '{"rain":true}'},
        {"role": "tool", "tool_call_id": "a", "content": "Error: no station"},
        {"role": "assistant", "content": "Rain.", "refusal": None},
    ],
    "an id that is used twice": [
        {"role": "assistant", "content": None, "tool_calls": [call("a", "now")]},
        {"role": "tool", "tool_call_id": "a", "content": "sun"},
        {"role": "assistant", "content": None, "tool_calls": [call("a", "now")]},
        {"role": "tool", "tool_call_id": "a", "content": "rain"},
    ],
    "arguments that are no JSON, or lose digits as JSON": [
        {"role": "assistant", "content": None, "tool_calls": [call("a", "now", "not json")]},
        {"role": "assistant", "content": None, "tool_calls": [call("b", "now", '{"n": 0.12345678901234567890}')]},
    ],
    "a call without an answer, and an answer without a call": [
        {"role": "assistant", "content": None, "tool_calls": [call("a", "now")]},
        {"role": "tool", "tool_call_id": "z", "content": "who asked?"},
    ],
    "parts, names and keys of one's own": [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Look"}, {"type": "image_url", "image_url": {}}]},
        {"role": "assistant", "content": "I see.", "name": "bot", "usage": {"prompt_tokens": 9}, "token_count": 3},
    ],
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_comes_back_as_it_was_given(ledger: SessionLedger, name: str) -> None:
    import_runs(ledger.store, [run_of(*RUNS[name], task=7, info={"a": [1]}, title="T")])
    (run,) = exported(ledger)
    assert run["messages"] == RUNS[name]
    assert (run["session_id"], run["user_id"], run["title"]) == ("s", "imported", "T")
    assert (run["task"], run["info"]) == (7, {"a": [1]})


FORMS: dict[str, list[dict[str, Any]]] = {
    "Anthropic": [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": [{"type": "text", "text": "Let me see."},
                                          {"type": "tool_use", "id": "a", "name": "now", "input": {"at": "Oslo"}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": "sun"}]},
    ],
    "Responses": [
        {"role": "user", "content": "Weather?"},
        {"type": "function_call", "call_id": "a", "name": "now", "arguments": '{"at":"Oslo"}'},
        {"type": "function_call_output", "call_id": "a", "output": "sun"},
    ],
    "functions": [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": None, "function_call": {"name": "now", "arguments": '{"at": "Oslo"}'}},
        {"role": "function", "name": "now", "content": "sun"},
    ],
    "Ollama": [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": "",
         "tool_calls": [{"function": {"name": "now", "arguments": {"at": "Oslo"}}}]},
        {"role": "tool", "tool_name": "now", "content": "sun"},
    ],
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_runs_in_other_forms_are_exported_in_the_form_of_chat_completions(
    ledger: SessionLedger, other: SessionLedger, form: str
) -> None:
    import_runs(ledger.store, [run_of(*FORMS[form])])
    (run,) = exported(ledger, messages_only=True)
    user, asked, answered = run["messages"]
    assert user == {"role": "user", "content": "Weather?"}
    (made,) = asked.pop("tool_calls")
    assert (asked["role"], made["type"]) == ("assistant", "function")
    assert made["function"] == {"name": "now", "arguments": '{"at":"Oslo"}'}
    assert (answered["role"], answered["tool_call_id"], answered["content"]) == ("tool", made["id"], "sun")
    (line,) = export_chats(ledger.store, ["s"])
    import_runs(other.store, [line])
    (there,) = other.require_session("s", messages=True).calls
    assert (there.name, there.status, there.result, there.definition["arguments"]) == (
        *("now", "completed", "sun"),
        {"at": "Oslo"},
    )


def test_answers_in_one_message_become_one_message_each_and_what_was_said_beside_them_stays(
    ledger: SessionLedger, other: SessionLedger
) -> None:
    asked = [{"type": "tool_use", "id": name, "name": name, "input": {"n": 1}} for name in ("a", "b")]
    answers = [
        {"type": "tool_result", "tool_use_id": "b", "content": "no station", "is_error": True},
        {"type": "tool_result", "tool_use_id": "a", "content": "sun"},
    ]
    said = {"type": "text", "text": "Go on."}
    import_runs(
        ledger.store,
        [run_of({"role": "assistant", "content": asked}, {"role": "user", "content": [*answers, said], "name": "ada"})],
    )
    (run,) = exported(ledger)
    assert run["messages"] == [
        {"role": "assistant", "content": None, "tool_calls": [call("a", "a", '{"n":1}'), call("b", "b", '{"n":1}')]},
        {"role": "tool", "tool_call_id": "b", "name": "b", "content": "no station", "is_error": True},
        {"role": "tool", "tool_call_id": "a", "name": "a", "content": "sun"},
        {"role": "user", "content": [said], "name": "ada"},
    ]
    import_runs(other.store, export_chats(ledger.store, ["s"]))
    here, there = (it.require_session("s", messages=True).calls for it in (ledger, other))
    assert [(it.name, it.status, it.result) for it in there] == [(it.name, it.status, it.result) for it in here]
    assert exported(other) == [run]


def test_a_session_recorded_by_a_program_has_its_calls_and_results_in_order(ledger: SessionLedger) -> None:
    plan = {"tool_calls": [{"name": "orders", "arguments": {"most": 2**64 - 1, "rate": 0.1}}, "trend"]}
    ledger.create_session("ada", "How many?", session_id="s", fields={"constraints": plan})
    ledger.update_tool_call_status("s", "orders", "completed", result={"rows": 3})
    ledger.update_tool_call_status("s", "trend", "failed")
    ledger.add_message("s", "assistant", "Three.", message_id="m")
    ledger.set_attributes("s", {"team": "web"})
    ledger.add_score("s", "quality", 5)
    (run,) = exported(ledger)
    assert run["messages"] == [
        {"role": "user", "content": "How many?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [call("orders", "orders", f'{{"most":{2**64 - 1},"rate":0.1}}'), call("trend", "trend")],
        },
        {"role": "tool", "tool_call_id": "orders", "name": "orders", "content": '{"rows":3}'},
        {"role": "tool", "tool_call_id": "trend", "name": "trend", "content": "Error:"},
        {"role": "assistant", "content": "Three."},
    ]
    assert run["team"] == "web"
    assert [(score["name"], score["value"]) for score in run["scores"]] == [("quality", 5)]
    (plain,) = exported(ledger, messages_only=True)
    assert plain == {"messages": run["messages"]}


def test_what_a_message_lost_is_gone_from_the_run(ledger: SessionLedger) -> None:
    ledger.create_session("ada", "q", session_id="s")
    ledger.add_message("s", "user", "keep", message_id="m1")
    ledger.add_message("s", "user", "secret", message_id="m2")
    ledger.remove_message("s", "m2")
    (run,) = exported(ledger)
    assert run["messages"] == [{"role": "user", "content": "keep"}]


def test_sessions_that_are_deleted_erased_empty_or_too_low_are_left_out_with_the_reason(
    ledger: SessionLedger, tmp_path: Path
) -> None:
    for name in ("deleted", "erased", "low", "unscored", "good", "text"):
        ledger.create_session("ada", "q", session_id=name)
        ledger.add_message(name, "user", "secret", message_id="m")
    for name, value in (("low", 3.5), ("good", 4), ("text", "best"), ("erased", 5), ("deleted", 5)):
        ledger.add_score(name, "quality", value)
    ledger.delete_session("deleted")
    ledger.create_session("ada", session_id="empty")
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection, connection:
        for table in ("session_events", "session_state"):
            salt = ", value_salt = NULL" if table == "session_events" else ""
            connection.execute(
                f"UPDATE {table} SET value = NULL{salt} WHERE session_id = 'erased' AND field = 'message'"
            )
    left_out: list[LeftOut] = []
    ids = ["deleted", "erased", "low", "unscored", "good", "text", "empty"]
    with SessionLedger.open(f"sqlite:///{tmp_path / 'ledger.db'}") as opened:  # it has no state in a cache
        lines = list(export_chats(opened.store, ids, min_scores={"quality": 4}, leave_out=left_out.append))
        assert [json.loads(line)["session_id"] for line in lines] == ["good"]
        assert {each.session_id: each.reason for each in left_out} == {
            "deleted": "deleted",
            "erased": "erased values",
            "low": "score quality below 4",
            "unscored": "no score quality",
            "text": "no score quality",
            "empty": "no score quality",
        }
        left_out.clear()
        assert list(export_chats(opened.store, ["empty"], leave_out=left_out.append)) == []
        assert left_out == [LeftOut("empty", "no messages")]
        with pytest.raises(SessionNotFound, match="no session nobody"):
            list(export_chats(opened.store, ["nobody"]))


def test_a_score_of_true_is_one_and_a_score_of_false_is_zero(ledger: SessionLedger) -> None:
    for name, value in (("good", True), ("bad", False)):
        ledger.create_session("ada", "q", session_id=name)
        ledger.add_message(name, "assistant", "a")
        ledger.add_score(name, "helpful", value)
    lines = list(export_chats(ledger.store, ["good", "bad"], min_scores={"helpful": 1}))
    assert [json.loads(line)["session_id"] for line in lines] == ["good"]


def test_names_of_attributes_never_replace_what_a_line_says_of_the_session(ledger: SessionLedger) -> None:
    ledger.create_session("ada", "q", session_id="s")
    ledger.set_attributes("s", {"session_id": "t", "messages": "none", "output": "x", "items": 3, "user_id": "eve"})
    ledger.set_results("s", {"output": [1], "traj": [2]})
    (run,) = exported(ledger)
    assert (run["session_id"], run["user_id"]) == ("s", "ada")
    assert run["messages"] == [{"role": "user", "content": "q"}]
    assert (run["output"], run["items"], run["traj"]) == ("x", 3, [2])


def test_the_command_line_chooses_sessions_and_says_what_it_left_out(shell: Shell, tmp_path: Path) -> None:
    ids = {}
    for name, score in (("good", 5), ("low", 1), ("open", 5)):
        ids[name] = shell.ok("new", f"{name}?", "--user", "ada").strip()
        shell.ok("score", ids[name], "quality", str(score))
        if name != "open":
            shell.ok("complete", ids[name])
    out = str(tmp_path / "runs.jsonl")
    options = ("--format", "openai-chat", "--status", "completed", "--min-score", "quality=4")
    result = shell("export", *options, "-o", out)
    assert result.stderr == "1 session left out: score quality below 4.\n1 session exported.\n"
    (line,) = Path(out).read_bytes().splitlines()
    assert json.loads(line)["session_id"] == ids["good"]
    told = shell.json("export", *options, "-o", out)
    assert told == {"sessions": 1, "left_out": [{"session_id": ids["low"], "reason": "score quality below 4"}]}
    assert json.loads(shell.ok("export", "--format", "openai-chat", "--messages-only", ids["open"])) == {
        "messages": [{"role": "user", "content": "open?"}]
    }
    assert shell.ok("export", "--format", "openai-chat", "--attribute", "team=web") == ""
    other = f"sqlite:///{tmp_path / 'other.db'}"
    assert shell.ok("import", "-u", other, "--format", "openai-chat", out) == "1 session, 3 events: 3 new.\n"
