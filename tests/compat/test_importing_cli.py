"""Databases of older stores come in by ``ledger import-store``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from support.older_stores import ANALYSES, CHATS, CONVERSATIONS, SESSION_STATES, engine_of, make, put
from support.shell import Shell

AT = "2025-03-11 10:00:00"
SID = "5f0f8a52-6c6b-4a55-9d5e-6a0a8d1f0003"


@pytest.fixture
def place(tmp_path: Path) -> str:
    return str(tmp_path / "older.db")


@pytest.fixture
def older(place: str) -> Iterator[Engine]:
    with engine_of(f"sqlite:///{place}") as engine:
        yield engine


def fill(engine: Engine, kind: str) -> None:
    """One session of a store of this kind."""
    if kind == "session-states":
        make(engine, SESSION_STATES)
        put(engine, "session_states", id=SID, thread_id=SID, created_at=AT, topic="arrays")
    elif kind == "chat-store":
        make(engine, *CHATS)
        put(engine, "chat_sessions", session_id=SID, user_id="ann", created_at=AT)
        put(engine, "chat_messages", session_id=SID, role="user", content="hello", timestamp=AT)
    elif kind == "conversations":
        make(engine, *CONVERSATIONS)
        put(engine, "conversation_sessions", session_id=SID, user_id=1, created_at=AT)
    else:
        make(engine, *ANALYSES)
        put(engine, "sessions", id=SID, type="equity", assets="[]", state="{}", created_at=AT)


@pytest.mark.parametrize("kind", ["session-states", "chat-store", "conversations", "analysis-sessions"])
def test_an_older_store_comes_in_once_however_often_it_is_imported(
    shell: Shell, older: Engine, place: str, kind: str
) -> None:
    fill(older, kind)
    first = shell.json("import-store", kind, place)
    assert (first["sessions"], first["new_events"]) == (1, first["events"])
    assert shell.json("show", SID)["session_id"] == SID
    assert f"{first['events']:,} already recorded." in shell.ok("import-store", kind, place)


def test_the_database_may_be_named_where_nobody_sees_it(shell: Shell, older: Engine, place: str) -> None:
    fill(older, "chat-store")
    assert shell("import-store", "chat-store", LEDGER_IMPORT_FROM=f"sqlite:///{place}").exit_code == 0
    assert "hello" in shell.ok("chat-history", SID)


def test_rows_without_an_owner_get_the_one_that_is_named(shell: Shell, older: Engine, place: str) -> None:
    fill(older, "session-states")
    shell.ok("import-store", "session-states", place, "--user", "ann")
    assert shell.json("show", SID)["user_id"] == "ann"


def test_tables_of_other_names_are_read(shell: Shell, older: Engine, place: str) -> None:
    fill(older, "analysis-sessions")
    with older.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE sessions RENAME TO archived_sessions")
    _, error = shell.fails("import-store", "analysis-sessions", place)
    assert "sessions" in error
    shell.ok("import-store", "analysis-sessions", place, "--table", "archived_sessions", "--metrics-table", "m")
    assert shell.json("show", SID)["session_type"] == "equity"


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("chat-store",), "LEDGER_IMPORT_FROM"),
        (("chat-store", "x.db", "--user", "ann"), "--user is for session-states"),
        (("conversations", "x.db", "--metrics-table", "m"), "--metrics-table is for analysis-sessions"),
        (("nothing", "x.db"), "session-states"),
    ],
)
def test_what_does_not_fit_the_kind_of_store_is_refused(shell: Shell, args: tuple[str, ...], says: str) -> None:
    result = shell("import-store", *args)
    assert (result.exit_code, says in result.stderr) == (2, True)
    assert not shell.path.exists()


def test_a_database_that_is_not_there_is_refused(shell: Shell, place: str) -> None:
    _, error = shell.fails("import-store", "chat-store", place)
    assert f"There is no file {place}" in error
    assert not shell.path.exists()


@pytest.mark.parametrize("kind", ["session-states", "chat-store", "conversations", "analysis-sessions"])
@pytest.mark.parametrize("found", ["nothing", "another store", "no database", "a URL of nothing"])
def test_no_ledger_is_made_where_there_is_nothing_to_bring_in(
    shell: Shell, place: str, kind: str, found: str, older: Engine
) -> None:
    source = place
    if found == "another store":
        fill(older, "chat-store" if kind == "conversations" else "conversations")
    elif found == "no database":
        Path(place).write_text("chats, as text " * 100)
    elif found == "a URL of nothing":
        source = "postgresql://127.0.0.1:1/app"
    shell.fails("import-store", kind, source)
    assert not shell.path.exists()


def test_what_cannot_be_brought_in_leaves_a_ledger_that_is_there_alone(shell: Shell, place: str) -> None:
    shell.ok("new", "What?")
    shell.fails("import-store", "conversations", place)
    assert len(shell.json("list")["sessions"]) == 1


def test_sessions_in_a_table_of_another_name_need_none_of_the_usual_one(
    shell: Shell, older: Engine, place: str
) -> None:
    fill(older, "analysis-sessions")
    with older.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE sessions RENAME TO archived_sessions")
    shell.fails("import-store", "analysis-sessions", place, "--table", "no_such_table")
    assert not shell.path.exists()
    shell.ok("import-store", "analysis-sessions", place, "--table", "archived_sessions")
    assert shell.json("show", SID)["session_type"] == "equity"


def test_a_password_that_the_driver_does_not_reach_is_not_shown(shell: Shell) -> None:
    secret = "sesame-street"
    _, error = shell.fails("import-store", "chat-store", f"postgresql://app:{secret}@127.0.0.1:1/app")
    assert secret not in error
