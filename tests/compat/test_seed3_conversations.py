"""Seed 3, the conversation service: one test for each sentence of its description that says what it does."""

from __future__ import annotations

import asyncio
import uuid
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ledger import AsyncSessionLedger, InvalidInput, SessionEnded, SessionLedger, SessionNotFound
from ledger.compat.conversations import ConversationMessage, ConversationService, ConversationSession
from ledger.testing import START, SetClock
from support.conversations import agent_over, run, said

ROOT = Path(__file__).resolve().parents[2]


DAY = 24 * 3600


# Service layer and models


def test_create_session_creates_a_new_conversation_session(service: ConversationService, ada: Any) -> None:
    async def scenario() -> None:
        session = await service.create_session(
            user=ada, title="Travel", description="To Rome", context_data={"city": "Rome"}, session_metadata={"v": 1}
        )
        assert isinstance(session, ConversationSession)
        assert (session.user_id, session.title, session.description) == ("7", "Travel", "To Rome")
        assert (session.context_data, session.session_metadata) == ({"city": "Rome"}, {"v": 1})
        assert session.is_active
        assert session.created_at == session.last_activity_at == START
        assert session.messages == []

    run(scenario)


def test_session_id_is_a_unique_uuid_for_each_session(service: ConversationService, ada: Any) -> None:
    async def scenario() -> None:
        made = [(await service.create_session(user=ada)).session_id for _ in range(3)]
        assert len({uuid.UUID(it) for it in made}) == 3

    run(scenario)


def test_get_session_retrieves_a_session_with_optional_message_loading(service: ConversationService, ada: Any) -> None:
    async def scenario() -> None:
        session_id = (await service.create_session(user=ada)).session_id
        await service.add_message(session_id, "user", "Hello!")
        with_messages = await service.get_session(session_id=session_id, user=ada, include_messages=True)
        assert said(with_messages) == [("user", "Hello!")]
        without = await service.get_session(session_id=session_id, user=ada)
        assert without is not None
        assert without.messages is None
        assert await service.get_session("nowhere", ada) is None

    run(scenario)


def test_lazy_loading_of_messages_when_not_needed(
    service: ConversationService, ada: Any, ledger: SessionLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        session_id = (await service.create_session(user=ada)).session_id
        read = []
        monkeypatch.setattr(ledger.store, "state", lambda *args, **named: read.append(named) or None, raising=False)
        await service.get_session(session_id, ada)
        assert read
        assert not any(named.get("with_messages") for named in read)

    run(scenario)


def test_get_or_create_session_gets_the_existing_or_creates_a_new_session(
    service: ConversationService, ada: Any
) -> None:
    async def scenario() -> None:
        first = await service.get_or_create_session(user=ada)
        again = await service.get_or_create_session(first.session_id, ada)
        assert again.session_id == first.session_id
        named = await service.get_or_create_session("browser-tab-1", ada)
        assert named.session_id == "browser-tab-1"

    run(scenario)


def test_get_or_create_session_begins_a_new_one_where_the_id_is_empty(service: ConversationService, ada: Any) -> None:
    made = run(lambda: service.get_or_create_session("", ada))
    assert uuid.UUID(made.session_id)


def test_automatic_session_creation_when_none_is_provided(service: ConversationService, ada: Any) -> None:
    async def scenario() -> None:
        response = await agent_over(service).chat("Hello!", user=ada)
        assert await service.get_session(response.session_id, ada) is not None

    run(scenario)


def test_get_or_create_goes_on_elsewhere_where_the_session_is_over(service: ConversationService, ada: Any) -> None:
    async def scenario() -> None:
        session_id = (await service.create_session(user=ada)).session_id
        await service.delete_session(session_id, ada)
        assert (await service.get_or_create_session(session_id, ada)).session_id != session_id

    run(scenario)


def test_many_get_or_creates_at_once_begin_one_session(service: ConversationService, ada: Any) -> None:
    async def scenario() -> None:
        found = await asyncio.gather(*(service.get_or_create_session("tab", ada) for _ in range(10)))
        assert {session.session_id for session in found} == {"tab"}

    run(scenario)


def test_add_message_adds_user_and_assistant_messages_with_their_metadata(
    service: ConversationService, ada: Any, clock: SetClock
) -> None:
    async def scenario() -> None:
        session_id = (await service.create_session(user=ada)).session_id
        clock.move(5)
        await service.add_message(session_id, "user", "What is on?")
        added = await service.add_message(
            session_id=session_id,
            role="assistant",
            content="Nothing.",
            tools_used=["calendar"],
            processing_time_ms=120,
            token_count=42,
            message_metadata={"model": "m"},
        )
        session = await service.get_session(session_id, ada, include_messages=True)
        assert session is not None
        assert session.messages is not None
        question, answer = session.messages
        assert isinstance(answer, ConversationMessage)
        assert answer == added
        assert (answer.tools_used, answer.processing_time_ms, answer.token_count) == (["calendar"], 120, 42)
        assert (answer.message_metadata, answer.has_error, answer.error_message) == ({"model": "m"}, False, None)
        assert question.created_at == answer.created_at == START + timedelta(seconds=5)
        assert session.last_activity_at == START + timedelta(seconds=5)

    run(scenario)


def test_has_error_flags_error_messages_and_error_message_holds_the_details(
    service: ConversationService, ada: Any
) -> None:
    async def scenario() -> None:
        session_id = (await service.create_session(user=ada)).session_id
        await service.add_message(session_id, "assistant", "", has_error=True, error_message="Timeout")
        await service.add_message(session_id, "assistant", "", has_error=True)
        session = await service.get_session(session_id, ada, include_messages=True)
        assert session is not None
        assert [(it.has_error, it.error_message) for it in session.messages or ()] == [(True, "Timeout"), (True, None)]

    run(scenario)


def test_get_user_sessions_lists_the_users_conversation_sessions(
    service: ConversationService, ada: Any, clock: SetClock, ledger: SessionLedger
) -> None:
    async def scenario() -> None:
        made = []
        for number in range(3):
            made.append((await service.create_session(user=ada, title=f"chat {number}")).session_id)
            clock.move(1)
        ledger.create_session("7", "no chat at all")
        page = await service.get_user_sessions(ada, limit=2)
        assert [session.session_id for session in page] == [made[2], made[1]]
        rest = await service.get_user_sessions(user=ada, limit=2, after=page.next)
        assert [session.session_id for session in rest] == [made[0]]
        assert rest.next is None

    run(scenario)


def test_the_chat_with_the_latest_activity_comes_first(service: ConversationService, ada: Any, clock: SetClock) -> None:
    async def scenario() -> None:
        made = []
        for _ in range(4):
            made.append((await service.create_session(user=ada)).session_id)
            clock.move(1)
        for number in (2, 0):
            clock.move(1)
            await service.add_message(made[number], "user", "One more question", user=ada)
        page = await service.get_user_sessions(ada, limit=3)
        assert [chat.session_id for chat in page] == [made[0], made[2], made[3]]
        assert [chat.last_activity_at for chat in page] == sorted((it.last_activity_at for it in page), reverse=True)
        assert [chat.session_id for chat in await service.get_user_sessions(ada, after=page.next)] == [made[1]]

    run(scenario)


def test_is_active_filters_the_list(service: ConversationService, ada: Any, ledger: SessionLedger) -> None:
    async def scenario() -> None:
        open_, over = [(await service.create_session(user=ada)).session_id for _ in range(2)]
        ledger.expire_session(over)
        assert [it.session_id for it in await service.get_user_sessions(ada)] == [open_]
        everything = await service.get_user_sessions(ada, active_only=False)
        assert {it.session_id: it.is_active for it in everything} == {open_: True, over: False}

    run(scenario)


def test_cleanup_old_sessions_removes_old_inactive_sessions(
    service: ConversationService, ada: Any, clock: SetClock
) -> None:
    async def scenario() -> None:
        silent = (await service.create_session(user=ada)).session_id
        lively = (await service.create_session(user=ada)).session_id
        clock.move(40 * DAY)
        await service.add_message(lively, "user", "Still here")
        fresh = (await service.create_session(user=ada)).session_id
        assert await service.cleanup_old_sessions(days=30) == 1
        assert await service.get_session(silent, ada) is None
        assert {it.session_id for it in await service.get_user_sessions(ada)} == {lively, fresh}
        assert await service.cleanup_old_sessions(days=30) == 0

    run(scenario)


def test_configurable_session_limits_and_cleanup(ledger: SessionLedger, ada: Any, clock: SetClock) -> None:
    async def scenario() -> None:
        service = ConversationService(ledger, ttl=timedelta(hours=1), clock=clock)
        session_id = (await service.create_session(user=ada)).session_id
        clock.move(7200)
        session = await service.get_session(session_id, ada)
        assert session is not None
        assert not session.is_active
        assert await service.cleanup_old_sessions(days=0.01) == 1
        with pytest.raises(InvalidInput):
            await service.cleanup_old_sessions(days=-1)

    run(scenario)


@pytest.mark.parametrize("days", [float("nan"), float("inf"), 1e7, 1e10, "x", True])
def test_days_that_cannot_be_are_a_typed_error(service: ConversationService, days: Any) -> None:
    with pytest.raises(InvalidInput, match="days"):
        run(lambda: service.cleanup_old_sessions(days))


@pytest.mark.parametrize("name", ["context_data", "session_metadata"])
@pytest.mark.parametrize("value", [[1], "ab", 5])
def test_create_session_refuses_what_is_no_object(
    service: ConversationService, ledger: SessionLedger, ada: Any, name: str, value: Any
) -> None:
    with pytest.raises(InvalidInput, match=name):
        run(lambda: service.create_session(ada, **{name: value}))
    assert list(ledger.list_sessions()) == []


def test_delete_removes_a_conversation_session(service: ConversationService, ada: Any) -> None:
    async def scenario() -> None:
        session_id = (await service.create_session(user=ada)).session_id
        assert await service.delete_session(session_id, ada) is True
        assert await service.delete_session(session_id, ada) is False
        assert await service.get_session(session_id, ada) is None
        with pytest.raises(SessionEnded):
            await service.add_message(session_id, "user", "Hello?")

    run(scenario)


@pytest.mark.parametrize("user", [SimpleNamespace(id=7), SimpleNamespace(id="7"), 7, "7"])
def test_a_user_is_an_object_with_an_id_a_number_or_text(service: ConversationService, user: Any) -> None:
    assert run(lambda: service.create_session(user=user)).user_id == "7"


@pytest.mark.parametrize("user", [None, "", True, SimpleNamespace(), SimpleNamespace(id=None)])
def test_what_is_no_user_is_refused(service: ConversationService, user: Any) -> None:
    with pytest.raises(InvalidInput, match="user"):
        run(lambda: service.create_session(user=user))


def test_db_is_a_ledger_an_async_ledger_or_a_url(url: str, ada: Any) -> None:
    async def scenario() -> None:
        async with ConversationService(url) as service:
            session_id = (await service.create_session(user=ada)).session_id
        async with AsyncSessionLedger(url) as opened:
            service = ConversationService(opened)
            assert await service.get_session(session_id, ada) is not None
            await service.close()
            assert await opened.get_session(session_id) is not None
        with SessionLedger(url) as ledger:
            assert await ConversationService(ledger).get_session(session_id, ada) is not None
        with pytest.raises(InvalidInput, match="importers"):
            ConversationService(object())  # type: ignore[arg-type]

    run(scenario)


# Features


def test_sessions_persist_across_browser_refreshes_and_server_restarts(url: str, ada: Any) -> None:
    async def first() -> str:
        async with ConversationService(url) as service:
            return (await agent_over(service).chat("Hello!", user=ada)).session_id

    async def after_the_restart(session_id: str) -> None:
        async with ConversationService(url) as service:
            session = await service.get_session(session_id, ada, include_messages=True)
            assert said(session) == [("user", "Hello!"), ("assistant", "You said: Hello!")]

    session_id = run(first)
    run(lambda: after_the_restart(session_id))


def test_chronological_ordering_is_maintained(service: ConversationService, ada: Any) -> None:
    async def scenario() -> None:
        session_id = (await service.create_session(user=ada)).session_id
        for number in range(25):
            await service.add_message(session_id, "user", f"{number}")
        session = await service.get_session(session_id, ada, include_messages=True)
        assert [content for _, content in said(session)] == [f"{number}" for number in range(25)]

    run(scenario)


def test_each_users_sessions_are_completely_isolated_and_no_cross_user_access_is_possible(
    service: ConversationService, ada: Any
) -> None:
    async def scenario() -> None:
        session_id = (await service.create_session(user=ada)).session_id
        bob = SimpleNamespace(id=8)
        assert await service.get_session(session_id, bob, include_messages=True) is None
        assert list(await service.get_user_sessions(bob)) == []
        assert await service.delete_session(session_id, bob) is False
        with pytest.raises(SessionNotFound):
            await service.add_message(session_id, "user", "Let me in", user=bob)
        assert (await service.get_or_create_session(session_id, bob)).session_id != session_id
        response = await agent_over(service).chat("Let me in", session_id=session_id, user=bob)
        assert response.session_id != session_id
        assert said(await service.get_session(session_id, ada, include_messages=True)) == []

    run(scenario)


def test_a_title_may_be_given_or_comes_of_the_first_message(service: ConversationService, ada: Any) -> None:
    async def scenario() -> None:
        session_id = (await service.create_session(user=ada)).session_id
        await service.add_message(session_id, "user", "Flights to Rome")
        session = await service.get_session(session_id, ada)
        assert session is not None
        assert session.title == "Flights to Rome"

    run(scenario)
