"""The dbt package in a project that uses it, built once over a DuckDB file that a ledger shipped.

dbt has an environment of its own: ``make test-dbt``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from ledger import SessionLedger
from ledger.testing import START, CountedIds, SetClock
from ledger.warehouse.schema import schema

pytestmark = [pytest.mark.dbt, pytest.mark.slow]
PACKAGE = Path(__file__).resolve().parents[2] / "integrations" / "dbt"
VIEWS = [
    item.name for item in schema() if item.kind == "view" and "created_at" in [column.name for column in item.columns]
]
#: The first session is older, the others are younger.
SINCE = START + timedelta(days=20)
METRICS = "session_id, day, outcome, message_count, turn_count, tool_call_count, tool_retry_count, cost_usd, created_at"
DAILY = """
SELECT day, COUNT(*) AS session_count, SUM(cost_usd) AS cost_usd
FROM {{ ref('stg_session_ledger__session_metrics') }}
GROUP BY day
"""
PROPERTIES = """
models:
  - name: doubled
    data_tests:
      - session_ledger.unique_combination_of_columns:
          arguments: {columns: [session_id, message_id]}
          config: {severity: warn}
"""


@dataclass
class Built:
    """What dbt did, and where.

    Attributes:
        results: The status of each model and test, by its unique id.
        file: The DuckDB file that dbt wrote.
        shipped: The DuckDB file that the ledger shipped to.
        ledger: The ledger.
    """

    results: dict[str, dict[str, Any]]
    file: Path
    shipped: Path
    ledger: SessionLedger

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(self.file), read_only=True) as connection:
            connection.execute(f"ATTACH '{self.shipped}' AS ledger (READ_ONLY)")
            return connection.execute(sql).fetchall()


def record(ledger: SessionLedger, clock: SetClock) -> None:
    """Sessions of two users, of which one is older than what dbt is to read, with something in each view."""
    ledger.create_session("ada", "Too old?")
    clock.move(30 * 86_400)
    for user in ("ada", "bob", "bob"):
        sid = ledger.create_session(user, 'How many "orders"?', fields={"attribute": {"topic": "orders", "reward": 1}})
        ledger.add_message(sid, "user", "How many?")
        ledger.add_message(sid, "user", "And last week?")
        ledger.update_session(sid, {"tool_calls": [{"id": "c1", "name": "sql", "tables": ["orders"]}]})
        ledger.update_tool_call_status(sid, "c1", "running")
        ledger.update_tool_call_status(sid, "c1", "failed", {"error": "no table"})
        ledger.update_tool_call_status(sid, "c1", "running")
        ledger.update_tool_call_status(sid, "c1", "completed", [{"orders": 1217}])
        ledger.add_query(sid, "orders", cache_hit=True)
        ledger.record_model_call(sid, "m", input_tokens=900, output_tokens=40, cost_usd=0.25)
        ledger.record_model_call(sid, "m", error="overloaded")
        ledger.add_score(sid, "helpful", 0.5)
        clock.move(86_400)
    ledger.complete_session(sid)
    ledger.fork_session(sid)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    folder = tmp_path_factory.mktemp("dbt")
    shipped, project, clock = folder / "ledger.duckdb", folder / "team", SetClock()
    url, warehouse = f"sqlite:///{folder / 'l.db'}", f"duckdb:///{shipped}"
    with SessionLedger.open(url, warehouse=warehouse, relay="off", clock=clock, ids=CountedIds()) as ledger:
        record(ledger, clock)
        ledger.warehouse.sync()
        (project / "models").mkdir(parents=True)
        texts = {
            "dbt_project.yml": (
                "name: team\nprofile: team\nmodel-paths: [models]\n"
                "vars: {session_ledger_database: ledger, session_ledger_schema: main,"
                f" session_ledger_since: {SINCE.date()}}}\n"
            ),
            "packages.yml": f"packages: [{{local: {json.dumps(str(PACKAGE))}}}]\n",
            "profiles.yml": (
                "team: {target: dev, outputs: {dev: {type: duckdb, path: team.duckdb, threads: 1,"
                f" attach: [{{path: {json.dumps(str(shipped))}, alias: ledger, read_only: true}}]}}}}}}\n"
            ),
            "models/daily.sql": "{{ config(materialized='table') }}" + DAILY,
            "models/doubled.sql": (
                "SELECT * FROM {{ ref('stg_session_ledger__messages') }} UNION ALL "
                "SELECT * FROM {{ ref('stg_session_ledger__messages') }}"
            ),
            "models/models.yml": PROPERTIES,
        }
        for name, text in texts.items():
            (project / name).write_text(text, encoding="utf-8")
        run(project, "deps")
        run(project, "build")
        results = json.loads((project / "target" / "run_results.json").read_text(encoding="utf-8"))["results"]
        yield Built(
            {result["unique_id"]: result for result in results},
            project / "team.duckdb",
            shipped,
            ledger,
        )


def run(project: Path, command: str) -> None:
    program = Path(sys.executable).parent / "dbt"
    settings = {**os.environ, "DBT_SEND_ANONYMOUS_USAGE_STATS": "false", "DBT_PROFILES_DIR": str(project)}
    done = subprocess.run(
        [
            program,
            "--no-version-check",
            "--no-use-colors",
            "--warn-error-options",
            '{"error": ["Deprecations"]}',
            command,
        ],
        cwd=project,
        env=settings,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_view_has_a_model_and_every_test_of_a_grain_passes(built):
    statuses = Counter((it.split(".")[0], result["status"]) for it, result in built.results.items())
    assert statuses.pop(("test", "warn")) == 1
    assert set(statuses) == {("model", "success"), ("test", "pass")}
    assert {f"model.session_ledger.stg_session_ledger__{view}" for view in VIEWS} < set(built.results)
    assert statuses["test", "pass"] > 5 * len(VIEWS)


def test_rows_that_share_a_grain_fail_its_test(built):
    (doubled,) = (result for result in built.results.values() if result["status"] == "warn")
    ((messages,),) = built.rows("SELECT COUNT(*) FROM stg_session_ledger__messages")
    assert doubled["failures"] == messages > 0


@pytest.mark.parametrize("view", VIEWS)
def test_a_model_has_the_rows_of_its_view_from_the_day_on(view, built):
    ((found,),) = built.rows(f"SELECT COUNT(*) FROM stg_session_ledger__{view}")
    day = SINCE.replace(hour=0, minute=0, second=0, microsecond=0)
    ((all_rows, wanted),) = built.ledger.sql(
        f"SELECT COUNT(*), COUNTIF(created_at >= @day) FROM {view}", {"day": day}
    ).rows
    assert found == wanted <= all_rows
    if view == "sessions":
        assert (all_rows, wanted) == (5, 4)


def test_the_rows_of_a_model_are_those_that_the_ledger_answers(built):
    found = built.rows(f"SELECT {METRICS} FROM stg_session_ledger__session_metrics ORDER BY session_id")
    answer = built.ledger.sql(
        f"SELECT {METRICS} FROM session_metrics WHERE created_at >= @since ORDER BY session_id", {"since": SINCE}
    )
    assert [(*row[:-1], row[-1].replace(tzinfo=UTC)) for row in found] == answer.rows
    assert len(found) == 4
    daily = built.ledger.sql(
        "SELECT day, COUNT(*), SUM(cost_usd) FROM session_metrics WHERE created_at >= @since GROUP BY day ORDER BY day",
        {"since": SINCE},
    )
    assert built.rows("SELECT * FROM daily ORDER BY day") == daily.rows
