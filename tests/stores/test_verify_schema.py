"""``verify`` goes on over a damaged search index, another schema and values that no store writes."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from ledger import LedgerError, SessionLedger, StoreRejected
from support.tampering import tamper

SESSIONS = 20


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("verify") / "recorded.db"
    with SessionLedger.open(f"sqlite:///{path}", default_ttl_hours=None) as ledger:
        for number in range(SESSIONS):
            ledger.create_session("ada", "How many orders?", session_id=f"s{number:02}")
        assert len(ledger.search("orders")) == SESSIONS
        ledger.seal()
    return path


@pytest.fixture
def file(recorded: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(recorded, tmp_path / "l.db"))


def opened(file: Path) -> SessionLedger:
    return SessionLedger.open(f"sqlite:///{file}", create=False)


def codes(ledger: SessionLedger, *session_ids: str, rebuild: bool = False) -> set[tuple[str, str]]:
    return {(it.session_id, it.code) for it in ledger.verify(*session_ids, rebuild=rebuild).findings}


DAMAGED_INDEX = (
    "DELETE FROM search_words_data",
    "DELETE FROM search_words_config",
    "UPDATE search_words_config SET v = 99",
    *(f"DROP TABLE search_words_{name}" for name in ("data", "idx", "content", "docsize", "config")),
    "DROP TABLE search_words",
    "DROP TABLE search_words; CREATE VIEW search_words AS SELECT 1 AS words",
    "DROP TABLE search_words; CREATE VIRTUAL TABLE search_words USING fts5(words)",
    "DROP TABLE search_slots",
    "DROP TABLE search_slots; CREATE TABLE search_slots (id)",
    "DROP TABLE search_again; CREATE VIEW search_again AS SELECT 's01' AS session_id",
    "DROP INDEX search_slots_large",
    "UPDATE sqlite_sequence SET seq = 9223372036854775807 WHERE name = 'search_slots'",
    "UPDATE meta SET value = '9223372036854775807' WHERE name = 'search_turn'",
    f"UPDATE meta SET value = '{'9' * 5000}' WHERE name IN ('search_turn', 'search_upto')",
)


@pytest.mark.parametrize("sql", DAMAGED_INDEX)
def test_a_damaged_search_index_is_found_and_built_again_and_the_sessions_are_verified(sql, file):
    tamper(file, sql)
    with opened(file) as ledger:
        result = ledger.verify()
        assert (result.sessions, result.events) == (SESSIONS, SESSIONS)
        assert {it.code for it in result.findings} == {"search"}, result.findings
        assert {code for _, code in codes(ledger, "s01")} <= {"search"}
        mended = ledger.verify(rebuild=True)
        assert (mended.clean, mended.mended) == (True, mended.findings)
        assert ledger.verify().findings == ()
        ledger.update_summary("s01", "orders")
        assert len(ledger.search("orders", limit=100)) == SESSIONS + 1
        assert ledger.verify().findings == ()


OTHER_SCHEMAS = {
    "CREATE TRIGGER x BEFORE INSERT ON session_events BEGIN SELECT RAISE(IGNORE); END": {"schema"},
    "CREATE TABLE x (y); CREATE INDEX z ON session_events (actor)": {"schema"},
    "ALTER TABLE session_heads ADD COLUMN x": {"schema"},
    "DROP INDEX session_state_messages; CREATE INDEX session_state_messages ON session_state (field)": {"schema"},
    "DROP TABLE purged_sessions; DROP TABLE migrations": {"schema"},
    "DROP TABLE seals": {"schema", "unreadable"},
    "DROP TABLE deleted_sessions": {"schema", "unreadable"},
    "DROP TABLE relays": {"schema", "unreadable"},
    "DROP TABLE foreign_events": {"schema", "unreadable"},
    "DROP INDEX session_events_by_version": {"schema", "unreadable"},
    "ALTER TABLE session_state RENAME TO x; CREATE VIEW session_state AS SELECT * FROM x": {"schema"},
}


@pytest.mark.parametrize("sql", OTHER_SCHEMAS)
def test_another_schema_is_found(sql, file):
    tamper(file, sql)
    with opened(file) as ledger:
        result = ledger.verify(rebuild=True)
        assert {it.code for it in result.findings} == OTHER_SCHEMAS[sql], result.findings
        assert not result.mended


@pytest.mark.parametrize("sql", ["PRAGMA user_version = 8", "PRAGMA user_version = 10"])
def test_an_error_says_that_the_schema_is_not_that_of_its_number(sql, file):
    tamper(file, sql)
    with pytest.raises(StoreRejected, match=r"has another schema than its schema number .* restore a backup"):
        opened(file)


def test_blanks_in_the_schema_and_statistics_of_sqlite_are_no_difference(file):
    tamper(
        file,
        "DROP INDEX session_events_by_id; CREATE  INDEX session_events_by_id\n ON session_events (event_id); ANALYZE",
    )
    with opened(file) as ledger:
        assert ledger.verify().clean


def test_nothing_is_mended_while_there_is_a_trigger(file):
    tamper(
        file,
        "UPDATE session_state SET value = '\"eve\"' WHERE session_id = 's01' AND field = 'question';"
        "CREATE TRIGGER x AFTER INSERT ON session_state BEGIN UPDATE session_state SET value = '\"eve\"' "
        "WHERE session_id = NEW.session_id AND field = 'question'; END",
    )
    with opened(file) as ledger:
        result = ledger.verify(rebuild=True)
        assert [it.code for it in result.findings] == ["schema", "state", "search"]
        assert not ledger.verify("s01", rebuild=True).mended
        assert not result.mended
        tamper(file, "DROP TRIGGER x")
        assert ledger.verify(rebuild=True).clean


IMPOSSIBLE = {
    "UPDATE session_heads SET session_id = CAST(session_id AS BLOB)": {"head", "missing"},
    "UPDATE session_heads SET session_id = CAST(CAST(session_id AS BLOB) || x'ff' AS TEXT)": {"head", "missing"},
    "UPDATE session_heads SET session_id = CAST(x'ff' || session_id AS TEXT)": {"head", "missing"},
    "UPDATE session_events SET session_id = CAST(x'ff' || session_id AS TEXT)": {"missing", "state", "head", "event"},
    "INSERT INTO meta VALUES (CAST(x'ff41' AS TEXT), '1')": set(),
    "UPDATE meta SET value = CAST(x'ff41' AS TEXT) WHERE name = 'epoch'": {"meta"},
    "UPDATE meta SET value = x'ff' WHERE name = 'state_schema'": set(),
    f"UPDATE meta SET value = '{'9' * 5000}' WHERE name = 'epoch'": {"meta"},
    f"UPDATE meta SET value = '{'9' * 5000}' WHERE name = 'state_schema'": set(),
    "UPDATE sqlite_sequence SET seq = 9223372036854775807 WHERE name = 'session_events'": {"seq"},
    "UPDATE sqlite_sequence SET seq = 9223372036854775807 WHERE name = 'seals'": {"seq"},
    "UPDATE sqlite_sequence SET seq = CAST(x'ff41' AS TEXT)": {"seq", "search"},
    "INSERT INTO archived_events VALUES (CAST(x'ff41' AS TEXT), 'e', 1, 1, 9223372036854775807, 0, '')": {"tombstone"},
    "INSERT INTO foreign_events VALUES (CAST(x'ff41' AS TEXT), 1, 'eve', 0, 1)": {"store"},
    "UPDATE seals SET made_at = 9223372036854775807": {"seal"},
    "UPDATE seals SET made_at = 'x'": {"seal"},
    "UPDATE seals SET root = x'ff'": {"seal"},
    "UPDATE sealed_heads SET session_id = CAST(session_id AS BLOB)": {"seal"},
    "UPDATE sealed_heads SET created_at = 'x'": {"seal"},
    "UPDATE sealed_heads SET version = ''": {"seal"},
    "UPDATE sealed_heads SET event_hash = x'ff'": {"seal"},
    "INSERT INTO relays (warehouse, lease_until) VALUES ('w', 'x')": {"relay"},
    "INSERT INTO relays (warehouse, epoch) VALUES ('w', 9223372036854775807)": {"relay"},
    "INSERT INTO relays (warehouse, batch) VALUES ('w', '{}')": {"relay"},
    "INSERT INTO relays (warehouse, checkpoint) VALUES ('w', CAST(x'ff' AS TEXT))": {"relay", "unreadable"},
    "INSERT INTO relays (warehouse, shipped_at) VALUES (CAST(x'ff' AS TEXT), 'x')": {"relay"},
    "INSERT INTO relays (warehouse, last_error) VALUES ('w', CAST(x'ff' AS TEXT))": {"relay"},
    "INSERT INTO search_again VALUES (CAST(x'ff41' AS TEXT))": set(),
}


@pytest.mark.parametrize("sql", IMPOSSIBLE)
def test_values_that_no_store_writes_are_found_and_raise_only_errors_of_the_ledger(sql, file):
    tamper(file, sql)
    with opened(file) as ledger:
        result = ledger.verify()
        found = {it.code for it in result.findings}
        assert found - {"search"} == IMPOSSIBLE[sql] - {"search"}, result.findings
        assert result.events == SESSIONS
        ledger.verify(rebuild=True)
        acts = [
            lambda: ledger.verify(against="latest"),
            ledger.seal,
            lambda: ledger.search("orders"),
            lambda: ledger.update_summary("s01", "x"),
        ]
        if "relays" in sql:
            outbox = ledger.store.outbox("w")
            acts += [outbox.status, lambda: outbox.acquire("host/1/x", 10.0), outbox.checkpoint]
        for act in acts:
            with suppress(LedgerError):
                act()
