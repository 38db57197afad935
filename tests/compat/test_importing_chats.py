"""What the older store of seed 2 holds comes into a ledger: chats and their messages."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from ledger import IdempotencyConflict, InvalidInput, SessionLedger, StoreUnavailable
from ledger.compat.chat_store import Message, SessionStore
from ledger.compat.importing import import_chat_store, import_session_states
from support.older_rows import BEGAN, CHANGED, ROW_ID, put_chat, put_message, put_state
from support.older_stores import CHATS, NAMED_MESSAGES, SESSION_STATES, engine_of, make

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
        assert [event.event_type for event in ledger.history("c")][-1] == "session.expired"
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
