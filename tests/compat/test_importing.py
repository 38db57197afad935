"""What the older stores of seeds 1 and 2 hold comes into a ledger with its ids and times."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.engine import make_url

from ledger import (
    ConfigurationError,
    IdempotencyConflict,
    InvalidInput,
    MissingExtra,
    SessionLedger,
    StoreUnavailable,
)
from ledger.compat.chat_store import Message, SessionStore
from ledger.compat.importing import import_chat_store, import_session_states
from ledger.compat.session_states import (
    get_db_connection,
    get_session_state,
    get_session_states_by_criteria,
    save_session_state,
)
from support.older_stores import CHATS, NAMED_MESSAGES, SESSION_STATES, engine_of, make, postgres, put

ROW_ID = "5f0f8a52-6c6b-4a55-9d5e-6a0a8d1f0001"
BEGAN, CHANGED = datetime(2025, 3, 11, 10, 0, 0, 123456), datetime(2025, 3, 11, 10, 5)  # noqa: DTZ001 - as they stand
TESTS = [{"input": [1, 2], "expected": 3}]


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    with postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def older(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path / 'older.db'}" if sqlite else request.getfixturevalue("postgres_url")
    with engine_of(url) as engine:
        yield engine


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Engine]:
    with engine_of(f"sqlite:///{tmp_path / 'older.db'}") as engine:
        yield engine


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


# Session states


def test_a_row_of_session_states_keeps_its_ids_times_and_values(older: Engine, ledger: SessionLedger) -> None:
    make(older, SESSION_STATES)
    put_state(older)
    done = import_session_states(older, ledger)
    assert (done.sessions, done.events, done.new) == (1, 2, 2)
    assert get_session_state("t", ledger=ledger) == {
        "id": ROW_ID,
        "created_at": BEGAN.replace(tzinfo=UTC),
        "updated_at": CHANGED.replace(tzinfo=UTC),
        "thread_id": "t",
        "run_id": "mlflow-1",
        "user_prompt": "An easy problem",
        "topic": "arrays",
        "difficulty": "easy",
        "problem_description": None,
        "problem_tests": TESTS,
        "code": None,
        "tests_passed": True,
        "code_attempts": 2,
        "problem_attempts": None,
        "workflow_status": "completed",
    }
    assert [(event.recorded_at, event.occurred_at) for event in ledger.history("t")] == [
        (BEGAN.replace(tzinfo=UTC),) * 2,
        (CHANGED.replace(tzinfo=UTC),) * 2,
    ]
    with closing(get_db_connection(ledger=ledger)) as connection:
        (row,) = connection.execute("SELECT id, created_at, updated_at FROM session_states")
    assert tuple(row) == (ROW_ID, "2025-03-11 10:00:00.123456", "2025-03-11 10:05:00.000000")


def test_session_states_imported_twice_are_recorded_once(older: Engine, ledger: SessionLedger) -> None:
    make(older, SESSION_STATES)
    for number in range(3):
        put_state(older, f"t{number}", id=ROW_ID[:-1] + str(number))
    assert import_session_states(older, ledger).new == 6
    assert import_session_states(older, ledger).new == 0
    assert len(get_session_states_by_criteria(ledger=ledger)) == 3


def test_what_the_older_store_changed_meanwhile_follows(older: Engine, ledger: SessionLedger) -> None:
    make(older, SESSION_STATES)
    put_state(older)
    import_session_states(older, ledger)
    with older.begin() as connection:
        connection.execute(
            text("UPDATE session_states SET code = 'x', topic = NULL, updated_at = '2025-03-12 00:00:00'")
        )
    assert import_session_states(older, ledger).new == 1
    found = get_session_state("t", ledger=ledger)
    assert found is not None
    assert (found["code"], found["topic"], found["difficulty"]) == ("x", None, "easy")
    assert found["updated_at"] == datetime(2025, 3, 12, tzinfo=UTC)


def test_a_record_that_came_in_goes_on_as_any_other(older: Engine, ledger: SessionLedger) -> None:
    make(older, SESSION_STATES)
    put_state(older, workflow_status="running")
    import_session_states(older, ledger)
    assert save_session_state("t", {"code": "x"}, workflow_status="completed", ledger=ledger) == ROW_ID
    assert import_session_states(older, ledger).new == 0
    assert get_session_state("t", ledger=ledger)["workflow_status"] == "completed"  # type: ignore[index]


def test_columns_beside_the_documented_ones_are_kept(older: Engine, ledger: SessionLedger) -> None:
    make(older, SESSION_STATES.replace("\n)\n", ",\n  user_id TEXT,\n  model TEXT\n)\n"))
    put_state(older, user_id="ada", model="m-1")
    import_session_states(older, ledger)
    session = ledger.get_session("t")
    assert session is not None
    assert (session.user_id, session.context["model"]) == ("ada", "m-1")


def test_bad_rows_of_session_states_are_named_and_nothing_is_written(older: Engine, ledger: SessionLedger) -> None:
    make(older, SESSION_STATES)
    ids = [ROW_ID[:-1] + str(number) for number in range(4)]
    put_state(older, "good", id=ids[0])
    put_state(older, None, id=ids[1])
    put_state(older, "status", id=ids[2], workflow_status="done")
    put_state(older, "old", id=ids[3], created_at="1999-01-01 00:00:00")
    with pytest.raises(InvalidInput) as raised:
        import_session_states(older, ledger)
    words = str(raised.value)
    assert words.startswith("3 rows of session_states cannot be recorded; nothing was written. ")
    assert f"row {ids[1]}: thread_id must be text" in words
    assert f"row {ids[2]}: workflow_status must be one of running, completed, failed" in words
    assert f"row {ids[3]}: A session created at 1999" in words
    assert len(ledger.list_sessions()) == 0


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("problem_tests", "[1", "problem_tests is not valid JSON text"),
        ("problem_tests", '{"a": 1}', "problem_tests must be an array"),
        ("tests_passed", 7, "tests_passed must be true or false"),
        ("code_attempts", "many", "code_attempts must be a whole number"),
        ("created_at", "yesterday", "created_at 'yesterday' is not a time"),
        ("updated_at", 12, "updated_at must be a time"),
        pytest.param("code", "x" * 8_000_001, "bytes", id="a large text"),
    ],
)
def test_what_sqlite_lets_through_is_a_bad_row(
    sqlite: Engine, ledger: SessionLedger, column: str, value: Any, words: str
) -> None:
    make(sqlite, SESSION_STATES)
    put_state(sqlite, **{column: value})
    with pytest.raises(InvalidInput, match=f"1 rows of session_states .* row {ROW_ID}: .*{words}"):
        import_session_states(sqlite, ledger)


def test_of_many_bad_rows_twenty_are_named_and_all_counted(sqlite: Engine, ledger: SessionLedger) -> None:
    make(sqlite, SESSION_STATES)
    for number in range(30):
        put_state(sqlite, f"t{number}", id=f"id-{number:02}", workflow_status="done")
    with pytest.raises(InvalidInput, match=r"^30 rows .* row id-19: .*; and 10 more\.$"):
        import_session_states(sqlite, ledger)


def test_a_session_of_somebody_else_under_the_same_id_is_named(sqlite: Engine, ledger: SessionLedger) -> None:
    make(sqlite, SESSION_STATES)
    put_state(sqlite)
    ledger.create_session("ada", "mine", session_id="t")
    with pytest.raises(InvalidInput, match=f"row {ROW_ID}: session t"):
        import_session_states(sqlite, ledger)
    assert ledger.get_session("t")["question"] == "mine"  # type: ignore[index]


def test_session_states_are_read_from_the_database_that_the_postgres_variables_name(
    postgres_url: str, ledger: SessionLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    with engine_of(postgres_url) as engine:
        make(engine, SESSION_STATES)
        put_state(engine)
    url = make_url(postgres_url)
    settings = {
        "POSTGRES_HOST": str(url.host or url.query["host"]),
        "POSTGRES_DB": str(url.database),
        "POSTGRES_USER": str(url.username),
        "POSTGRES_PASSWORD": "your_password",
        "POSTGRES_PORT": "5432",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert import_session_states(None, ledger).new == 2
    assert import_session_states(postgres_url, ledger).new == 0
    monkeypatch.delenv("POSTGRES_DB")
    with pytest.raises(ConfigurationError, match="Set POSTGRES_DB"):
        import_session_states(None, ledger)


# Chats


def test_a_chat_keeps_its_ids_times_messages_and_context(older: Engine, ledger: SessionLedger) -> None:
    make(older, *CHATS)
    put_chat(older)
    put_message(older, "c", role="assistant", content="late", query_plan='{"a": 1}', timestamp=str(CHANGED))
    done = import_chat_store(older, ledger)
    assert (done.sessions, done.events) == (1, 5)
    chat = SessionStore(ledger=ledger).get_session("c")
    assert chat is not None
    assert (chat.session_id, chat.user_id, chat.context) == ("c", "user123", {"last_publisher": "Oxford"})
    assert (chat.created_at, chat.updated_at) == (BEGAN.replace(tzinfo=UTC), CHANGED.replace(tzinfo=UTC))
    assert [(each.message_id, each.role, each.content) for each in chat.messages] == [
        ("1", "user", "message 0"),
        ("2", "user", "message 1"),
        ("3", "assistant", "late"),
    ]
    assert (chat.messages[0].candidate_set, chat.messages[2].query_plan) == ({"n": 1}, {"a": 1})
    assert chat.messages[0].timestamp == BEGAN.replace(minute=1, tzinfo=UTC)


def test_an_expired_chat_is_expired_and_nobodys_chat_the_anonymous_users(older: Engine, ledger: SessionLedger) -> None:
    make(older, *CHATS)
    put_chat(older, expired_at="2025-03-13 00:00:00", user_id=None, context=None)
    import_chat_store(older, ledger)
    store = SessionStore(ledger=ledger)
    assert store.get_session("c") is None
    (chat,) = store.list_user_sessions(None, include_expired=True)
    assert chat.expired_at == datetime(2025, 3, 13, tzinfo=UTC)
    with closing(store.get_db_connection()) as connection:
        count = connection.execute("SELECT COUNT(*) FROM chat_sessions WHERE expired_at IS NULL;").fetchone()[0]
    assert count == 0


def test_a_chat_without_context_or_messages_keeps_when_it_was_used_last(sqlite: Engine, ledger: SessionLedger) -> None:
    make(sqlite, *CHATS)
    put_chat(sqlite, messages=0, context=None)
    import_chat_store(sqlite, ledger)
    chat = SessionStore(ledger=ledger).get_session("c")
    assert chat is not None
    assert chat.updated_at == CHANGED.replace(tzinfo=UTC)


def test_chats_imported_twice_are_recorded_once_and_new_messages_follow(older: Engine, ledger: SessionLedger) -> None:
    make(older, *CHATS)
    for number in range(3):
        put_chat(older, f"c{number}")
    assert import_chat_store(older, ledger).new == 12
    assert import_chat_store(older, ledger).new == 0
    put_message(older, "c1", content="new", timestamp="2025-03-12 00:00:00")
    assert import_chat_store(older, ledger).new == 1
    chat = SessionStore(ledger=ledger).get_session("c1")
    assert chat is not None
    assert [each.content for each in chat.messages] == ["message 0", "message 1", "new"]


def test_a_chat_that_came_in_goes_on_as_any_other(sqlite: Engine, ledger: SessionLedger) -> None:
    make(sqlite, *CHATS)
    put_chat(sqlite)
    import_chat_store(sqlite, ledger)
    store = SessionStore(ledger=ledger)
    store.add_message("c", Message(role="assistant", content="answer"))
    assert import_chat_store(sqlite, ledger).new == 0
    assert [each.content for each in store.get_session("c").messages][-1] == "answer"  # type: ignore[union-attr]


def test_a_message_that_was_edited_in_the_older_store_is_named(sqlite: Engine, ledger: SessionLedger) -> None:
    make(sqlite, *CHATS)
    put_chat(sqlite)
    import_chat_store(sqlite, ledger)
    with sqlite.begin() as connection:
        connection.execute(text("UPDATE chat_messages SET content = 'edited' WHERE id = 1"))
    with pytest.raises(IdempotencyConflict, match="session c"):
        import_chat_store(sqlite, ledger)


def test_bad_rows_of_a_chat_store_are_named_and_nothing_is_written(older: Engine, ledger: SessionLedger) -> None:
    make(older, *CHATS)
    put_chat(older, "good")
    put_chat(older, "robots", messages=0)
    put_message(older, "robots", role="robot")
    put_chat(older, "silent", messages=0)
    put_message(older, "silent", content=None)
    put_chat(older, "list", context="[1]")
    put_message(older, "nowhere")
    with pytest.raises(InvalidInput) as raised:
        import_chat_store(older, ledger)
    words = str(raised.value)
    assert words.startswith("4 rows of chat_sessions and chat_messages cannot be recorded; nothing was written. ")
    assert "session robots: message 3: " in words
    assert "session silent: message 4: content must be text" in words
    assert "session list: context must be an object" in words
    assert "belongs to no chat (session_id 'nowhere')" in words
    assert len(ledger.list_sessions()) == 0


def test_other_columns_of_chats_and_messages_are_kept(sqlite: Engine, ledger: SessionLedger) -> None:
    make(sqlite, *(table.replace("\n)\n", ",\n  extra TEXT\n)\n") for table in CHATS))
    put_chat(sqlite, messages=0, extra="e")
    put_message(sqlite, "c", extra="f")
    import_chat_store(sqlite, ledger)
    session = ledger.get_session("c", messages=True)
    assert session is not None
    assert session.attributes == {"extra": "e"}
    assert session.messages[0].metadata["extra"] == "f"  # type: ignore[index]


def test_messages_of_one_id_are_named_and_nothing_is_written(older: Engine, ledger: SessionLedger) -> None:
    make(older, CHATS[0], NAMED_MESSAGES)
    put_chat(older, "a", messages=0)
    put_chat(older, "b", messages=0)
    put_message(older, "a", message_id="m0")
    put_message(older, "b", message_id="m1")
    put_message(older, "b", message_id="m1", content="another")
    with pytest.raises(InvalidInput, match="session b: there is more than one message m1"):
        import_chat_store(older, ledger)
    assert len(ledger.list_sessions()) == 0


def test_a_message_without_a_message_id_has_its_id_and_without_both_is_refused(
    older: Engine, sqlite: Engine, ledger: SessionLedger
) -> None:
    make(older, CHATS[0], NAMED_MESSAGES)
    put_chat(older, messages=0)
    put_message(older, "c", message_id="m")
    put_message(older, "c")
    import_chat_store(older, ledger)
    assert [each.message_id for each in ledger.get_messages("c")] == ["m", "2"]
    make(sqlite, CHATS[0], NAMED_MESSAGES.replace("  id {serial},\n", ""))
    put_chat(sqlite, "d", messages=0)
    put_message(sqlite, "d")
    with pytest.raises(InvalidInput, match="session d: message None: its id must be text"):
        import_chat_store(sqlite, ledger)


def test_messages_of_one_time_stay_in_the_order_in_which_they_were_said(older: Engine, ledger: SessionLedger) -> None:
    make(older, CHATS[0], NAMED_MESSAGES)
    put_chat(older, messages=0)
    for message_id, content in (("z", "first"), ("m", "second"), ("a", "third")):
        put_message(older, "c", message_id=message_id, content=content, timestamp="2025-03-11 10:00:01")
    import_chat_store(older, ledger)
    assert [each.content for each in ledger.get_messages("c")] == ["first", "second", "third"]


def test_messages_are_in_the_order_of_their_times_whatever_the_zone(sqlite: Engine, ledger: SessionLedger) -> None:
    make(sqlite, CHATS[0], NAMED_MESSAGES.replace("  id {serial},\n", ""))
    put_chat(sqlite, messages=0)
    put_message(sqlite, "c", message_id="b", content="late", timestamp="2025-03-11T10:30:00+00:00")
    put_message(sqlite, "c", message_id="c", content="early", timestamp="2025-03-11T12:00:00+02:00")
    put_message(sqlite, "c", message_id="a", content="early too", timestamp="2025-03-11T10:00:00Z")
    import_chat_store(sqlite, ledger)
    assert [each.content for each in ledger.get_messages("c")] == ["early", "early too", "late"]


def test_what_the_older_store_took_back_of_a_chat_is_taken_back(older: Engine, ledger: SessionLedger) -> None:
    make(older, *CHATS)
    put_chat(older, context='{"a": 1, "b": 2}')
    import_chat_store(older, ledger)
    ledger.update_context("c", {"ours": 3})

    def changed(**columns: Any) -> int:
        with older.begin() as connection:
            for name, value in columns.items():
                connection.execute(text(f"UPDATE chat_sessions SET {name} = :value"), {"value": value})
        new = import_chat_store(older, ledger).new
        assert import_chat_store(older, ledger).new == 0
        return new

    assert changed(context='{"a": 1}') == 1
    assert ledger.get_session("c").context == {"a": 1, "ours": 3}  # type: ignore[union-attr]
    assert changed(context='{"a": 1, "b": 2}') == 1
    assert ledger.get_session("c").context == {"a": 1, "b": 2, "ours": 3}  # type: ignore[union-attr]
    for _ in range(2):
        assert changed(expired_at="2025-03-13 00:00:00") == 1
        assert ledger.get_session("c").status == "expired"  # type: ignore[union-attr]
        assert changed(expired_at=None) == 1
        session = ledger.get_session("c")
        assert session is not None
        assert (session.status, session.expires_at) == ("active", None)
    assert [event.event_type for event in ledger.history("c")][-1] == "session.restored"


def test_what_ended_here_is_not_opened_by_a_change_there(sqlite: Engine, ledger: SessionLedger) -> None:
    make(sqlite, *CHATS)
    put_chat(sqlite, context=None)
    import_chat_store(sqlite, ledger)
    ledger.archive_session("c")
    with sqlite.begin() as connection:
        connection.execute(text("UPDATE chat_sessions SET updated_at = '2027-03-12 00:00:00'"))
    assert import_chat_store(sqlite, ledger).new == 1
    session = ledger.get_session("c")
    assert session is not None
    assert (session.status, session.updated_at) == ("archived", datetime(2027, 3, 12, tzinfo=UTC))


def test_what_was_erased_here_does_not_come_back_from_there(sqlite: Engine, tmp_path: Path) -> None:
    make(sqlite, *CHATS)
    put_chat(sqlite, context='{"secret": 1, "b": 2}')
    url = f"sqlite:///{tmp_path / 'erased.db'}"
    with SessionLedger(url) as ledger:
        import_chat_store(sqlite, ledger)
    with closing(sqlite3.connect(tmp_path / "erased.db")) as connection, connection:
        connection.execute("UPDATE session_events SET value = NULL, value_salt = NULL WHERE key = 'secret'")
        connection.execute("DELETE FROM session_state WHERE key = 'secret'")
    for new in (1, 0):
        with sqlite.begin() as older:
            older.execute(text("""UPDATE chat_sessions SET context = '{"secret": 1, "b": 3}'"""))
        with SessionLedger(url) as ledger:
            assert import_chat_store(sqlite, ledger).new == new
            changes = {change.key: change.text for event in ledger.history("c")[3:] for change in event.changes}
            assert (changes["secret"], changes["b"]) == (None, "3")


def test_the_last_activity_counts_where_there_is_no_other_time(sqlite: Engine, ledger: SessionLedger) -> None:
    make(sqlite, CHATS[0].replace("expired_at", "last_activity TIMESTAMP,\n  expired_at"), CHATS[1])
    put_chat(sqlite, updated_at=None, last_activity=str(CHANGED))
    import_chat_store(sqlite, ledger)
    assert ledger.get_session("c").updated_at == CHANGED.replace(tzinfo=UTC)  # type: ignore[union-attr]


def test_users_may_be_numbers(older: Engine, ledger: SessionLedger) -> None:
    make(older, CHATS[0].replace("user_id TEXT", "user_id INTEGER"), CHATS[1])
    put_chat(older, user_id=7)
    import_chat_store(older, ledger)
    make(older, SESSION_STATES.replace("\n)\n", ",\n  user_id INTEGER\n)\n"))
    put_state(older, user_id=8)
    import_session_states(older, ledger)
    assert (ledger.get_session("c").user_id, ledger.get_session("t").user_id) == ("7", "8")  # type: ignore[union-attr]


@pytest.mark.parametrize("time", ["infinity", "20000-01-01 00:00:00", "0044-03-15 00:00:00 BC"])
def test_a_time_of_postgres_that_python_has_not_is_a_bad_row(
    postgres_url: str, ledger: SessionLedger, time: str
) -> None:
    with engine_of(postgres_url) as engine:
        make(engine, *CHATS)
        put_chat(engine, "good")
        put_chat(engine, "bad", created_at=time)
        put_chat(engine, "worse", messages=0)
        put_message(engine, "worse", timestamp=time)
        with pytest.raises(InvalidInput, match="2 rows of chat_sessions") as raised:
            import_chat_store(engine, ledger)
    assert "session bad: created_at" in str(raised.value)
    assert "session worse: message" in str(raised.value)
    assert len(ledger.list_sessions()) == 0


def test_times_of_postgres_are_read_whatever_its_settings(postgres_url: str, ledger: SessionLedger) -> None:
    with engine_of(postgres_url) as engine:
        make(engine, CHATS[0].replace("created_at TIMESTAMP", "day DATE, created_at TIMESTAMPTZ"), CHATS[1])
        put_chat(engine, messages=0, created_at="2025-03-11 10:00:00.5+05:30", day="2025-03-11", updated_at=None)
        with engine.begin() as connection:
            database = connection.execute(text("SELECT current_database()")).scalar()
            connection.execute(text(f"ALTER DATABASE \"{database}\" SET datestyle = 'German'"))
            connection.execute(text(f"ALTER DATABASE \"{database}\" SET timezone = 'Asia/Kathmandu'"))
        try:
            import_chat_store(engine, ledger)
        finally:
            with engine.begin() as connection:
                connection.execute(text(f'ALTER DATABASE "{database}" RESET ALL'))
    session = ledger.get_session("c")
    assert session is not None
    assert session.created_at == datetime(2025, 3, 11, 4, 30, 0, 500_000, tzinfo=UTC)
    assert session.attributes == {"day": "2025-03-11"}


def test_messages_may_name_their_chat_in_another_type(postgres_url: str, ledger: SessionLedger) -> None:
    with engine_of(postgres_url) as engine:
        make(engine, CHATS[0].replace("session_id TEXT", "session_id UUID"), CHATS[1])
        put_chat(engine, ROW_ID, messages=2)
        put_message(engine, "nowhere")
        with pytest.raises(InvalidInput, match="belongs to no chat"):
            import_chat_store(engine, ledger)
        with engine.begin() as connection:
            connection.execute(text("DELETE FROM chat_messages WHERE session_id = 'nowhere'"))
        import_chat_store(engine, ledger)
    assert len(ledger.get_messages(ROW_ID)) == 2


def test_a_ledger_that_is_away_is_no_bad_row(
    sqlite: Engine, ledger: SessionLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(sqlite, *CHATS)
    put_chat(sqlite)

    def away(*arguments: Any, **named: Any) -> Any:
        raise StoreUnavailable("The disk is away.")

    monkeypatch.setattr(type(ledger.store), "events", away)
    with pytest.raises(StoreUnavailable):
        import_chat_store(sqlite, ledger)


# Where they are


def test_a_sqlite_file_is_named_by_path_or_url_and_never_written(
    sqlite: Engine, ledger: SessionLedger, tmp_path: Path
) -> None:
    make(sqlite, *CHATS)
    put_chat(sqlite)
    file = tmp_path / "older.db"
    before = file.read_bytes()
    assert import_chat_store(file, ledger).new == 4
    for place in (str(file), f"sqlite:///{file}"):
        assert import_chat_store(place, ledger).new == 0
    assert file.read_bytes() == before
    with pytest.raises(ConfigurationError, match="There is no file"):
        import_chat_store(tmp_path / "missing.db", ledger)
    assert not (tmp_path / "missing.db").exists()


def test_a_database_that_is_no_older_store_says_what_is_missing(sqlite: Engine, ledger: SessionLedger) -> None:
    make(sqlite, "CREATE TABLE session_states (id TEXT)")
    with pytest.raises(ConfigurationError, match="no column thread_id, created_at; it has id"):
        import_session_states(sqlite, ledger)
    with pytest.raises(ConfigurationError, match="no table chat_sessions"):
        import_chat_store(sqlite, ledger)
    make(sqlite, CHATS[0], "CREATE TABLE chat_messages (session_id TEXT, role TEXT, content TEXT)")
    with pytest.raises(ConfigurationError, match="message_id or id"):
        import_chat_store(sqlite, ledger)


def test_a_database_that_does_not_answer_is_named_without_its_password(ledger: SessionLedger) -> None:
    with pytest.raises(StoreUnavailable, match="cannot be read") as raised:
        import_session_states("postgresql://ada:hidden@127.0.0.1:1/none", ledger)
    assert "hidden" not in str(raised.value)
    in_query = "postgresql://127.0.0.1:1/app?user=app&password=hidden"
    with pytest.raises(StoreUnavailable, match="cannot be read") as asked:
        import_session_states(in_query, ledger)
    assert "hidden" not in "".join(traceback.format_exception(asked.value))
    for url in ("nothing://ada:hidden@x/y", "postgresql://u:p@h:hidden/db"):
        with pytest.raises(ConfigurationError, match="not a valid SQLAlchemy URL") as wrong:
            import_session_states(url, ledger)
        assert "hidden" not in "".join(traceback.format_exception(wrong.value))


def test_without_sqlalchemy_the_extra_is_named(ledger: SessionLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    with pytest.raises(MissingExtra, match=r"session-ledger\[migrate\]"):
        import_session_states("x.db", ledger)


def test_without_the_driver_of_postgres_the_extra_is_named(
    ledger: SessionLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtra, match=r"^Not installed: psycopg\. .*session-ledger\[migrate\]"):
        import_session_states("postgresql://ada:hidden@127.0.0.1:1/none", ledger)


def test_a_driver_that_is_in_no_extra_is_a_setting_to_mend(ledger: SessionLedger) -> None:
    with pytest.raises(
        ConfigurationError, match="driver of the source database cannot be imported: No module named 'pymysql'"
    ) as raised:
        import_session_states("mysql+pymysql://ada:hidden@127.0.0.1:1/none", ledger)
    assert not isinstance(raised.value, MissingExtra)
    assert "hidden" not in str(raised.value)


def test_the_drop_in_modules_do_not_load_sqlalchemy() -> None:
    program = "import sys, ledger.compat.session_states, ledger.compat.chat_store; print('sqlalchemy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
