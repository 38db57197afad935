"""What the older stores of seeds 1 and 2 hold comes into a ledger with its ids and times."""

from __future__ import annotations

import subprocess
import sys
import traceback
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.engine import make_url

from ledger import ConfigurationError, InvalidInput, MissingExtra, SessionLedger, StoreUnavailable
from ledger.compat.importing import import_chat_store, import_session_states
from ledger.compat.session_states import (
    get_db_connection,
    get_session_state,
    get_session_states_by_criteria,
    save_session_state,
)
from support.older_rows import BEGAN, CHANGED, ROW_ID, TESTS, put_chat, put_state
from support.older_stores import CHATS, SESSION_STATES, engine_of, make

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
            text("UPDATE session_states SET code = 'x', topic = NULL, updated_at = '2025-03-12 00:00:00 UTC'")
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
    assert f"row {ids[3]}: The creation time 1999" in words
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
    with pytest.raises(InvalidInput, match=f"1 row of session_states .* row {ROW_ID}: .*{words}"):
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
    with pytest.raises(MissingExtra, match=r"pip install \"\.\[migrate\]\""):
        import_session_states("x.db", ledger)


def test_without_the_driver_of_postgres_the_extra_is_named(
    ledger: SessionLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtra, match=r"^Not installed: psycopg\. .*pip install \"\.\[migrate\]\""):
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
