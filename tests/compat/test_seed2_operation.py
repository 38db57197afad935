"""Session Management Usage Guide (the second seed): FastAPI, performance, maintenance, security and settings."""

from __future__ import annotations

import runpy
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ledger import ConfigurationError, PermissionDenied, SessionLedger, SessionNotFound
from ledger.compat.chat_store import ChatResponse, Message, SessionStore
from ledger.testing import SetClock
from support.chats import CANDIDATES, said, selected
from support.shell import Shell

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "chat" / "sessions.db"


@pytest.fixture
def store(path: Path, clock: SetClock) -> Iterator[SessionStore]:
    with SessionStore(path, clock=clock) as opened:
        yield opened


# FastAPI Integration


def test_fastapi_integration_the_body_of_the_endpoint_runs_with_one_name_mended(store: SessionStore) -> None:
    """As written, it adds the messages of a new chat to the id that was asked for, which is that of no chat."""
    with pytest.raises(SessionNotFound, match="There is no chat not yet; create one"):
        store.add_message("not yet", Message(role="user", content="Find books"))

    def chat(session_id: str, message: str) -> ChatResponse:
        session = store.get_session(session_id)
        if not session:
            session = store.create_session()
        store.add_message(session.session_id, Message(role="user", content=message))
        store.add_message(session.session_id, Message(role="assistant", content="...", candidate_set=CANDIDATES))
        return ChatResponse(message="...", candidate_set=CANDIDATES, session_id=session.session_id)

    first = chat("not yet", "Find books")
    again = chat(first.session_id, "More")
    assert again.session_id == first.session_id
    assert len(store.get_session(first.session_id).messages) == 4  # type: ignore[union-attr]


# Performance Considerations


def test_performance_a_session_of_99_messages_is_read_within_100_ms(store: SessionStore) -> None:
    session = store.create_session()
    said(store, session.session_id, 99)
    times = []
    for _ in range(5):  # the machine may be busy with something else
        begun = time.perf_counter()
        found = store.get_session(session.session_id)
        assert found is not None
        assert len(found.messages) == 99
        times.append(time.perf_counter() - begun)
    assert min(times) < 0.1


def test_performance_a_hundred_users_read_at_the_same_time(store: SessionStore) -> None:
    session = store.create_session()
    said(store, session.session_id, 3)
    ready = threading.Barrier(100)

    def read(_: int) -> int:
        ready.wait()
        found = store.get_session(session.session_id)
        return len(found.messages) if found else 0

    with ThreadPoolExecutor(100) as pool:
        assert list(pool.map(read, range(100))) == [3] * 100


def test_performance_a_session_takes_about_10_kb_and_a_message_about_2_kb(path: Path) -> None:
    def size(sessions: int, messages: int, name: str) -> int:
        file = path.with_name(name)
        with SessionStore(file) as store:
            for _ in range(sessions):
                said(store, store.create_session("user123").session_id, messages)
        return file.stat().st_size

    empty, sessions, messages = size(0, 0, "0.db"), size(50, 0, "50.db"), size(1, 100, "100.db")
    assert (sessions - empty) / 50 < 10_000
    assert (messages - empty - 10_000) / 100 < 2_000


def test_performance_sessions_are_found_by_id_and_by_user_without_a_scan(store: SessionStore) -> None:
    plans = [
        selected(store, f"EXPLAIN QUERY PLAN SELECT context FROM chat_sessions WHERE {condition}")[0][-1]
        for condition in ("session_id = 'x'",)
    ]
    assert plans == ["SEARCH heads USING PRIMARY KEY (session_id=?)"]
    by_user = selected(store, "EXPLAIN QUERY PLAN SELECT session_id FROM session_heads WHERE user_id = 'x'")
    assert "session_heads_by_user" in by_user[0][-1]


# Maintenance


def test_backup_is_ledger_backup_and_opens_as_a_store(shell: Shell, tmp_path: Path) -> None:
    session_id = shell.json("chat-init", "--user-id", "user123")["session_id"]
    copy = tmp_path / "sessions_backup_20261121.db"
    shell.ok("backup", str(copy))
    with SessionStore(copy) as store:
        assert [each.session_id for each in store.list_user_sessions("user123")] == [session_id]


def test_monitoring_the_active_session_count_runs_as_written(store: SessionStore) -> None:
    for _ in range(3):
        store.create_session()
    store.expire_session(store.create_session().session_id)
    store.ledger.delete_session(store.create_session().session_id)
    store.ledger.create_session("ada", "no chat")
    assert selected(store, "SELECT COUNT(*) FROM chat_sessions WHERE expired_at IS NULL;") == [(3,)]


def test_monitoring_the_total_messages_run_as_written(store: SessionStore) -> None:
    one, two = store.create_session(), store.create_session()
    said(store, one.session_id, 3)
    said(store, two.session_id, 2)
    store.expire_session(two.session_id)
    assert selected(store, "SELECT COUNT(*) FROM chat_messages;") == [(5,)]


def test_monitoring_reads_and_never_writes(store: SessionStore) -> None:
    store.create_session()
    with closing(store.get_db_connection()) as connection:
        for statement in ("DELETE FROM chat_sessions", "DELETE FROM main.session_events"):
            with pytest.raises(sqlite3.OperationalError):
                connection.execute(statement)


# Security


def test_security_over_the_view_of_a_user_the_sessions_of_others_are_not_there(ledger: SessionLedger) -> None:
    everybody, bens = SessionStore(ledger=ledger), SessionStore(ledger=ledger.for_user("ben"))
    adas = everybody.create_session("ada")
    mine = bens.create_session()
    assert mine.user_id == "ben"
    assert bens.get_session(adas.session_id) is None
    assert bens.list_user_sessions("ada") == []
    with pytest.raises(SessionNotFound):
        bens.add_message(adas.session_id, Message(role="user", content="c"))
    assert bens.expire_session(adas.session_id) is False
    with pytest.raises(PermissionDenied):
        bens.get_db_connection()
    bens.close()
    assert everybody.get_session(adas.session_id) is not None, "a ledger that was handed in stays open"


def test_security_expired_sessions_remain_in_the_database(store: SessionStore) -> None:
    session = store.create_session()
    said(store, session.session_id, 2)
    store.expire_session(session.session_id)
    assert len(store.ledger.get_messages(session.session_id)) == 2
    (found,) = store.list_user_sessions(None, include_expired=True)
    assert found.expired_at is not None
    assert len(found.messages) == 2


# Troubleshooting


def test_session_not_found_is_none_whether_expired_unknown_or_no_chat(store: SessionStore) -> None:
    expired = store.create_session()
    store.expire_session(expired.session_id)
    other = store.ledger.create_session("ada", "no chat")
    for session_id in (expired.session_id, "nobody", other):
        assert store.get_session(session_id) is None
    for session_id in ("nobody", other):
        with pytest.raises(SessionNotFound):
            store.add_message(session_id, Message(role="user", content="c"))
        assert store.expire_session(session_id) is False
    assert store.ledger.get_session(other).status == "active"


def test_database_locked_does_not_happen_to_writers_at_once(path: Path) -> None:
    with SessionStore(path) as one, SessionStore(path) as two:
        session = one.create_session()

        def write(number: int) -> None:
            said((one, two)[number % 2], session.session_id, 5)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(write, range(8)))
        assert len(session.messages) == 40


def test_large_message_history_get_recent_messages_reads_only_those(
    store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = store.create_session()
    said(store, session.session_id, 30)
    read: list[int] = []
    get_messages = store.ledger.get_messages

    def counting(*args: Any, **settings: Any) -> Any:
        page = get_messages(*args, **settings)
        read.append(len(page))
        return page

    monkeypatch.setattr(store.ledger, "get_messages", counting)
    found = store.get_session(session.session_id)
    assert found is not None
    assert read == []
    recent = found.get_recent_messages(n=10)
    assert [message.content for message in recent] == [f"message {number}" for number in range(20, 30)]
    assert len(found.get_recent_messages()) == 10
    assert read == [10, 10]


# Settings


def test_a_store_is_on_a_path_or_over_a_ledger(ledger: SessionLedger, path: Path) -> None:
    for settings in ({}, {"path": path, "ledger": ledger}):
        with pytest.raises(ConfigurationError, match="exactly one of path and ledger"):
            SessionStore(**settings)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="question mark"):
        SessionStore("what?.db")


def test_a_file_of_the_older_store_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    old = tmp_path / "old.db"
    with closing(sqlite3.connect(old)) as connection:
        connection.execute("CREATE TABLE chat_sessions (session_id TEXT)")
    before = old.read_bytes()
    with pytest.raises(ConfigurationError, match="another program"):
        SessionStore(old)
    assert old.read_bytes() == before


def test_the_example_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(ROOT / "examples" / "seed2_chat_store.py"), run_name="__main__")
    assert (tmp_path / "data" / "chat" / "sessions.db").exists()
