"""The recorded runs beside this checkout, and what a plain program counts in them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

from ledger import SessionLedger
from ledger.testing import START

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "tau_bench_airline_runs.jsonl"
#: Days around ``START``, at which the tests record the runs.
DAYS = {"first": START - timedelta(days=2), "next": START + timedelta(days=2)}


def check_counts(ledger: SessionLedger, lines: Iterable[bytes]) -> None:
    """Compare success by task, calls and failures by tool, and turns in the views with a plain count of the lines."""
    solved: dict[str, list[bool]] = {}
    calls, failed, turns = Counter[str](), Counter[str](), Counter[int]()
    for run in map(json.loads, lines):
        solved.setdefault(str(run["task_id"]), []).append(run["reward"] == 1)
        turns[sum(message["role"] == "user" for message in run["traj"])] += 1
        for message in run["traj"]:
            calls.update(call["function"]["name"] for call in message.get("tool_calls") or [])
            if message["role"] == "tool" and message["content"].startswith("Error"):
                failed[message["name"]] += 1
    tasks = ledger.sql(
        "SELECT value, session_count, success_ratio FROM outcomes(@first, @next) WHERE name = 'task_id'", DAYS
    )
    assert {task: (count, ratio) for task, count, ratio in tasks.rows} == {
        task: (len(each), sum(each) / len(each)) for task, each in solved.items()
    }
    used = ledger.sql("SELECT tool, call_count, failed_count FROM tool_usage(@first, @next, 8)", DAYS)
    assert {tool: (called, broken) for tool, called, broken in used.rows} == {
        tool: (called, failed[tool]) for tool, called in calls.items()
    }
    where = "WHERE created_at >= @first AND created_at < @next"
    found = ledger.sql(f"SELECT turn_count, COUNT(*) AS n FROM session_metrics {where} GROUP BY turn_count", DAYS)
    assert dict(found.rows) == turns
