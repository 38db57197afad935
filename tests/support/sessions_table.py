"""A table with one full row per update: its rows, and the manager that appended them."""

from __future__ import annotations

import copy
import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from ledger import Session, SessionLedger
from ledger.cli.demo.scenario import CONSTRAINTS, QUESTION, RESPONSE_PLAN, RESULT, STRATEGY, SUMMARY, TOOL, USER

Row = dict[str, Any]


START = datetime(2026, 3, 5, 9, 30, tzinfo=UTC)


NEVER = object()


class AppendOnlyManager:
    """The manager's own append-only pattern: read the latest row, change it, insert it anew.

    Args:
        keeps_created_at: Whether a new row says when the session began; some managers write the time of the row.
    """

    def __init__(self, *, keeps_created_at: bool = True, now: datetime = START) -> None:
        self.rows: list[Row] = []
        self.now = now
        self._keeps_created_at = keeps_created_at

    def create_session(self, user_id: str, question: str, session_id: str | None = None) -> str:
        session_id = session_id or str(uuid.uuid4())
        self._insert(
            {
                "session_id": session_id,
                "user_id": user_id,
                "question": question,
                **dict.fromkeys(("constraints", "response_plan", "strategy", "summary")),
                "status": "active",
                "tool_calls": [],
                "tool_call_status": [],
                "tool_call_results": None,
                "created_at": self.now,
            }
        )
        return session_id

    def get_session(self, session_id: str) -> Row:
        found = [row for row in self.rows if row["session_id"] == session_id]
        return max(found, key=lambda row: row["updated_at"])

    def update_session(self, session_id: str, updates: Mapping[str, Any]) -> None:
        row = copy.deepcopy({**self.get_session(session_id), **updates})
        if not self._keeps_created_at:
            row["created_at"] = self.now
        self._insert(row)

    def update_constraints(self, session_id: str, constraints: Mapping[str, Any]) -> None:
        names = [call["name"] for call in constraints.get("tool_calls", ())]
        statuses = ["pending"] * len(names)
        self.update_session(session_id, {"constraints": constraints, "tool_calls": names, "tool_call_status": statuses})

    def update_strategy(self, session_id: str, strategy: Any) -> None:
        self.update_session(session_id, {"strategy": strategy})

    def update_response_plan(self, session_id: str, response_plan: Mapping[str, Any]) -> None:
        self.update_session(session_id, {"response_plan": response_plan})

    def update_summary(self, session_id: str, summary: str) -> None:
        self.update_session(session_id, {"summary": summary})

    def update_tool_call_status(self, session_id: str, tool_name: str, status: str, result: Any = None) -> None:
        row = self.get_session(session_id)
        statuses = list(row["tool_call_status"])
        statuses[row["tool_calls"].index(tool_name)] = status
        updates: Row = {"tool_call_status": statuses}
        if result is not None:
            updates["tool_call_results"] = {**(row["tool_call_results"] or {}), tool_name: result}
        self.update_session(session_id, updates)

    def _insert(self, row: Row) -> None:
        self.rows.append({**row, "updated_at": self.now})
        self.now += timedelta(seconds=1, microseconds=7)


def exported(row: Row, *, as_text: bool = False) -> bytes:
    """A row as BigQuery's export to JSON Lines: NULLs left out, times with UTC, JSON nested or as JSON text."""
    line = {name: value for name, value in row.items() if value is not None}
    for name in ("created_at", "updated_at"):
        line[name] = f"{row[name]:%Y-%m-%d %H:%M:%S.%f} UTC"
    for name in ("constraints", "response_plan", "strategy", "tool_call_results"):
        if as_text and name in line:
            line[name] = json.dumps(line[name])
    return json.dumps(line).encode() + b"\n"


def said_by(row: Mapping[str, Any]) -> Row:
    """What a row says: the table's columns but for the order of tool calls, and none for no results."""
    return {
        **{name: row[name] for name in ("question", "status", "summary", "constraints", "response_plan", "strategy")},
        "calls": dict(zip(row["tool_calls"], row["tool_call_status"], strict=True)),
        "results": row["tool_call_results"] or None,
    }


def columns_of(session: Session) -> Row:
    """What a session says, in the same form; as a mapping it has the columns of the table."""
    return said_by(session)


def clock() -> datetime:
    """Two days after the first row."""
    return START + timedelta(days=2)


def scenario(manager: AppendOnlyManager, session_id: str | None = None) -> str:
    """The whole session of the manager's documentation: eight rows."""
    session_id = manager.create_session(USER, QUESTION, session_id)
    manager.update_constraints(session_id, CONSTRAINTS)
    manager.update_strategy(session_id, STRATEGY)
    manager.update_response_plan(session_id, RESPONSE_PLAN)
    manager.update_tool_call_status(session_id, TOOL, "running")
    manager.update_tool_call_status(session_id, TOOL, "completed", RESULT)
    manager.update_summary(session_id, SUMMARY)
    manager.update_session(session_id, {"status": "completed"})
    return session_id


def row(minute: int = 0, **columns: Any) -> Row:
    """A row of the session ``s``; a column that is NEVER is not there."""
    made = {
        "session_id": "s",
        "user_id": "ada",
        "question": "How many?",
        "status": "active",
        **dict.fromkeys(("constraints", "response_plan", "strategy", "summary", "tool_call_results")),
        "tool_calls": [],
        "tool_call_status": [],
        "created_at": START,
        "updated_at": START + timedelta(minutes=minute),
    } | columns
    return {name: value for name, value in made.items() if value is not NEVER}


def get(ledger: SessionLedger, session_id: str = "s", version: int | None = None) -> Session:
    session = ledger.get_session(session_id, version=version)
    assert session is not None
    return session


names = st.sampled_from(["a", "b", "Orders Trend", "é#2"])
