"""Every drop-in module records a value that is no JSON value in its usual form, and refuses one without such a form."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ledger import InvalidInput, SessionLedger
from ledger.compat import chat_store, session_states
from ledger.compat.analysis_sessions import QueryRecord, Session, SessionStore
from ledger.compat.conversations import ConversationService
from ledger.compat.persistent_agent import PersistentAgent, Reply
from ledger.testing import SetClock
from support.analysis import run, store_over

VALUES = {
    "n": np.int64(2),
    "f": np.float64("nan"),
    "d": date(2026, 1, 1),
    "p": Decimal("1.10"),
    "rows": pd.DataFrame({"k": [1, 2]}),
    "list": np.array([1.5, np.nan]),
    "b": b"text",
    "s": {3, 1},
}
FORMS = {
    "n": 2,
    "f": None,
    "d": "2026-01-01",
    "p": "1.10",
    "rows": [{"k": 1}, {"k": 2}],
    "list": [1.5, None],
    "b": "text",
    "s": [1, 3],
}


def of_analysis_sessions(ledger: SessionLedger, values: dict[str, Any]) -> list[Any]:
    async def scenario() -> list[Any]:
        store = store_over(ledger, SetClock())
        created = await store.create_session(["AAPL"], context={"made": values})
        session = await store.get_session(created.id)
        assert session is not None
        session.state.update_context("set", values)
        session.state.set_preference("set", values)
        session.state.store_intermediate_result("set", values)
        session.add_query(QueryRecord(query_type="price", parameters=values, result_summary=values))
        await store.update_session(session.id, session)
        found = await store.get_session(session.id)
        assert found is not None
        query = found.state.history.queries[0]
        state = found.state
        kept = [state.context["set"], state.preferences["set"], state.intermediate_results["set"]]
        return [state.context["made"], *kept, query.parameters, query.result_summary]

    found: list[Any] = run(scenario)
    return found


def of_chat_store(ledger: SessionLedger, values: dict[str, Any]) -> list[Any]:
    store = chat_store.SessionStore(ledger=ledger)
    session = store.create_session("ada")
    store.update_context(session.session_id, {"set": values})
    store.add_message(
        session.session_id, chat_store.Message(role="user", content="?", query_plan=values, metadata={"set": values})
    )
    (message,) = session.get_recent_messages()
    metadata = message.metadata or {}
    context = ledger.require_session(session.session_id).context
    return [context["set"], message.query_plan, metadata["set"]]


def of_session_states(ledger: SessionLedger, values: dict[str, Any]) -> list[Any]:
    session_states.save_session_state("thread", {"set": values, "problem_tests": [values]}, ledger=ledger)
    session_states.save_session_state("thread", {"again": values}, ledger=ledger)
    context = ledger.require_session("thread").context
    return [context["set"], context["problem_tests"][0], context["again"]]


def of_conversations(ledger: SessionLedger, values: dict[str, Any]) -> list[Any]:
    async def scenario() -> list[Any]:
        service = ConversationService(ledger)
        chat = await service.create_session("ada", context_data={"set": values}, session_metadata={"set": values})
        await service.add_message(chat.session_id, "user", values, tools_used=[values], message_metadata=values)
        found = await service.get_session(chat.session_id, "ada", include_messages=True)
        assert found is not None
        assert found.messages is not None
        (message,) = found.messages
        own = [found.context_data["set"], found.session_metadata["set"]]
        return [*own, message.content, message.tools_used[0], message.message_metadata]

    found: list[Any] = run(scenario)
    return found


def of_agent(ledger: SessionLedger, values: dict[str, Any]) -> list[Any]:
    async def scenario() -> list[Any]:
        agent = PersistentAgent(ConversationService(ledger), lambda *_: Reply(values, [values], None, values))
        response = await agent.chat(values, None, "ada")
        if response.store_error:
            raise InvalidInput(response.store_error)
        asked, answered = ledger.get_messages(response.session_id)
        return [asked.content, answered.content, answered.tools_used[0], answered.metadata]

    found: list[Any] = run(scenario)
    return found


MODULES = [of_analysis_sessions, of_chat_store, of_session_states, of_conversations, of_agent]


@pytest.mark.parametrize("module", MODULES)
def test_a_value_is_recorded_in_its_usual_json_form(
    ledger: SessionLedger, module: Callable[[SessionLedger, dict[str, Any]], list[Any]]
) -> None:
    for found in module(ledger, VALUES):
        assert found == FORMS


@pytest.mark.parametrize("value", [object(), 1j, iter([1]), float("nan"), Decimal("NaN"), Decimal("-Infinity")])
@pytest.mark.parametrize("module", MODULES)
def test_a_value_without_json_form_is_refused(
    ledger: SessionLedger, module: Callable[[SessionLedger, dict[str, Any]], list[Any]], value: Any
) -> None:
    with pytest.raises(InvalidInput, match="bad"):
        module(ledger, {"bad": value})


def test_a_value_that_stays_the_same_in_its_json_form_is_not_recorded_again(session_store: SessionStore) -> None:
    async def scenario() -> None:
        session = await session_store.create_session(["AAPL"], context=VALUES)
        version = (await session_store.ledger.require_session(session.id)).version
        session.state.context = dict(VALUES)
        await session_store.update_session(session.id, session)
        assert (await session_store.ledger.require_session(session.id)).version == version

    run(scenario)


def test_a_session_that_is_not_recorded_yet_is_a_dict_of_json_values() -> None:
    session = Session(assets=["AAPL"])
    session.state.update_context("set", VALUES)
    session.add_query(QueryRecord(query_type="price", parameters=VALUES))
    state = session.to_dict()["state"]
    assert [state["context"]["set"], state["history"]["queries"][0]["parameters"]] == [FORMS, FORMS]
