"""A session state of the first seed, and what is read of it in SQL."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from ledger.compat.session_states import get_db_connection, save_session_state

ROOT = Path(__file__).resolve().parents[2]
STATE: dict[str, Any] = {
    "user_prompt": "An easy problem about arrays",
    "topic": "arrays",
    "difficulty": "easy",
    "problem_description": "Sum the numbers.",
    "problem_tests": [{"input": [1, 2], "expected": 3}],
    "code": "def total(numbers):\n    return sum(numbers)",
    "tests_passed": True,
    "code_attempts": 2,
    "problem_attempts": 1,
}


DOCUMENTED = [
    *("id", "created_at", "updated_at", "thread_id", "run_id", "user_prompt", "topic", "difficulty"),
    *("problem_description", "problem_tests", "code", "tests_passed", "code_attempts", "problem_attempts"),
    "workflow_status",
]


def saved(thread_id: str = "t", **changed: Any) -> str:
    return save_session_state(thread_id, {**STATE, **changed}, "run", "completed")


def selected(sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with closing(get_db_connection()) as connection:
        return [tuple(row) for row in connection.execute(sql, parameters)]


# Setup


def script(name: str, folder: Path, *args: str, **environment: str) -> str:
    env = {key: value for key, value in os.environ.items() if not key.startswith("LEDGER_")} | environment
    command = [sys.executable, str(ROOT / "scripts" / name), *args]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
