"""The programs in examples/ that stand for no earlier session store do what they say."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ledger import AsyncSessionLedger, SessionLedger

EXAMPLES = Path(__file__).parents[2] / "examples"
QUESTION = "How many orders last week?"


def module(name: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": name}
    exec(compile((EXAMPLES / f"{name}.py").read_text("utf-8"), name, "exec"), names)  # noqa: S102 - our own example
    return names


def test_the_agent_answers_once_and_finds_its_answer_the_second_time(tmp_path: Path) -> None:
    told = [
        subprocess.run(
            [sys.executable, str(EXAMPLES / "agent.py"), "report-7", QUESTION],
            env={**os.environ, "LEDGER_URL": f"sqlite:///{tmp_path / 'l.db'}"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for _ in range(2)
    ]
    assert told == ["report-7 is completed at version 9: 1,217 orders, most on 2026-11-16.\n"] * 2


@pytest.mark.parametrize("method", ["add_message", "update_strategy", "update_session", "update_tool_call_status"])
@pytest.mark.parametrize("call", [1, 2])
def test_an_agent_that_dies_between_any_two_steps_goes_on_and_records_each_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, call: int
) -> None:
    answer = module("agent")["answer"]
    real, calls = getattr(SessionLedger, method), []

    def dying(*args: Any, **more: Any) -> Any:
        calls.append(1)
        done = real(*args, **more)
        if len(calls) == call:
            raise KeyboardInterrupt
        return done

    with closing(SessionLedger(f"sqlite:///{tmp_path / 'l.db'}")) as ledger:
        monkeypatch.setattr(SessionLedger, method, dying)
        if method != "update_strategy" or call == 1:
            with pytest.raises(KeyboardInterrupt):
                answer(ledger, "s", QUESTION)
        monkeypatch.undo()
        assert answer(ledger, "s", QUESTION).summary == "1,217 orders, most on 2026-11-16."
        assert ledger.get_session("s").version == 9
        assert [message.role for message in ledger.get_messages("s")] == ["user", "assistant"]


@pytest.mark.parametrize("version", range(1, 10))
def test_a_rewound_agent_takes_its_steps_again(tmp_path: Path, version: int) -> None:
    answer = module("agent")["answer"]
    with closing(SessionLedger(f"sqlite:///{tmp_path / 'l.db'}")) as ledger:
        answer(ledger, "s", QUESTION)
        for _ in range(2):
            ledger.rewind("s", version)
            session = answer(ledger, "s", QUESTION)
            assert (session.status, session.summary) == ("completed", "1,217 orders, most on 2026-11-16.")
            assert session.tool_call_status == ["completed", "completed"]
            assert [message.role for message in ledger.get_messages("s")] == ["user", "assistant"]
        assert answer(ledger, "s", QUESTION).version == session.version


def test_the_tools_are_called_in_the_order_of_the_strategy(tmp_path: Path) -> None:
    names, called = module("agent"), []
    for name, tool in dict(names["TOOLS"]).items():
        names["TOOLS"][name] = lambda name=name, tool=tool: called.append(name) or tool()
    with closing(SessionLedger(f"sqlite:///{tmp_path / 'l.db'}")) as ledger:
        assert names["answer"](ledger, "s", QUESTION).strategy == "Count the orders, then find the best day."
    assert called == ["count_orders", "best_day"]


def test_a_tool_that_fails_is_recorded_as_failed(tmp_path: Path) -> None:
    names = module("agent")

    def broken() -> dict[str, Any]:
        raise TimeoutError("no answer in 30 s")

    names["TOOLS"]["best_day"] = broken
    with closing(SessionLedger(f"sqlite:///{tmp_path / 'l.db'}")) as ledger:
        with pytest.raises(KeyError):  # of which the agent knows nothing to say
            names["answer"](ledger, "s", QUESTION)
        session = ledger.get_session("s")
        assert [(call.name, call.status) for call in session.calls] == [
            ("count_orders", "completed"),
            ("best_day", "failed"),
        ]
        error = session.calls[1].result["error"]
        assert error == {"type": "TimeoutError", "message": "no answer in 30 s"}


def run_notebook() -> dict[str, Any]:
    """Run the cells of the notebook in their order and return its names."""
    notebook = json.loads((EXAMPLES / "analysis.ipynb").read_text("utf-8"))
    names: dict[str, Any] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
            exec("".join(cell["source"]), names)  # noqa: S102 - our own notebook
    return names


def test_the_cells_of_the_notebook_run_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LEDGER_URL", raising=False)
    names = run_notebook()
    assert names["success"]["mean"].to_dict() == {"user0": 1.0, "user1": 1 / 3}
    assert names["calls"].set_index("name")[["calls", "failed"]].T.to_dict("list") == {"search": [6, 0], "plot": [1, 1]}
    assert names["turns"]["turns"].tolist() == [1] * 5


def test_the_notebook_takes_the_newest_session_of_a_ledger_without_failed_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEDGER_URL", f"sqlite:///{tmp_path / 'mine.db'}")
    with SessionLedger.open(f"sqlite:///{tmp_path / 'mine.db'}") as ledger:
        for number in range(2):
            sid = ledger.create_session("ada", f"Question {number}")
            ledger.add_message(sid, "user", "Hello")
            ledger.update_tool_call_status(sid, "search#1", "completed", {"rows": 1})
    assert run_notebook()["sid"] == sid


@pytest.fixture
def service(tmp_path: Path) -> Iterator[str]:
    """The address of the FastAPI example, which runs in a process of its own."""
    pytest.importorskip("fastapi", reason="installed with Python 3.13 alone")
    with socket.create_server(("127.0.0.1", 0)) as listening:  # connections wait in it until the service has started
        number = listening.fileno()
        command = [sys.executable, "-m", "uvicorn", "fastapi_app:app", "--app-dir", str(EXAMPLES), "--fd", str(number)]
        settings = {**os.environ, "LEDGER_URL": f"sqlite:///{tmp_path / 'l.db'}"}
        quiet = subprocess.DEVNULL
        with subprocess.Popen(command, env=settings, pass_fds=[number], stdout=quiet, stderr=quiet) as process:
            try:
                yield f"http://127.0.0.1:{listening.getsockname()[1]}"
            finally:
                process.terminate()
                assert process.wait(30) in (0, -15)


def call(place: str, path: str, user: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    request = urllib.request.Request(  # noqa: S310 - our own server
        place + path,
        data=None if body is None else json.dumps(body).encode(),
        headers={"X-User": user, "Content-Type": "application/json", **headers},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - our own server
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_the_service_keeps_a_session_for_its_user_alone(service: str) -> None:
    status, made = call(service, "/sessions", "ada", {"question": QUESTION})
    assert status == 201
    path = f"/sessions/{made['session_id']}"
    told = [call(service, f"{path}/messages", "ada", {"content": "hello"}, **{"Idempotency-Key": "k1"}) for _ in "ab"]
    assert [(status, body["version"], body["replayed"]) for status, body in told] == [(201, 3, False), (201, 3, True)]
    status, session = call(service, path, "ada")
    assert (status, [it["content"] for it in session["messages"]]) == (200, ["hello", "You said: hello"])
    assert call(service, f"{path}?version=1", "ada")[1]["version"] == 1
    assert call(service, path, "ben")[0] == 404
    assert call(service, f"{path}/messages", "ben", {"content": "x"})[1]["code"] == "session_not_found"
    assert call(service, f"{path}?version=9", "ada")[0] == 422
    assert [len(call(service, "/sessions", user)[1]["sessions"]) for user in ("ada", "ben")] == [1, 0]


def test_requests_with_one_key_that_arrive_at_once_get_one_answer(service: str) -> None:
    path = f"/sessions/{call(service, '/sessions', 'ada', {'question': QUESTION})[1]['session_id']}"

    def say(_: int) -> tuple[int, Any]:
        return call(service, f"{path}/messages", "ada", {"content": "hello"}, **{"Idempotency-Key": "k1"})

    with ThreadPoolExecutor(5) as threads:
        told = list(threads.map(say, range(5)))
    assert [(status, body["answer"], body["version"]) for status, body in told] == [(201, "You said: hello", 3)] * 5
    assert [it["role"] for it in call(service, path, "ada")[1]["messages"]] == ["user", "assistant"]


def test_the_first_of_several_answers_of_a_model_is_that_of_all_requests_with_a_key(tmp_path: Path) -> None:
    pytest.importorskip("fastapi", reason="installed with Python 3.13 alone")
    names = module("fastapi_app")
    asked, all_have_asked = 0, asyncio.Event()

    async def another_answer(content: str) -> str:
        nonlocal asked
        asked += 1
        if asked == 5:
            all_have_asked.set()
        await all_have_asked.wait()
        return f"{content}, {uuid.uuid4()}"

    async def main() -> None:
        async with AsyncSessionLedger(f"sqlite:///{tmp_path / 'l.db'}") as ledger:
            ada = ledger.for_user("ada")
            sid = await ada.create_session(question=QUESTION)
            message = names["NewMessage"](content="hello")
            told = await asyncio.gather(*(names["say"](sid, message, ada, "k1") for _ in range(5)))
            user, assistant = await ada.get_messages(sid)
            assert (user.role, assistant.role) == ("user", "assistant")
            assert [(it["answer"], it["version"]) for it in told] == [(assistant.content, 3)] * 5
            assert (await names["say"](sid, message, ada, "k1"))["answer"] == assistant.content
            assert asked == 5
            fork = await ada.fork_session(sid)  # has the answer, which is not that of the fork's own message
            assert (await names["say"](fork, message, ada, "k1"))["answer"] != assistant.content

    names["ask_model"] = another_answer
    asyncio.run(main())


def test_a_request_whose_message_was_taken_back_is_told_to_send_another_key(service: str, tmp_path: Path) -> None:
    path = f"/sessions/{call(service, '/sessions', 'ada', {'question': QUESTION})[1]['session_id']}"
    keyed = {"Idempotency-Key": "k1"}
    assert call(service, f"{path}/messages", "ada", {"content": "hello"}, **keyed)[0] == 201
    with SessionLedger(f"sqlite:///{tmp_path / 'l.db'}") as ledger:
        ledger.rewind(path.removeprefix("/sessions/"), 1)
    status, body = call(service, f"{path}/messages", "ada", {"content": "hello"}, **keyed)
    assert (status, body["detail"][-27:]) == (409, "; send it with another key.")
