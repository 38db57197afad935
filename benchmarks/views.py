"""Time of the views on DuckDB, some relative to hand-written statements, and throughput of the relay to DuckDB.

One million events of 10,000 sessions are written to the file of a SQLite store and relayed to DuckDB. Then the views,
which SQLGlot translates from GoogleSQL, alternate with statements written by hand for DuckDB. The fastest of those is
the floor. Each result is fetched completely, as Arrow, and must equal the view's. Of the views and functions for
dashboards the time itself counts, over all sessions. Figures are medians over rounds.

Run it with ``python benchmarks/views.py [SESSIONS]``; it exits with 1 if a figure misses its target.
"""

from __future__ import annotations

import contextlib
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import orjson

from ledger.outbox.columns import NAMES, sql_list
from ledger.stores.sqlite.store import SqliteStore
from ledger.tiers.opening import relay_between
from ledger.warehouse.duckdb.dialect import query_to_duckdb
from ledger.warehouse.duckdb.warehouse import DuckDBWarehouse

# ruff: noqa: S608 - the statements consist of constants of this file

EVENTS_PER_SESSION, ROUNDS, CATCH_UPS = 100, 9, 3
LEAST_ROWS = 100_000
#: How many times as long as the best hand-written statement a view may take.
MOST_RATIOS = {"session_fields": 1.5, "sessions": 1.5, "agent_events": 2.0}
#: Views and functions for dashboards, and the seconds that each may take over a million events.
OF_DAYS = "(TIMESTAMP '2026-01-01', TIMESTAMP '2028-01-01')"
OF_ACTIVITY = "(TIMESTAMP '2026-01-01', TIMESTAMP '2028-01-01', 8)"
DASHBOARDS = (
    *("messages", "tool_calls", "model_calls", "queries", "scores"),
    *("session_items", "session_metrics", "errors"),
    *(f"{name}{OF_DAYS}" for name in ("outcomes", "attribute_distribution", "top_assets", "cohorts")),
    *(
        f"{name}{OF_ACTIVITY}"
        for name in ("daily_activity", "user_activity", "tool_usage", "model_usage", "storage_growth")
    ),
)
MOST_SECONDS, DASHBOARD_ROUNDS = 2.0, 3
BEGIN = 1_772_600_000_000_000  # microseconds since 1970
WORDS = ("orders", "trend", "week", "spoke", "demand", "plan", "result", "summary", "table", "query", "filter", "north")

SLOT = "created_at, session_id, field, key"
FIELD_COLUMNS = (
    "session_id, field, key, value, version, event_id, event_type, user_id, actor, occurred_at, recorded_at, created_at"
)
REST = "value, version, event_id, event_type, user_id, actor, occurred_at, recorded_at, removed"
TEXTS = ("question", "summary", "status", "title", "session_type", "expires_at")
OBJECTS = ("constraints", "response_plan", "strategy")
CALL_FIELDS = ("tool_call", "tool_call_status", "tool_call_result")


def changes(rng: random.Random) -> Iterator[tuple[str, str, Any]]:
    """Yield a session's changes: about a third are messages, and almost half are tool calls, statuses and results."""

    def words(count: int) -> str:
        return " ".join(rng.choices(WORDS, k=count))

    yield from (("question", "", words(12)), ("status", "", "active"), ("title", "", words(4)))
    yield "constraints", "", {"kpi": ["orders"], "note": words(20)}
    calls: list[str] = []
    for number in range(EVENTS_PER_SESSION - 4):
        share = rng.random()
        if share < 0.30:
            yield "message", f"m{number}", {"role": rng.choice(("user", "assistant")), "content": words(30)}
        elif share < 0.36:
            tokens = {"input_tokens": rng.randrange(5000), "output_tokens": rng.randrange(500)}
            model = {"model": rng.choice(("small", "large")), "cost_usd": rng.random(), "duration_ms": rng.random()}
            yield "model_call", f"c{number}", {**model, **tokens}
        elif share < 0.48 or not calls:
            calls.append(f"call{number}")
            yield "tool_call", calls[-1], {"name": "sql", "description": words(8), "arguments": {"q": words(10)}}
        elif share < 0.68:
            yield "tool_call_status", rng.choice(calls), rng.choice(("running", "completed", "failed"))
        elif share < 0.80:
            yield "tool_call_result", rng.choice(calls), {"rows": [1, 2, 3], "text": words(15)}
        elif share < 0.90:
            yield rng.choice(("context", "attribute")), rng.choice("abcdefgh"), words(5)
        elif share < 0.95:
            yield "strategy", "", words(30)
        else:
            field = rng.choice(("summary", "status", "response_plan", "constraints"))
            yield field, "", {"note": words(6)} if field in OBJECTS else words(3)


def rows(sessions: int) -> Iterator[tuple[Any, ...]]:
    """Yield rows of ``session_events`` in SQLite's types; one in a hundred is a removal."""
    rng = random.Random(20260304)
    for number in range(sessions):
        begun = BEGIN + number * 90_000_000
        session_id = f"{begun // 1000:012x}"
        session_id = f"{session_id[:8]}-{session_id[8:]}-7000-8000-{number:012x}"
        for version, (field, key, value) in enumerate(changes(rng), 1):
            at = begun + version * 1_000_000
            removed = rng.random() < 0.01
            digest = f"{rng.getrandbits(256):064x}"
            event_id = f"{at // 1000:012x}{rng.getrandbits(80):020x}"
            yield (
                *(session_id, version, event_id, f"{field}.updated", field, key),
                *(None if removed else orjson.dumps(value).decode(), int(removed), f"user{number % 500}", "agent"),
                *(at, at, begun, 1, "store", digest, digest[:32], digest[::-1], digest, None),
            )


def fill(path: Path, sessions: int) -> int:
    """Write the rows of some sessions into a store's file and return the number of rows."""
    SqliteStore(path).close()
    insert = f"INSERT INTO session_events ({sql_list()}) VALUES ({', '.join('?' * len(NAMES))})"
    with sqlite3.connect(path) as connection:
        return connection.executemany(insert, rows(sessions)).rowcount


def by_hand() -> dict[str, dict[str, str]]:
    """Return the hand-written statements: view to technique to statement."""
    struct = "{" + ", ".join(f"{name}: {name}" for name in REST.split(", ")) + "}"
    last = "arg_max({v: value, r: removed, n: version}, (version, event_id))"

    def pivot(names: tuple[str, ...]) -> str:
        return ", ".join(f"{last} FILTER (field = '{name}') AS \"{name}\"" for name in names)

    def inside(names: tuple[str, ...]) -> str:
        return ", ".join(f"'{name}'" for name in names)

    texts = [f'CASE WHEN NOT "{name}".r THEN "{name}".v ->> \'$\' END AS {name}' for name in TEXTS]
    objects = [f'CASE WHEN NOT "{name}".r THEN "{name}".v END AS "{name}"' for name in OBJECTS]
    chosen = ", ".join(
        [f"any_value(value ->> '$') FILTER (field = '{name}') AS {name}" for name in TEXTS]
        + [f"any_value(value) FILTER (field = '{name}') AS \"{name}\"" for name in OBJECTS]
    )
    return {
        "session_fields": {
            "arg_max of rowid": f"""
                SELECT {FIELD_COLUMNS} FROM session_events WHERE NOT removed AND rowid IN (
                  SELECT arg_max(rowid, (version, event_id)) FROM session_events GROUP BY {SLOT})""",
            "arg_max of the row": f"""
                SELECT {FIELD_COLUMNS} FROM (SELECT {SLOT}, unnest(s) FROM (
                  SELECT {SLOT}, arg_max({struct}, (version, event_id)) AS s FROM session_events GROUP BY {SLOT}))
                WHERE NOT removed""",
            "row_number": f"""
                SELECT {FIELD_COLUMNS} FROM (SELECT *, row_number() OVER (
                  PARTITION BY {SLOT} ORDER BY version DESC, event_id DESC) AS n FROM session_events)
                WHERE n = 1 AND NOT removed""",
        },
        "sessions": {
            "arg_max of rowid": f"""
                WITH heads AS (
                  SELECT created_at, session_id, any_value(user_id) AS user_id, max(version) AS version,
                    max(recorded_at) AS updated_at FROM session_events GROUP BY ALL),
                latest AS (
                  SELECT created_at, session_id, field, key, value, version FROM session_events
                  WHERE NOT removed AND rowid IN (
                    SELECT arg_max(rowid, (version, event_id)) FROM session_events
                    WHERE field IN ({inside(TEXTS + OBJECTS + CALL_FIELDS)}) GROUP BY {SLOT})),
                wide AS (
                  SELECT created_at, session_id, {chosen} FROM latest
                  WHERE field IN ({inside(TEXTS + OBJECTS)}) GROUP BY ALL),
                parts AS (
                  SELECT created_at, session_id, key AS id,
                    coalesce(max(version) FILTER (field = 'tool_call'),
                      max(version) FILTER (field = 'tool_call_status')) AS planned,
                    coalesce(any_value(value ->> '$') FILTER (field = 'tool_call_status'), 'pending') AS status,
                    any_value(value) FILTER (field = 'tool_call_result') AS result
                  FROM latest WHERE field IN ({inside(CALL_FIELDS)}) GROUP BY ALL),
                calls AS (
                  SELECT created_at, session_id,
                    list_sort(list({{p: planned, i: id, s: status}}) FILTER (planned IS NOT NULL)) AS calls,
                    list_sort(list({{i: id, r: result}}) FILTER (result IS NOT NULL)) AS results,
                    sum(length(result::VARCHAR)) > 5000000 AS omitted
                  FROM parts GROUP BY ALL)
                SELECT session_id, user_id, question, "constraints", response_plan, strategy, summary, status,
                  coalesce(list_transform(calls, lambda c: c.i), []) AS tool_calls,
                  coalesce(list_transform(calls, lambda c: c.s), []) AS tool_call_status,
                  CASE WHEN NOT omitted THEN ('{{' || array_to_string(list_transform(
                    results, lambda r: to_json(r.i)::VARCHAR || ':' || r.r), ',') || '}}')::JSON END
                    AS tool_call_results, created_at, updated_at, version, title, session_type,
                  try_cast(expires_at AS TIMESTAMP) AS expires_at,
                  coalesce(omitted, false) AS tool_call_results_omitted
                FROM heads LEFT JOIN wide USING (created_at, session_id) LEFT JOIN calls USING (created_at, session_id)
            """,
            "arg_max per column": f"""
                WITH heads AS (
                  SELECT created_at, session_id, any_value(user_id) AS user_id, max(version) AS version,
                    max(recorded_at) AS updated_at FROM session_events GROUP BY ALL),
                singles AS (
                  SELECT created_at, session_id, {pivot(TEXTS + OBJECTS)} FROM session_events
                  WHERE field IN ({inside(TEXTS + OBJECTS)}) GROUP BY ALL),
                slots AS (
                  SELECT created_at, session_id, key AS id, {pivot(CALL_FIELDS)} FROM session_events
                  WHERE field IN ({inside(CALL_FIELDS)}) GROUP BY ALL),
                parts AS (
                  SELECT created_at, session_id, id,
                    coalesce(CASE WHEN NOT tool_call.r THEN tool_call.n END,
                      CASE WHEN NOT tool_call_status.r THEN tool_call_status.n END) AS planned,
                    coalesce(CASE WHEN NOT tool_call_status.r THEN tool_call_status.v ->> '$' END, 'pending') AS status,
                    CASE WHEN NOT tool_call_result.r THEN coalesce(tool_call_result.v::VARCHAR, 'null') END AS result
                  FROM slots),
                calls AS (
                  SELECT created_at, session_id,
                    list_sort(list({{p: planned, i: id, s: status}}) FILTER (planned IS NOT NULL)) AS calls,
                    list_sort(list({{i: id, r: result}}) FILTER (result IS NOT NULL)) AS results,
                    sum(length(result::VARCHAR)) > 5000000 AS omitted
                  FROM parts GROUP BY ALL),
                wide AS (SELECT created_at, session_id, {", ".join(texts + objects)} FROM singles)
                SELECT session_id, user_id, question, "constraints", response_plan, strategy, summary, status,
                  coalesce(list_transform(calls, lambda c: c.i), []) AS tool_calls,
                  coalesce(list_transform(calls, lambda c: c.s), []) AS tool_call_status,
                  CASE WHEN NOT omitted THEN ('{{' || array_to_string(list_transform(
                    results, lambda r: to_json(r.i)::VARCHAR || ':' || r.r), ',') || '}}')::JSON END
                    AS tool_call_results, created_at, updated_at, version, title, session_type,
                  try_cast(expires_at AS TIMESTAMP) AS expires_at,
                  coalesce(omitted, false) AS tool_call_results_omitted
                FROM heads LEFT JOIN wide USING (created_at, session_id) LEFT JOIN calls USING (created_at, session_id)
            """,
        },
        "agent_events": {"aggregates": Path(__file__).with_name("agent_events_by_hand.sql").read_text()},
    }


def seconds(connection: duckdb.DuckDBPyConnection, sql: str) -> float:
    """Return the seconds that it takes to run a statement and fetch its whole result."""
    begun = time.perf_counter()
    connection.sql(sql).to_arrow_table()
    return time.perf_counter() - begun


def same(connection: duckdb.DuckDBPyConnection, one: str, other: str) -> bool:
    """Return True if two statements return the same rows. Values are compared as text; DuckDB cannot compare JSON."""

    def as_text(sql: str) -> str:
        return f"SELECT CAST(COLUMNS(*) AS VARCHAR) FROM ({sql})"

    ((differ,),) = connection.sql(
        f"SELECT count(*) FROM (({as_text(one)} EXCEPT ALL {as_text(other)}) UNION ALL "
        f"({as_text(other)} EXCEPT ALL {as_text(one)}))"
    ).fetchall()
    return differ == 0


def compare(connection: duckdb.DuckDBPyConnection, view: str, hands: dict[str, str]) -> float:
    """Print the time of the view and of each hand-written statement; return the ratio of the view to the fastest."""
    statements = {"the view": query_to_duckdb(f"SELECT * FROM {view}"), **hands}
    for name, sql in hands.items():
        assert same(connection, statements["the view"], sql), f"{name} returns other rows than {view}"
    times: dict[str, list[float]] = {name: [] for name in statements}
    for _ in range(ROUNDS + 1):
        for name, sql in statements.items():
            times[name].append(seconds(connection, sql))
    medians = {name: statistics.median(taken[1:]) for name, taken in times.items()}  # the first round warms up
    for name, median in medians.items():
        print(f"  {view}: {name:<20} {median * 1000:8.0f} ms")
    return medians["the view"] / min(medians[name] for name in hands)


def dashboard(connection: duckdb.DuckDBPyConnection, source: str) -> float:
    """Print and return the median seconds that all rows of a view, or of a call of a function, take."""
    sql = query_to_duckdb(f"SELECT * FROM {source}")
    median = statistics.median(seconds(connection, sql) for _ in range(DASHBOARD_ROUNDS))
    print(f"  {source.split('(')[0]:<32} {median * 1000:8.0f} ms")
    return median


def catch_up_rate(store: SqliteStore, folder: Path, count: int) -> float:
    """Return rows per second from the SQLite file to a new DuckDB file, including the time to close that file."""
    warehouse = DuckDBWarehouse(folder / "warehouse.duckdb")
    warehouse.create()
    begun = time.perf_counter()
    with contextlib.closing(relay_between(store, warehouse)) as relay:
        assert relay.sync() == count
    return count / (time.perf_counter() - begun)


def main(sessions: int) -> int:
    """Print every figure with its target; return 1 if one is missed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        count = fill(folder / "ledger.db", sessions)
        print(f"{count:,} events of {sessions:,} sessions; duckdb {duckdb.__version__}")
        store = SqliteStore(folder / "ledger.db")
        rates = []
        for number in range(CATCH_UPS):
            target = folder / str(number)
            target.mkdir()
            rates.append(catch_up_rate(store, target, count))
        store.close()
        rate = statistics.median(rates)
        with duckdb.connect(str(target / "warehouse.duckdb"), read_only=True) as connection:
            ratios = {view: compare(connection, view, hands) for view, hands in by_hand().items()}
            slowest = max(dashboard(connection, source) for source in DASHBOARDS)
    print(f"catch-up {rate:,.0f} rows/s (at least {LEAST_ROWS:,})")
    for view, ratio in ratios.items():
        print(f"{view}: {ratio:.2f} times the best by hand (at most {MOST_RATIOS[view]})")
    print(f"the slowest view for dashboards: {slowest:.2f} s (at most {MOST_SECONDS})")
    return int(
        rate < LEAST_ROWS or any(it > MOST_RATIOS[view] for view, it in ratios.items()) or slowest > MOST_SECONDS
    )


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000))
