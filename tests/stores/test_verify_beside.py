"""``verify`` beside writers, and of what came from other stores, from older files, or went to a warehouse."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from contextlib import closing

import pytest

from ledger import Change, CorruptEvent, LedgerError, SessionLedger
from ledger.stores.sqlite.migrations import FOREIGN_EVENTS
from ledger.stores.sqlite.store import SqliteStore
from ledger.testing import SetClock, event, recorded
from ledger.testing.exchange import abroad
from ledger.testing.harness import begin
from support.tampering import tamper


def test_sessions_that_are_appended_to_meanwhile_give_no_findings(tmp_path):
    stop = threading.Event()
    with SessionLedger.open(f"sqlite:///{tmp_path}/l.db?synchronous=NORMAL") as ledger:
        ids = [ledger.create_session("ada", "q") for _ in range(20)]

        def write() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                session_id = ids[number % 20]
                ledger.add_message(session_id, "user", f"text {number}", message_id=str(number % 50))
                ledger.add_tags(session_id, "weekly") if number % 2 else ledger.remove_tags(session_id, "weekly")
                if not number % 10:
                    ids[number % 20] = ledger.create_session("ada", "q")

        writers = [threading.Thread(target=write) for _ in range(2)]
        for writer in writers:
            writer.start()
        try:
            for number in range(8):
                result = ledger.verify(rebuild=number % 2 == 1)
                assert result.findings == ()
                ledger.search("text")
        finally:
            stop.set()
            for writer in writers:
                writer.join()
        assert ledger.verify().clean


def test_events_of_other_stores_are_known(tmp_path):
    with closing(SqliteStore(tmp_path / "l.db", clock=SetClock())) as store:
        begin(store)
        store.ingest([recorded(2, 2, [Change("title", value="unchained")])])
        store.append("s", event(3))
        store.ingest(abroad("a"))
        assert store.verify().clean
        for sql, expected in (
            ("store_id = 'eve' WHERE session_id = 'a' AND version = 2", ("a", 2, "store")),
            (f"store_id = '{store.store_id}' WHERE session_id = 'a' AND version = 2", ("a", 2, "store")),
            ("event_hash = NULL, prev_hash = NULL WHERE session_id = 'a' AND version = 2", ("a", 2, "unhashed")),
            (
                "store_id = (SELECT store_id FROM foreign_events) WHERE version = 3 AND session_id = 's'",
                ("s", 3, "store"),
            ),
        ):
            tamper(tmp_path / "l.db", "CREATE TABLE kept AS SELECT * FROM session_events")
            tamper(tmp_path / "l.db", f"UPDATE session_events SET {sql}")
            assert expected in {(it.session_id, it.version, it.code) for it in store.verify().findings}
            tamper(
                tmp_path / "l.db",
                "DELETE FROM session_events; INSERT INTO session_events SELECT * FROM kept; DROP TABLE kept",
            )
            assert store.verify().clean


def test_events_of_one_version_that_another_store_recorded_verify(tmp_path):
    with closing(SqliteStore(tmp_path / "l.db", clock=SetClock())) as store:
        store.ingest([recorded(1, 1, [Change("title", value="t")])])
        store.ingest([recorded(2, number, [Change("summary", value=f"{number}")]) for number in (9, 7, 8)])
        assert store.verify().clean


def test_a_file_of_the_release_before_knows_the_events_of_other_stores(tmp_path):
    file = tmp_path / "l.db"
    with closing(SqliteStore(file, clock=SetClock())) as store:
        begin(store)
        store.ingest([recorded(2, 2, [Change("title", value="unchained")])])
        store.append("s", event(3))
        store.ingest([recorded(4, 4, [Change("title", value="unchained")])])
        store.ingest(abroad("a"))
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        runs = connection.execute("SELECT * FROM foreign_events").fetchall()
        connection.execute("DROP TABLE foreign_events")
        for statement in FOREIGN_EVENTS.statements:
            connection.execute(statement)
        assert connection.execute("SELECT * FROM foreign_events").fetchall() == runs
    with closing(SqliteStore(file, clock=SetClock())) as store:
        assert store.verify().clean


def test_what_is_kept_of_an_archived_session_is_checked_as_far_as_it_goes(tmp_path):
    file, warehouse = tmp_path / "l.db", f"duckdb:///{tmp_path}/w.duckdb"
    with SessionLedger.open(f"sqlite:///{file}", warehouse=warehouse, relay="off") as ledger:
        for session_id in ("s1", "s2"):
            ledger.create_session("ada", "How many orders?", session_id=session_id)
        ledger.search("orders")
        ledger.archive_session("s1")
        ledger.warehouse.sync()
        assert ledger.drop_archived() == 1
        ledger.search("orders")
        result = ledger.verify()
        assert (result.sessions, result.events, result.archived, result.findings) == (2, 1, 1, ())
        tamper(file, "UPDATE session_heads SET version = 9 WHERE session_id = 's1'")
        tamper(file, "DELETE FROM archived_events WHERE session_id = 's1' AND version = 1")
        assert {(it.session_id, it.code) for it in ledger.verify().findings} == {("s1", "tombstone")}
    with SessionLedger.open(f"sqlite:///{file}", warehouse=warehouse, relay="off") as ledger:
        tamper(file, "UPDATE session_heads SET version = 2 WHERE session_id = 's1'")
        with pytest.raises(CorruptEvent):
            ledger.hydrate_session("s1")


ARCHIVED = "session_id IN (SELECT session_id FROM archived_sessions)"
CHANGES_OF_ARCHIVED = (
    "UPDATE session_heads SET user_id = 'eve' WHERE",
    "UPDATE session_heads SET event_hash = 'x' WHERE",
    "UPDATE session_heads SET created_at = created_at + 1 WHERE",
    "UPDATE session_heads SET updated_at = 'x' WHERE",
    "UPDATE session_state SET value = '\"eve\"' WHERE field = 'question' AND",
    "UPDATE session_state SET value = CAST(x'ff' AS TEXT) WHERE field = 'question' AND",
    "DELETE FROM session_state WHERE field = 'tag' AND",
    "UPDATE archived_sessions SET kept = NULL WHERE",
    "UPDATE archived_sessions SET digest = 'x' WHERE",
    "UPDATE archived_events SET salt = NULL WHERE",
    "UPDATE archived_events SET rows = 9223372036854775807 WHERE",
)


def test_each_change_of_the_head_or_a_listed_field_of_an_archived_session_is_found(tmp_path):
    file, copy = tmp_path / "l.db", tmp_path / "copy.db"
    with SessionLedger.open(f"sqlite:///{file}", warehouse=f"duckdb:///{tmp_path}/w.duckdb", relay="off") as ledger:
        ledger.create_session("ada", "How many orders?", session_id="s1")
        ledger.add_tags("s1", "weekly")
        ledger.archive_session("s1")
        ledger.warehouse.sync()
        assert ledger.drop_archived() == 1
    for sql in ("ALTER TABLE archived_sessions DROP COLUMN kept", None, *CHANGES_OF_ARCHIVED):
        shutil.copy(file, copy)
        if sql is None:
            pass
        elif sql.startswith("ALTER"):  # as the release before left it: the upgrade takes what is there
            later = "ALTER TABLE deleted_sessions DROP COLUMN purged_at; DROP VIEW session_history; "
            later += "ALTER TABLE session_events DROP COLUMN idempotency_key; DROP TABLE archived_in; "
            later += "DROP TABLE model_prices"
            tamper(copy, f"{sql}; {later}; DELETE FROM migrations WHERE name >= '011'; PRAGMA user_version = 10")
        else:
            tamper(copy, f"{sql} {ARCHIVED}")
        with SessionLedger.open(f"sqlite:///{copy}", create=False) as ledger:
            for _ in range(2):
                found = {(it.session_id, it.code) for it in ledger.verify(rebuild=True).findings}
                assert found == ({("s1", "tombstone")} if sql in CHANGES_OF_ARCHIVED else set()), sql


def test_pages_that_cannot_be_read_are_found_and_the_others_are_verified(tmp_path):
    file = tmp_path / "l.db"
    with SessionLedger.open(f"sqlite:///{file}") as ledger:
        for number in range(60):
            ledger.create_session("ada", "x" * 3000, session_id=f"s{number:02}")
    content = bytearray(file.read_bytes())
    page = content.index(b"x" * 3000) // 4096 * 4096
    content[page : page + 8] = b"\xff" * 8
    file.write_bytes(content)
    with SessionLedger.open(f"sqlite:///{file}") as ledger:
        result = ledger.verify()
        codes = {finding.code for finding in result.findings}
        assert "file" in codes
        assert "unreadable" in codes
        assert 0 < result.sessions < 60
        assert not result.clean


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("DELETE FROM session_heads", "Session s1: a row of the table session_heads"),
        ("UPDATE session_heads SET created_at = 'x'", "Session s1: a row of the table session_heads"),
        ("UPDATE session_events SET occurred_at = 'x'", "Session s1, version 1: a row of the table session_events"),
        ("UPDATE session_state SET value = '{'", "Session s1, version 1: A stored value is not the JSON"),
        ("DELETE FROM meta WHERE name = 'search_upto'", "a row of the table meta"),
        ("UPDATE meta SET value = 'x' WHERE name = 'search_turn'", "a row of the table meta"),
        ("UPDATE meta SET value = x'31' WHERE name = 'search_turn'", "a row of the table meta"),
    ],
)
def test_an_error_says_which_row_is_damaged_and_what_to_do(sql, says, tmp_path):
    file = tmp_path / "l.db"
    with SessionLedger.open(f"sqlite:///{file}") as ledger:
        ledger.create_session("ada", "q", session_id="s1")
        ledger.search("q")
    tamper(file, sql)
    with SessionLedger.open(f"sqlite:///{file}") as ledger:
        messages = []
        reads = (
            lambda: ledger.get_session("s1").question,
            lambda: ledger.history("s1"),
            lambda: ledger.search("q"),
            lambda: list(ledger.subscribe(after=0, timeout=0)),
        )
        for read in reads:
            try:
                read()
            except LedgerError as error:
                messages.append(str(error))
        assert messages
        assert any(message.startswith(says) or says in message for message in messages), messages
        assert all("ledger verify" in message for message in messages), messages


def test_states_are_folded_again_if_nobody_knows_how_they_were(tmp_path):
    file = tmp_path / "l.db"
    with SessionLedger.open(f"sqlite:///{file}") as ledger:
        ledger.create_session("ada", "q", session_id="s1")
    tamper(file, "DELETE FROM meta WHERE name = 'state_schema'; DELETE FROM session_state")
    with SessionLedger.open(f"sqlite:///{file}") as ledger:
        assert ledger.get_session("s1").question == "q"
        assert ledger.verify().clean
