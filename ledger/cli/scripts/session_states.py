"""Commands of ``scripts/init_session_states.py`` and ``scripts/example_session_states.py``."""

from __future__ import annotations

import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from ledger.cli.app import opened
from ledger.cli.exits import OneLineErrors
from ledger.cli.output.shapes import print_json
from ledger.cli.output.text import counted, safe, shown
from ledger.cli.scripts.commands import with_json, with_url

_VIEWS = ("session_states", "session_states_summary")


@click.command("init_session_states", cls=OneLineErrors)
@with_json
@with_url
def init_session_states(as_json: bool, url: str | None) -> None:
    """Create or upgrade the ledger behind session_states, and print the number of records.

    The table session_states and its summary are SQL views of the ledger, which can be queried through
    get_db_connection(). They need no indexes. They need no trigger either, because updated_at is the time of the last
    event. The command can be repeated; records are kept.
    """
    from ledger.compat.session_states import get_db_connection

    with opened(url, create=True) as ledger:
        with closing(get_db_connection(ledger=ledger)) as connection:
            counts = {name: _count(connection, name) for name in _VIEWS}
        result: dict[str, Any] = {"url": ledger.url, "views": list(counts), "records": counts["session_states"]}
    if as_json:
        print_json(result)
        return
    click.echo(f"The ledger {safe(result['url'])} is ready.")
    for name, count in counts.items():
        click.echo(f"{name}: {counted(count, 'row')}")


def _count(connection: Any, view: str) -> int:
    return int(connection.execute(f"SELECT COUNT(*) FROM {view}").fetchone()[0])  # noqa: S608 - names of _VIEWS


@click.command("example_session_states", cls=OneLineErrors)
@with_json
@with_url
def example_session_states(as_json: bool, url: str | None) -> None:
    """Save, read, list, count and delete a session state, and print the result of each call.

    Without --url and LEDGER_URL, the command uses a temporary ledger.
    """
    with tempfile.TemporaryDirectory() as folder:
        steps = _example(url or f"sqlite:///{Path(folder) / 'example.db'}")
    if as_json:
        print_json(steps)
        return
    for name, answer in steps.items():
        click.echo(f"{name}: {safe(shown(answer))}")


def _example(url: str) -> dict[str, Any]:
    from ledger.compat import session_states as states

    with opened(url, create=True) as ledger:
        problem = {
            "user_prompt": "An easy problem about arrays",
            "topic": "arrays",
            "difficulty": "easy",
            "problem_description": "Return the sum of an array of integers.",
            "problem_tests": [{"input": [1, 2, 3], "expected": 6}],
        }

        def agent(thread_id: str) -> dict[str, Any]:
            code = "def total(numbers):\n    return sum(numbers)"
            return {**problem, "code": code, "tests_passed": True, "code_attempts": 1, "problem_attempts": 1}

        done = states.run_verified(agent, state=problem, run_id="mlflow-run-id", ledger=ledger)
        record = states.get_session_state(done.thread_id, ledger=ledger) or {}
        listed = states.get_session_states_by_criteria("arrays", "easy", tests_passed=True, ledger=ledger)
        analytics = states.get_session_analytics(ledger=ledger)
        deleted = states.delete_session_state(done.thread_id, ledger=ledger)
    return {
        "save_session_state": done.record_id,
        "get_session_state": {name: value for name, value in record.items() if not name.endswith("_at")},
        "get_session_states_by_criteria": [each["thread_id"] for each in listed],
        "get_session_analytics": analytics,
        "delete_session_state": deleted,
    }
