"""A plain agent that records what it does, and goes on where it stopped if its process dies.

The model is replaced by fixed texts, so that the program runs without a key; the calls of the ledger are those of a
real agent. Each step has an ``event_id`` of its own: a step that is repeated after a crash is recorded once. After
``ledger rewind`` the steps have other keys, because a key stays used, also if its step was taken back.

Run it twice: ``python examples/agent.py report-7 "How many orders last week?"``. The second run finds the answer.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from ledger import Role, Session, SessionLedger, ToolCall, ToolStatus

ORDERS = [{"day": "2026-11-16", "orders": 640}, {"day": "2026-11-17", "orders": 577}]


def count_orders() -> dict[str, Any]:
    """Return the number of orders; a real tool would query a table."""
    return {"orders": sum(row["orders"] for row in ORDERS)}


def best_day() -> dict[str, Any]:
    """Return the day with the most orders."""
    return max(ORDERS, key=lambda row: row["orders"])


TOOLS: dict[str, Callable[[], dict[str, Any]]] = {"count_orders": count_orders, "best_day": best_day}
#: The calls in their order. Calls that one event plans are read in the order of their ids, so the ids ascend.
PLAN = [{"id": f"{number}-{name}", "name": name} for number, name in enumerate(TOOLS, 1)]


def answer(ledger: SessionLedger, session_id: str, question: str, user: str = "ada") -> Session:
    """Answer a question in a session, and return the session.

    Args:
        ledger: The ledger.
        session_id: Id of the session, chosen by the caller. If the session is there, the agent goes on with it.
        question: The question.
        user: Who asks.
    """
    ledger.create_session(user, question, session_id=session_id, event_id=f"{session_id}/created")
    step = f"{session_id}/{_rewound_at(ledger, session_id)}"
    if _said(ledger, session_id, "user") is None:  # a crash or a rewind may have left it
        ledger.add_message(session_id, "user", question, event_id=f"{step}/question")
    ledger.update_constraints(session_id, {"time_aggregation": "Weekly"}, event_id=f"{step}/constraints")
    ledger.update_strategy(session_id, "Count the orders, then find the best day.", event_id=f"{step}/strategy")
    if not ledger.require_session(session_id).calls:
        ledger.update_session(session_id, {"tool_calls": PLAN}, event_id=f"{step}/calls")
    for call in _open_calls(ledger, session_id):
        status: ToolStatus = "completed"
        try:
            result = TOOLS[call.name]()
        except Exception as error:  # noqa: BLE001 - a tool may fail in any way, and the ledger records how
            status, result = "failed", {"error": error}
        ledger.update_tool_call_status(session_id, call.call_id, status, result)
    # A model answers otherwise each time, and a key has one content: an answer that is recorded is not asked for again.
    text = _said(ledger, session_id, "assistant")
    if text is None:
        text = _model(ledger, session_id)
        ledger.add_message(session_id, "assistant", text, event_id=f"{step}/answer")
    ledger.update_session(session_id, {"summary": text, "status": "completed"}, event_id=f"{step}/completed")
    return ledger.require_session(session_id)


def _rewound_at(ledger: SessionLedger, session_id: str) -> int:
    """Return the version of the session's latest rewind; 0 if there was none."""
    rewinds = [event.version for event in ledger.history(session_id) if event.event_type == "session.rewound"]
    return max(rewinds, default=0)


def _said(ledger: SessionLedger, session_id: str, role: Role) -> str | None:
    """Return what this role said last; None if it said nothing."""
    said = [str(message.content) for message in ledger.get_messages(session_id) if message.role == role]
    return said[-1] if said else None


def _model(ledger: SessionLedger, session_id: str) -> str:
    results = {call.name: call.result for call in ledger.require_session(session_id).calls}
    return f"{results['count_orders']['orders']:,} orders, most on {results['best_day']['day']}."


def _open_calls(ledger: SessionLedger, session_id: str) -> list[ToolCall]:
    calls = ledger.require_session(session_id).calls
    return [call for call in calls if call.status not in ("completed", "failed")]


def main() -> None:
    """Answer the question of the command line in the ledger at LEDGER_URL, else in ./ledger.db."""
    session_id, question = sys.argv[1:3]
    with SessionLedger.open() as ledger:
        done = ledger.get_session(session_id)
        session = done if done is not None and done.status == "completed" else answer(ledger, session_id, question)
        print(f"{session.session_id} is {session.status} at version {session.version}: {session.summary}")


if __name__ == "__main__":
    main()
