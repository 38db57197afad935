"""SQL views in a ledger's file: other tools read them, and they answer as the warehouse's views of the same names."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ledger import Change, ConfigurationError, NewEvent, SessionLedger
from ledger.compat import session_states
from ledger.compat.chat_store import Message, SessionStore
from ledger.stores.sqlite.migrations import MIGRATIONS
from ledger.stores.sqlite.schema import migrate
from ledger.stores.sqlite.views import VIEWS
from ledger.testing import START, CountedIds, SetClock
from support.older_files import copy_sessions

SHARED = ("sessions", "messages", "tool_calls", "model_calls", "session_history")
SHELL = shutil.which("sqlite3")


def by_module(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def by_shell(path: Path, sql: str) -> list[tuple[Any, ...]]:
    assert SHELL is not None
    done = subprocess.run([SHELL, "-json", str(path), sql], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return [tuple(row.values()) for row in json.loads(done.stdout or "[]")]


ASKED: list[Callable[[Path, str], list[tuple[Any, ...]]]] = [by_module, *([by_shell] if SHELL else [])]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(path: Path, tmp_path: Path) -> Iterator[SessionLedger]:
    clock, ids = SetClock(), CountedIds()
    with SessionLedger.open(
        f"sqlite:///{path}?synchronous=NORMAL", warehouse=f"duckdb:///{tmp_path / 'w.duckdb'}", clock=clock, ids=ids
    ) as opened:
        yield opened


def fill(ledger: SessionLedger) -> None:
    """Record sessions with every kind of value that a column of the views may have."""

    def append(event_type: str, *changes: Change) -> None:
        ledger.store.append("full", NewEvent(event_type, changes, str(uuid.uuid4()), user_id="ada"))

    calls = [{"name": "search", "tables": ["t"]}, {"name": "search"}, {"id": "c-é", "name": "buy", "description": "d"}]
    fields = {
        "constraints": {"tool_calls": calls, "n": 1.5, "big": 2**64 - 1},
        "title": "Orders",
        "session_type": "chat",
    }
    ledger.create_session("ada", "why 'so'?", session_id="full", fields=fields, ttl=timedelta(hours=2))
    ledger.add_message("full", "user", "héllo\n\x01…")
    ledger.add_message(
        "full",
        "assistant",
        [{"type": "text", "text": "part"}],
        token_count=3,
        processing_time_ms=12,
        tools_used=["search"],
        metadata={"big": 2**63 + 5, "f": 1e22, "deep": [{"none": None}], "yes": True},
        payload="text",
        error={"type": "T", "message": "m"},
    )
    ledger.update_session("full", {"tool_call_results": {"search": {"a": [1, 2.5]}, "c-é": None, "loose": "no call"}})
    ledger.update_session("full", {"tool_call_status": {"search": "completed", "c-é": "running"}})
    ledger.update_session("full", {"tool_call_status": {"c-é": "failed"}})
    for status in ("failed", "running", "completed"):
        ledger.update_session("full", {"tool_call_status": {"c-é": status}})
    for number in (1, 2.5):
        tokens = {"input_tokens": 2**62, "output_tokens": 3, "message_id": "m", "provider": "p", "operation": "chat"}
        ledger.record_model_call("full", "m-ü", cost_usd=number, duration_ms=number, **tokens)
    ledger.record_model_call("full", "m", call_id="a", error={"type": "T", "message": "x"}, finish_reason="stop")
    ledger.update_session("full", {"model_call": {"a": {"model": "n", "error": {"type": "T", "message": "x"}}}})
    ledger.update_session("full", {"strategy": {"plan": ["x"]}, "response_plan": {}, "summary": "first"})
    ledger.update_session("full", {"summary": "second", "title": None})
    for number, content in enumerate(["", 7, 2.5, True, False, None, {"k": "v"}, [], "7"]):
        value = {"role": "tool", "content": content, "payload": content, "token_count": number}
        append("message.added", Change("message", f"m{number}", value))
    append("message.removed", Change("message", "m1", removed=True))
    only = (Change("tool_call_status", "only-status", "failed"), Change("tool_call_result", "only-result", 1))
    append("tool_call.updated", *only)
    ledger.create_session("bob", session_id="empty")
    ledger.create_session("bob", "shared", session_id="shared")
    ledger.grant_access("shared", "ada", "write")
    ledger.for_user("ada").add_message("shared", "user", "from a guest")
    ledger.fork_session("full", new_session_id="fork")
    ledger.add_message("fork", "user", "of the fork")
    ledger.record_model_call("fork", "m", call_id="of the fork")
    ledger.update_session("fork", {"model_call": {"a": {"model": "replaced"}}})
    ledger.delete_session("empty")
    ledger.complete_session("fork")


def in_python(value: Any, kind: str) -> Any:
    """A value of a view of the file as the warehouse gives it for a column of this type."""
    if value is None:
        return None
    if kind == "TIMESTAMP":
        return datetime.strptime(value, "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=UTC)
    if kind == "DATE":
        return date.fromisoformat(value)
    if kind == "BOOL":
        return {0: False, 1: True}[value]
    return json.loads(value) if kind in ("JSON", "ARRAY<STRING>") else value


def check_same(ledger: SessionLedger, path: Path, view: str, where: str = "TRUE") -> int:
    """Compare the rows of a view in the file and in DuckDB, with their columns; return their number."""
    expected = ledger.sql(f"SELECT * FROM {view} WHERE {where}")
    kinds = {column.name: column.type for table in ledger.schema() if table.name == view for column in table.columns}
    with closing(sqlite3.connect(path)) as connection:
        cursor = connection.execute(f"SELECT * FROM {view} WHERE {where}")
        names = [column[0] for column in cursor.description]
        rows = [{name: in_python(value, kinds[name]) for name, value in zip(names, row, strict=True)} for row in cursor]
    assert names == list(kinds)
    assert sorted(map(repr, rows)) == sorted(repr(dict(row)) for row in expected)
    return len(rows)


@pytest.mark.parametrize("view", SHARED)
def test_a_view_of_the_file_has_the_columns_and_rows_of_the_warehouses_view(
    ledger: SessionLedger, path: Path, view: str
) -> None:
    fill(ledger)
    ledger.warehouse.sync()
    assert check_same(ledger, path, view) > 3
    assert check_same(ledger, path, view, "session_id = 'full'") > 0


def test_the_views_follow_each_append_and_what_is_archived_dropped_and_brought_back(
    ledger: SessionLedger, path: Path
) -> None:
    fill(ledger)
    ledger.archive_session("full")
    ledger.warehouse.sync()
    for view in SHARED:
        check_same(ledger, path, view)
    assert ledger.drop_archived() == 1
    found = by_module(path, "SELECT question, status, tool_calls, version FROM sessions WHERE session_id = 'full'")
    archived = ledger.get_session("full")
    assert archived is not None
    assert found == [("why 'so'?", "archived", "[]", archived.version)]
    for view in SHARED[1:]:
        assert by_module(path, f"SELECT COUNT(*) FROM {view} WHERE session_id = 'full'") == [(0,)]
    ledger.hydrate_session("full")
    ledger.add_message("full", "user", "again")
    ledger.warehouse.sync()
    for view in SHARED:
        check_same(ledger, path, view)


def test_an_erased_message_keeps_its_place(ledger: SessionLedger, path: Path) -> None:
    ledger.create_session("ada", session_id="s")
    ledger.add_message("s", "user", "secret")
    ledger.close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE session_events SET value = NULL, value_salt = NULL WHERE field = 'message'")
    assert by_module(path, "SELECT position, role, text, content FROM messages") == [(1, "erased", None, None)]


def test_results_of_more_than_five_million_characters_are_omitted_from_sessions(
    ledger: SessionLedger, path: Path
) -> None:
    ledger.create_session("ada", session_id="s")
    for call in ("a", "b"):
        ledger.update_session("s", {"tool_call_results": {call: "x" * 2_600_000}})
    ledger.warehouse.sync()
    check_same(ledger, path, "sessions")
    assert by_module(path, "SELECT tool_call_results, tool_call_results_omitted FROM sessions") == [(None, 1)]


def test_times_are_text_that_the_functions_of_sqlite_read(ledger: SessionLedger, path: Path) -> None:
    ledger.create_session("ada", session_id="s", ttl=timedelta(hours=1))
    sql = "SELECT (julianday(expires_at) - julianday(created_at)) * 24, date(updated_at) FROM sessions"
    ((hours, day),) = by_module(path, sql)
    assert (round(hours, 4), day) == (1.0, START.date().isoformat())


def test_one_session_is_found_without_a_scan(ledger: SessionLedger, path: Path) -> None:
    fill(ledger)
    tables = ("session_heads", "session_state", "session_events", "heads", "slots", "planned", "events")
    for view in SHARED:
        plan = by_module(path, f"EXPLAIN QUERY PLAN SELECT * FROM {view} WHERE session_id = 'full'")
        assert not [step for *_, step in plan if step.startswith("SCAN") and step.split()[1] in tables], view


# Older stores


@pytest.mark.parametrize("asked", ASKED)
def test_the_monitoring_sql_of_chats_runs_in_any_client(path: Path, asked: Callable[[Path, str], Any]) -> None:
    with SessionStore(path) as store:
        chats = [store.create_session(user_id=user) for user in ("user123", None)]
        store.add_message(chats[0].session_id, Message(role="user", content="hi", query_plan={"q": 1}))
        store.add_message(chats[0].session_id, Message(role="assistant", content="ho"))
        store.update_context(chats[0].session_id, {"last_publisher": "Oxford"})
        store.expire_session(chats[1].session_id)
        assert asked(path, "SELECT COUNT(*) FROM chat_sessions WHERE expired_at IS NULL;") == [(1,)]
        assert asked(path, "SELECT COUNT(*) FROM chat_messages;") == [(2,)]
        assert asked(path, "SELECT user_id, context FROM chat_sessions ORDER BY created_at") == [
            ("user123", '{"last_publisher":"Oxford"}'),
            (None, "{}"),
        ]
        assert asked(path, "SELECT content, query_plan FROM chat_messages ORDER BY rowid IS NULL, timestamp") == [
            ("hi", '{"q":1}'),
            ("ho", None),
        ]


@pytest.mark.parametrize("asked", ASKED)
def test_the_metrics_of_session_states_are_read_in_any_client(path: Path, asked: Callable[[Path, str], Any]) -> None:
    with SessionLedger.open(f"sqlite:///{path}?synchronous=NORMAL") as ledger:
        for number, passed in enumerate((True, True, False, None)):
            state = {"topic": "arrays", "difficulty": "easy", "tests_passed": passed, "code_attempts": number}
            status = "completed" if passed else "running"
            session_states.save_session_state(f"t{number}", state, workflow_status=status, ledger=ledger)
        metrics = "SELECT AVG(tests_passed), AVG(code_attempts) FROM session_states WHERE tests_passed IS NOT NULL"
        ((rate, attempts),) = asked(path, metrics)
        assert (round(rate, 3), attempts) == (0.667, 1.0)
        by_status = "SELECT workflow_status, COUNT(*) FROM session_states_summary GROUP BY workflow_status ORDER BY 1"
        assert asked(path, by_status) == [("completed", 2), ("running", 2)]


@pytest.mark.parametrize("asked", ASKED)
def test_a_live_ledger_is_read_beside_its_writer(path: Path, asked: Callable[[Path, str], Any]) -> None:
    with SessionLedger.open(f"sqlite:///{path}?synchronous=NORMAL") as ledger:
        ledger.create_session("ada", "why?", session_id="s")
        ledger.add_message("s", "user", "hello")
        assert asked(path, "SELECT question, tool_calls FROM sessions") == [("why?", "[]")]
        assert asked(path, "SELECT role, text FROM messages") == [("user", "hello")]
        assert asked(path, "SELECT COUNT(*) FROM session_history") == [(3,)]


# The schema


@pytest.mark.parametrize("schema", range(1, len(MIGRATIONS)))
def test_a_ledger_of_an_older_schema_gets_the_views(path: Path, tmp_path: Path, schema: int) -> None:
    with SessionLedger.open(f"sqlite:///{tmp_path / 'made.db'}?synchronous=NORMAL") as made:
        made.create_session("ada", "why?", session_id="s")
        made.add_message("s", "user", "hello")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrate(connection, "ledger.db", new_store_id="store", now=START, upto=schema)
        copy_sessions(tmp_path / "made.db", connection)
    with SessionLedger.open(f"sqlite:///{path}"):
        assert by_module(path, "SELECT question FROM sessions") == [("why?",)]
        assert by_module(path, "SELECT text FROM messages") == [("hello",)]


@contextmanager
def before_the_views(path: Path) -> Iterator[sqlite3.Connection]:
    """A ledger of a release that had no views."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrate(connection, "ledger.db", new_store_id="store", now=START, upto=[*names_of_migrations()].index("views"))
        yield connection


def test_a_view_of_the_users_own_gives_way_to_the_ledgers_and_gets_another_name(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with before_the_views(path) as connection:
        connection.execute("CREATE VIEW sessions AS SELECT session_id AS mine FROM session_heads")
        connection.execute("CREATE VIEW sessions_before_013 AS SELECT 7 AS mine")
        connection.execute("create  view if not exists main.\"MESSAGES\"(mine) AS SELECT 'sessions'")
        connection.execute("CREATE VIEW [tool_calls] (mine) AS SELECT gone FROM nowhere")
        connection.execute("CREATE VIEW `chat_messages`AS SELECT 8 AS mine -- mine")
        connection.execute("CREATE VIEW own AS SELECT 9 AS mine")
    with SessionLedger.open(f"sqlite:///{path}?synchronous=NORMAL") as ledger:
        session_id = ledger.create_session("ada", "why?")
        assert by_module(path, "SELECT question FROM sessions") == [("why?",)]
        for name, mine in {
            "sessions_before_013_2": session_id,
            "sessions_before_013": 7,
            "MESSAGES_before_013": "sessions",
            "chat_messages_before_013": 8,
            "own": 9,
        }.items():
            assert by_module(path, f"SELECT mine FROM {name}") == [(mine,)], name
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            by_module(path, "SELECT mine FROM tool_calls_before_013")  # as broken as it was
        assert ledger.verify().clean
    said = [each.getMessage() for each in caplog.records if each.name == "ledger.store"]
    assert len(said) == 4
    assert f"{path} had a view sessions of your own; it is sessions_before_013_2 now" in "".join(said)


def test_a_view_of_the_users_own_with_a_trigger_is_not_dropped(path: Path) -> None:
    with before_the_views(path) as connection:
        connection.execute("CREATE VIEW sessions AS SELECT session_id FROM session_heads")
        connection.execute("CREATE TRIGGER mine INSTEAD OF INSERT ON sessions BEGIN SELECT 1; END")
        before = connection.execute("SELECT name, sql FROM sqlite_schema").fetchall()
    with pytest.raises(ConfigurationError, match="its trigger mine would be lost"):
        SessionLedger.open(f"sqlite:///{path}")
    assert by_module(path, "SELECT name, sql FROM sqlite_schema") == before


def names_of_migrations() -> Iterator[str]:
    return (migration.name[4:] for migration in MIGRATIONS)


def test_a_view_takes_no_name_of_a_table_or_index() -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection, ":memory:", new_store_id="store", now=START)
        objects = connection.execute("SELECT name, type FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'").fetchall()
    assert {name for name, kind in objects if kind == "view"} == set(VIEWS)
    assert len({name for name, _ in objects}) == len(objects)


@pytest.mark.parametrize("syntax", ["->", " FILTER ", "IIF(", "NULLS LAST", "NULLS FIRST", "format(", "RETURNING"])
def test_the_views_use_no_syntax_for_which_an_older_sqlite_would_refuse_the_whole_file(syntax: str) -> None:
    assert not [name for name, select in VIEWS.items() if syntax.lower() in select.lower()]
