"""Models and rows of chats, for the second seed."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel

from ledger.compat.chat_store import Message, SessionStore


class Candidate(BaseModel):
    title: str
    year: int


class CandidateSet(BaseModel):
    candidates: list[Candidate]
    found_at: datetime


CANDIDATES = CandidateSet(candidates=[Candidate(title="Atlas", year=1999)], found_at=datetime(2026, 3, 5, tzinfo=UTC))


def selected(store: SessionStore, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with closing(store.get_db_connection()) as connection:
        return [tuple(row) for row in connection.execute(sql, parameters)]


def said(store: SessionStore, session_id: str, count: int) -> None:
    for number in range(count):
        store.add_message(session_id, Message(role="user", content=f"message {number}"))
