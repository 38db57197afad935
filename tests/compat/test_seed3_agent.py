"""Seed 3, the conversation service: the agent that answers, and what is kept while the store is away."""

from __future__ import annotations

import runpy
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ledger import Change, InvalidInput, SessionLedger
from ledger.compat.conversations import ConversationService
from ledger.compat.persistent_agent import ChatResponse, Reply
from ledger.testing import START, SetClock
from support.conversations import Lossy, agent_over, run, said

ROOT = Path(__file__).resolve().parents[2]


# The agent


def test_both_user_message_and_assistant_response_are_saved(service: ConversationService, ada: Any) -> None:
    async def scenario() -> None:
        existing = (await service.create_session(user=ada)).session_id
        agent = agent_over(service, lambda message, before: Reply("Hi.", ["greet"], 3, {"model": "m"}))
        response = await agent.chat(message="Hello!", session_id=existing, user=ada)
        assert isinstance(response, ChatResponse)
        assert (response.session_id, response.content, response.unsaved) == (existing, "Hi.", ())
        session = await service.get_session(existing, ada, include_messages=True)
        assert said(session) == [("user", "Hello!"), ("assistant", "Hi.")]
        assert session is not None
        assert session.messages is not None
        answer = session.messages[1]
        assert (answer.tools_used, answer.token_count, answer.message_metadata) == (["greet"], 3, {"model": "m"})
        assert answer.processing_time_ms is not None

    run(scenario)


def test_an_agent_is_asked_with_what_was_said_before(service: ConversationService, ada: Any) -> None:
    async def scenario() -> None:
        seen = []

        async def answer(message: Any, before: Any) -> str:
            seen.append([it.content for it in before])
            return "ok"

        agent = agent_over(service, answer)
        session_id = (await agent.chat("one", user=ada)).session_id
        await agent.chat("two", session_id, ada)
        await agent_over(service, answer).chat("three", session_id, ada)  # another process
        assert seen == [[], ["one", "ok"], ["one", "ok", "two", "ok"]]

    run(scenario)


def test_processing_failures_are_tracked_and_persisted_with_error_details(
    service: ConversationService, ada: Any
) -> None:
    async def scenario() -> None:
        def answer(message: Any, before: Any) -> str:
            raise RuntimeError("the model is overloaded")

        response = await agent_over(service, answer).chat("Hello!", user=ada)
        assert response.has_error
        assert response.error_message == "RuntimeError: the model is overloaded"
        session = await service.get_session(response.session_id, ada, include_messages=True)
        assert session is not None
        assert session.messages is not None
        assert [(it.role, it.has_error, it.error_message) for it in session.messages] == [
            ("user", False, None),
            ("assistant", True, "RuntimeError: the model is overloaded"),
        ]

    run(scenario)


def test_graceful_degradation_when_the_database_is_unavailable(
    service: ConversationService, store: Lossy, ada: Any
) -> None:
    async def scenario() -> None:
        store.away = True
        response = await agent_over(service).chat("Hello!", user=ada)
        assert response.content == "You said: Hello!"
        assert [message.content for message in response.unsaved] == ["Hello!", "You said: Hello!"]
        assert response.store_error is not None
        assert "away" in response.store_error

    run(scenario)


def test_dual_storage_saves_what_memory_holds_in_order_and_once_when_the_store_is_back(
    service: ConversationService, store: Lossy, ada: Any
) -> None:
    async def scenario() -> None:
        clock = SetClock()
        agent = agent_over(service, clock=clock)
        session_id = (await agent.chat("one", user=ada)).session_id
        store.away = True
        clock.move(60)
        await agent.chat("two", session_id, ada)
        away = await agent.chat("three", session_id, ada)
        assert len(away.unsaved) == len(agent.unsaved) == 4
        store.away = False
        store.answers_lost = 1
        back = await agent.chat("four", session_id, ada)
        assert (back.session_id, back.unsaved) == (session_id, ())
        session = await service.get_session(session_id, ada, include_messages=True)
        assert [content for role, content in said(session) if role == "user"] == ["one", "two", "three", "four"]
        assert len(said(session)) == 8
        assert session is not None
        assert session.messages is not None
        assert session.messages[2].created_at == START + timedelta(seconds=60)
        assert agent.unsaved == ()

    run(scenario)


def test_a_chat_that_began_while_the_store_was_away_is_saved_later(
    service: ConversationService, store: Lossy, ada: Any
) -> None:
    async def scenario() -> None:
        agent = agent_over(service)
        store.away = True
        session_id = (await agent.chat("Hello!", user=ada)).session_id
        assert await agent.save_unsaved() == 2
        store.away = False
        assert await agent.save_unsaved() == 0
        session = await service.get_session(session_id, ada, include_messages=True)
        assert said(session) == [("user", "Hello!"), ("assistant", "You said: Hello!")]

    run(scenario)


def test_an_answer_whose_append_was_lost_is_kept_once(service: ConversationService, store: Lossy, ada: Any) -> None:
    async def scenario() -> None:
        agent = agent_over(service)
        session_id = (await agent.chat("one", user=ada)).session_id
        store.answers_lost = 1
        response = await agent.chat("two", session_id, ada)
        assert response.unsaved == ()
        session = await service.get_session(session_id, ada, include_messages=True)
        assert len(said(session)) == 4

    run(scenario)


def test_a_message_that_can_never_be_kept_is_refused_before_the_agent_is_asked(
    service: ConversationService, ada: Any
) -> None:
    async def scenario() -> None:
        asked = []
        agent = agent_over(service, lambda message, before: asked.append(message) or "ok")
        with pytest.raises(InvalidInput):
            await agent.chat({"broken": float("nan")}, user=ada)
        assert asked == []
        assert agent.unsaved == ()

    run(scenario)


def test_a_message_that_can_never_be_kept_is_refused_also_while_the_store_is_away(
    service: ConversationService, store: Lossy, ada: Any
) -> None:
    async def scenario() -> None:
        asked = []
        agent = agent_over(service, lambda message, before: asked.append(message) or object())
        store.away = True
        with pytest.raises(InvalidInput, match="content"):
            await agent.chat(object(), user=ada)
        assert asked == []
        response = await agent.chat("Hello!", user=ada)
        assert "content" in str(response.store_error)
        assert [message.content for message in agent.unsaved] == ["Hello!"]
        store.away = False
        assert await agent.save_unsaved() == 0
        session = await service.get_session(response.session_id, ada, include_messages=True)
        assert said(session) == [("user", "Hello!")]

    run(scenario)


class Untellable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("half \ud83d"), "ValueError: half \\ud83d"),
        (Untellable(), "Untellable: (its message cannot be read)"),
    ],
)
def test_processing_failures_leave_their_message_whatever_it_is(
    service: ConversationService, ada: Any, error: Exception, told: str
) -> None:
    def answer(message: Any, before: Any) -> str:
        raise error

    async def scenario() -> None:
        response = await agent_over(service, answer).chat("Hello!", user=ada)
        assert (response.error_message, response.unsaved) == (told, ())
        session = await service.get_session(response.session_id, ada, include_messages=True)
        assert session is not None
        assert session.messages is not None
        assert session.messages[1].error_message == told

    run(scenario)


def test_an_answer_that_can_never_be_kept_is_given_all_the_same(service: ConversationService, ada: Any) -> None:
    async def scenario() -> None:
        agent = agent_over(service, lambda message, before: float("nan"))
        response = await agent.chat("Hello!", user=ada)
        assert response.content != response.content
        assert len(response.unsaved) == 1
        assert response.store_error is not None
        assert agent.unsaved == ()

    run(scenario)


def test_existing_memory_based_sessions_continue_to_work(service: ConversationService, ada: Any) -> None:
    async def scenario() -> None:
        response = await agent_over(service).chat("Hello!", session_id="memory-session-1", user=ada)
        assert response.session_id == "memory-session-1"

    run(scenario)


def test_the_history_of_a_chat_is_the_ledgers(service: ConversationService, ada: Any, ledger: SessionLedger) -> None:
    session_id = run(lambda: service.create_session(user=ada)).session_id
    run(lambda: service.add_message(session_id, "user", "Hello!"))
    (_, added) = ledger.history(session_id)
    assert added.event_type == "message.added"
    assert {change.field for change in added.changes} == {"message", "title"}
    ledger.append(session_id, "plan.approved", [Change("context", "city", "Rome")])
    session = run(lambda: service.get_session(session_id, ada))
    assert session.context_data == {"city": "Rome"}


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("LEDGER_URL", f"sqlite:///{tmp_path}/example.db")
    runpy.run_path(str(ROOT / "examples" / "seed3_conversations.py"), run_name="__main__")
    shown = capsys.readouterr().out
    assert "user: Hello!" in shown
    assert "assistant: RuntimeError: the model is overloaded" in shown
    assert "1 chat(s) of Ada, the newest: Hello!" in shown
