"""Damaged files: whatever is wrong with a row or a byte, a read answers right, raises an error of the tree, or verify
finds the damage.
"""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from ledger import CorruptEvent, LedgerError, SessionLedger
from ledger.formats.events import export_lines, import_lines
from ledger.model.prices import ModelPrice
from ledger.testing import START
from stores.test_verify import record
from support.tampering import tamper

#: Reads of a ledger, by name; each returns all that it read.
READS: dict[str, Callable[[SessionLedger], object]] = {
    "get": lambda ledger: [whole(ledger.get_session(each, messages=True)) for each in ("s1", "s2", "s3")],
    "get without messages": lambda ledger: whole(ledger.get_session("s2")),
    "get a version": lambda ledger: whole(ledger.get_session("s2", version=3, messages=True)),
    "get a time": lambda ledger: whole(ledger.get_session("s2", at=START, messages=True)),
    "list": lambda ledger: [whole(each) for each in ledger.list_sessions()],
    "list by status": lambda ledger: [whole(each) for each in ledger.list_sessions(status="active")],
    "history": lambda ledger: list(ledger.history("s2")),
    "messages": lambda ledger: list(ledger.get_messages("s2")),
    "last messages": lambda ledger: list(ledger.get_messages("s2", last=3)),
    "diff": lambda ledger: ledger.diff("s2", 1),
    "replay": lambda ledger: [(event, whole(session)) for event, session in ledger.replay("s2")],
    "search": lambda ledger: list(ledger.search("orders")),
    "search again": lambda ledger: list(ledger.search("bob")),
    "count": lambda ledger: ledger.count_sessions("status"),
    "subscribe": lambda ledger: list(ledger.subscribe(after=0, timeout=0)),
    "view": lambda ledger: [whole(each) for each in ledger.for_user("ada").list_sessions()],
}
WRITES: dict[str, Callable[[SessionLedger], object]] = {
    "append": lambda ledger: ledger.update_summary("s2", "x"),
    "append a message": lambda ledger: ledger.add_message("s2", "user", "x"),
    "status": lambda ledger: ledger.store.outbox("duckdb:///w").status(),
}


def whole(session: Any) -> object:
    """All that a session shows."""
    if session is None:
        return None
    return (
        session.head,
        {key: session[key] for key in session},
        dict(session.tags and {}),
        session.has_messages and session.messages,
    )


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger that has a row in every table, also in those of archived, purged and foreign sessions."""
    folder = tmp_path_factory.mktemp("damaged")
    path = folder / "recorded.db"
    record(path)
    with SessionLedger.open(f"sqlite:///{folder}/abroad.db") as abroad:
        abroad.create_session("bob", "How many there?", session_id="f")
        lines = [*export_lines(abroad.store, ["f"])]
    with SessionLedger.open(f"sqlite:///{path}", warehouse=f"duckdb:///{folder}/w.duckdb") as ledger:
        import_lines(ledger.store, lines)
        for session_id in ("archived", "purged"):
            ledger.create_session("ada", "What else?", session_id=session_id)
        ledger.import_model_prices([ModelPrice("small", date(2026, 1, 1), 0.5, 1.5)])
        ledger.seal()
        ledger.archive_session("archived")
        ledger.delete_session("purged")
        ledger.warehouse.sync()
        assert ledger.drop_archived() == 1
        assert ledger.delete_old_sessions(timedelta(0), ["deleted"]) == 1
    tamper(
        path,
        "INSERT INTO relay_aside SELECT warehouse, 1, 'refused', 0, 'refused' FROM relays;"
        "INSERT INTO search_again VALUES ('s1');"
        "INSERT INTO deleted_sessions SELECT 'gone', 0, warehouse, 1, 0 FROM relays",
    )
    return path


@pytest.fixture(scope="module")
def right(recorded: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What each read answers if nothing is damaged."""
    file = shutil.copy(recorded, tmp_path_factory.mktemp("right") / "l.db")
    with SessionLedger.open(f"sqlite:///{file}") as ledger:
        assert ledger.verify().findings == ()
        return {name: read(ledger) for name, read in READS.items()}


def silently_wrong(file: Path, right: dict[str, object]) -> list[str]:
    """Return what a damaged file answers wrong in silence, unless verify finds the damage.

    Errors that are not of the tree fail the test.
    """
    wrong: list[str] = []
    messages: list[str] = []
    try:
        with SessionLedger.open(f"sqlite:///{file}", create=False) as ledger:
            clean = ledger.verify().clean
            for name, read in READS.items():
                try:
                    answer = read(ledger)
                except LedgerError as error:
                    messages.append(str(error))
                    continue
                if answer != right[name] and clean:
                    wrong.append(f"{name}: {answer}")
            for write in WRITES.values():
                try:
                    write(ledger)
                except LedgerError as error:
                    messages.append(str(error))
    except LedgerError as error:
        messages.append(str(error))
    assert all(len(message) > 40 for message in messages), messages
    return wrong


def columns(file: Path) -> Iterator[tuple[str, str]]:
    """Yield each column of each table of a ledger, with its table."""
    with closing(sqlite3.connect(file)) as connection:
        for (table,) in connection.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND sql NOT LIKE '%VIRTUAL%' ORDER BY name"
        ).fetchall():
            if not table.startswith(("search_words", "sqlite_stat")):
                for column in connection.execute(f"PRAGMA table_info({table})").fetchall():
                    yield table, column[1]


BAD = ("x", "{", "[1]", '"1"', "", -1, 2**63 - 1, 1.5, b"\xff\x00", None, "999999999999")


def test_a_damaged_value_in_any_column_is_an_error_of_the_tree_or_found(recorded, right, tmp_path):
    random_, changed = random.Random(12), set[str]()
    for table, column in columns(recorded):
        for value in random_.sample(BAD, 1):
            file = Path(shutil.copy(recorded, tmp_path / "l.db"))
            with closing(sqlite3.connect(file)) as connection:
                try:
                    rows = [row for (row,) in connection.execute(f"SELECT rowid FROM {table}")]
                    chosen = (value, random_.choice(rows or [0]))
                    done = connection.execute(f"UPDATE OR IGNORE {table} SET {column} = ? WHERE rowid = ?", chosen)
                except sqlite3.OperationalError:  # WITHOUT ROWID
                    done = connection.execute(f"UPDATE OR IGNORE {table} SET {column} = ?", (value,))
                except sqlite3.IntegrityError:
                    continue
                if done.rowcount > 0:
                    changed.add(table)
                connection.commit()
            wrong = silently_wrong(file, right)
            assert not wrong, f"{table}.{column} = {value!r}: {wrong}"
    assert changed == {table for table, _ in columns(recorded)}


def test_flipped_bytes_are_errors_of_the_tree_or_found(recorded, right, tmp_path):
    random_ = random.Random(12)
    content = recorded.read_bytes()
    for _ in range(40):
        damaged = bytearray(content)
        at = random_.randrange(len(damaged))
        damaged[at] ^= 1 << random_.randrange(8)
        file = tmp_path / "l.db"
        for name in tmp_path.iterdir():
            name.unlink()
        file.write_bytes(damaged)
        wrong = silently_wrong(file, right)
        assert not wrong, f"byte {at}: {wrong}"


@pytest.mark.parametrize("lost", ["DELETE ON search_again", "UPDATE ON meta"])
def test_a_search_whose_index_takes_no_change_ends_with_an_error(recorded, tmp_path, lost):
    file = shutil.copy(recorded, tmp_path / "l.db")
    with SessionLedger.open(f"sqlite:///{file}") as ledger:
        list(ledger.search("orders"))
        ledger.update_summary("s2", "orders")
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("INSERT INTO search_again VALUES ('s2')")
            condition = "WHEN NEW.name = 'search_upto'" if "meta" in lost else ""
            connection.execute(f"CREATE TRIGGER lost BEFORE {lost} {condition} BEGIN SELECT RAISE(IGNORE); END")
            connection.commit()
        with pytest.raises(CorruptEvent, match="ledger verify --rebuild"):
            list(ledger.search("orders"))
