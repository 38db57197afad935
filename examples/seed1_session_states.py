"""Session states of a problem generator: save, read, list and count them, and run the agent of an endpoint.

Before: ``from data.sql_db.session_state_db import ...`` on Postgres. After: only the import below changes.
"""

from __future__ import annotations

from contextlib import closing
from typing import Any

from ledger.compat.session_states import (
    get_db_connection,
    get_session_analytics,
    get_session_state,
    get_session_states_by_criteria,
    run_verified,
    save_session_state,
)


def agent(prompt: str, *, thread_id: str) -> dict[str, Any]:
    """Stand in for the workflow; a real one receives ``thread_id`` in its configuration."""
    return {
        "user_prompt": prompt,
        "topic": "arrays",
        "difficulty": "easy",
        "problem_description": "Return the sum of an array of integers.",
        "problem_tests": [{"input": [1, 2, 3], "expected": 6}],
        "code": "def total(numbers):\n    return sum(numbers)",
        "tests_passed": True,
        "code_attempts": 1,
        "problem_attempts": 1,
    }


def main() -> None:
    """Run the documented calls on the ledger at LEDGER_URL, else ./ledger.db."""
    state = agent("An easy problem about arrays", thread_id="unique-thread-id")
    record_id = save_session_state(
        thread_id="unique-thread-id", state=state, run_id="mlflow-run-id", workflow_status="completed"
    )
    session_data = get_session_state("unique-thread-id")
    assert session_data is not None
    assert session_data["id"] == record_id
    sessions = get_session_states_by_criteria(topic="arrays", difficulty="easy", tests_passed=True, limit=50)
    print(f"{len(sessions)} session about arrays: {sessions[0]['user_prompt']}")

    # As /problems/verified does: a new thread, the final state saved, the status set by the test result.
    done = run_verified(agent, "Another one", run_id="mlflow-run-2")
    print(f"{done.workflow_status}: {done.thread_id}")

    analytics = get_session_analytics()
    print(f"{analytics['success_rate']:.0f} % of {analytics['total_sessions']} sessions passed their tests.")
    with closing(get_db_connection()) as connection:
        for row in connection.execute("SELECT topic, COUNT(*) FROM session_states_summary GROUP BY topic"):
            print(*row)


if __name__ == "__main__":
    main()
