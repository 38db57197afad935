"""Rows of the older stores of seeds 1 and 2."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from sqlalchemy import Engine

from support.older_stores import put

ROW_ID = "5f0f8a52-6c6b-4a55-9d5e-6a0a8d1f0001"


BEGAN, CHANGED = datetime(2025, 3, 11, 10, 0, 0, 123456), datetime(2025, 3, 11, 10, 5)  # noqa: DTZ001 - as they stand


TESTS = [{"input": [1, 2], "expected": 3}]


def put_state(engine: Engine, thread_id: str | None = "t", **columns: Any) -> None:
    values: dict[str, Any] = {
        "id": ROW_ID,
        "created_at": str(BEGAN),
        "updated_at": str(CHANGED),
        "thread_id": thread_id,
        "run_id": "mlflow-1",
        "user_prompt": "An easy problem",
        "topic": "arrays",
        "difficulty": "easy",
        "problem_tests": json.dumps(TESTS),
        "tests_passed": True,
        "code_attempts": 2,
        "workflow_status": "completed",
        **columns,
    }
    put(engine, "session_states", **values)


def put_chat(engine: Engine, session_id: str = "c", messages: int = 2, **columns: Any) -> None:
    values = {
        "user_id": "user123",
        "created_at": str(BEGAN),
        "updated_at": str(CHANGED),
        "context": '{"last_publisher": "Oxford"}',
        **columns,
    }
    put(engine, "chat_sessions", session_id=session_id, **values)
    for number in range(messages):
        at = str(BEGAN.replace(minute=1 + number))
        put_message(engine, session_id, content=f"message {number}", candidate_set='{"n": 1}', timestamp=at)


def put_message(engine: Engine, session_id: str, **columns: Any) -> None:
    values = {"role": "user", "content": "c", "timestamp": str(BEGAN), **columns}
    put(engine, "chat_messages", session_id=session_id, **values)
