"""Events as Parquet by day: exact there and back, as other tools read them, whole or absent."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pandas
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import Change, InvalidInput, SessionLedger, SessionNotFound
from ledger.formats import parquet
from ledger.formats.events import export_lines
from ledger.formats.parquet import export_parquet, import_parquet
from ledger.model.queries import SessionQuery
from ledger.testing import START, CountedIds, SetClock, event
from ledger.warehouse.urls import open_warehouse
from support.shell import Shell
from support.streams import json_values, texts

DAY = timedelta(days=1)
changes = st.lists(
    st.one_of(
        st.tuples(st.just("summary"), st.just(""), texts, st.booleans()),
        st.tuples(st.just("context"), st.sampled_from(["a", "é 漢"]), json_values, st.booleans()),
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda each: each[:2],
)


def open_ledger(folder: Path, name: str, clock: SetClock | None = None) -> SessionLedger:
    return SessionLedger.open(f"sqlite:///{folder / name}.db", clock=clock or SetClock(), ids=CountedIds())


def erase_values(file: Path) -> None:
    """Take values and salts away, as erasure does."""
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE session_events SET value = NULL, value_salt = NULL WHERE removed = 0")


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def three_days(tmp_path: Path) -> Iterator[SessionLedger]:
    """A ledger with a session on each of three days, the last one deleted, by two users."""
    clock = SetClock()
    with open_ledger(tmp_path, "source", clock) as source:
        for number in range(3):
            session_id = f"s{number}"
            source.create_session("bob" if number == 1 else "ada", f"Question {number}?", session_id=session_id)
            source.add_message(session_id, "user", f"Hello {number}", message_id="m")
            source.set_results(session_id, {"n": {"most": 2**64 - 1, "least": -(2**63), "tenth": 0.1, "zero": -0.0}})
            clock.move(DAY.total_seconds())
        source.delete_session("s2")
        yield source


@settings(max_examples=15, deadline=None)
@given(st.lists(changes, min_size=1, max_size=4), st.sampled_from([1, 3, 65_536]), st.booleans())
def test_events_that_go_through_parquet_are_the_same_to_the_last_byte(
    tmp_path_factory: pytest.TempPathFactory, made: list[Any], group: int, erased: bool
) -> None:
    folder = tmp_path_factory.mktemp("round")
    with (
        open_ledger(folder, "here") as here,
        open_ledger(folder, "there") as there,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(parquet, "GROUP_ROWS", group)
        for index, each in enumerate(made):
            parts = [Change(field, key, None if gone else value, gone) for field, key, value, gone in each]
            more = {"actor": "bot" if index else None, "idempotency_key": f"k{index}" if index % 2 else None}
            here.store.append(f"s{index % 2}", event(index, *parts, user_id=f"ü{index % 2}", **more))
        if erased:
            erase_values(folder / "here.db")
        done = export_parquet(here.store, folder / "out")
        assert (done.events, done.sessions) == (len(made), min(2, len(made)))
        assert import_parquet(there.store, folder / "out").new == len(made)
        assert sorted(export_lines(there.store)) == sorted(export_lines(here.store))
        assert import_parquet(there.store, folder / "out").new == 0


def test_each_day_has_a_folder_and_the_sessions_created_on_it(three_days: SessionLedger, tmp_path: Path) -> None:
    done = export_parquet(three_days.store, tmp_path / "out")
    assert (done.sessions, done.events, done.files) == (3, 10, 3)
    days = [START.date() + number * DAY for number in range(3)]
    assert names(tmp_path / "out") == [f"created_date={day}/part-00000.parquet" for day in days]
    for number, day in enumerate(days):
        table = pq.read_table(tmp_path / "out" / f"created_date={day}" / "part-00000.parquet", partitioning=None)
        assert set(table["session_id"].to_pylist()) == {f"s{number}"}
        assert {at.astimezone(UTC).date() for at in table["created_at"].to_pylist()} == {day}


def test_the_folder_is_a_dataset_with_a_date_for_duckdb_pyarrow_and_pandas(
    three_days: SessionLedger, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    export_parquet(three_days.store, out)
    days = [START.date() + number * DAY for number in range(3)]
    read = f"read_parquet('{out}/*/*.parquet', hive_partitioning = true)"
    with duckdb.connect() as connection:
        found = connection.execute(
            f"SELECT DISTINCT created_date, typeof(created_date) FROM {read} WHERE created_date > ? ORDER BY 1",
            [days[0]],
        ).fetchall()
    assert found == [(day, "DATE") for day in days[1:]]
    keys = ds.partitioning(pa.schema([("created_date", pa.date32())]), flavor="hive")
    dataset = ds.dataset(out, format="parquet", partitioning=keys)
    assert set(dataset.to_table(filter=ds.field("created_date") == days[1])["session_id"].to_pylist()) == {"s1"}
    frame = pandas.read_parquet(out)
    assert sorted(set(frame["created_date"].astype(str))) == [str(day) for day in days]
    assert str(frame["created_at"].dtype) == "datetime64[us, UTC]"


def test_the_files_are_the_table_session_events_of_which_the_views_give_the_same_answers(
    three_days: SessionLedger, tmp_path: Path
) -> None:
    export_parquet(three_days.store, tmp_path / "out")
    filled = open_warehouse(f"duckdb:///{tmp_path / 'filled.duckdb'}")
    filled.create()
    with duckdb.connect(str(tmp_path / "filled.duckdb")) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(
            "INSERT INTO session_events BY NAME SELECT * EXCLUDE (created_date) "
            f"FROM read_parquet('{tmp_path}/out/*/*.parquet', hive_partitioning = true)"
        )
    days = {"first": START - DAY, "next": START + 9 * DAY}
    for statement in (
        "SELECT * FROM session_events ORDER BY session_id, version, field, key",
        "SELECT * FROM sessions ORDER BY session_id",
        "SELECT * FROM session_metrics ORDER BY session_id",
        "SELECT * FROM messages ORDER BY session_id, position",
        "SELECT * FROM daily_activity(@first, @next, 8) ORDER BY day",
    ):
        parameters = days if "@first" in statement else {}
        shipped = three_days.sql(statement, parameters)
        assert len(shipped) > 0
        assert filled.query(statement, parameters).rows == shipped.rows


def test_rows_that_duckdb_rewrote_are_imported_too(three_days: SessionLedger, tmp_path: Path) -> None:
    """DuckDB writes JSON as a type of its own, and times without a zone are in UTC."""
    three_days.sql("SELECT 1")  # ships the rows
    with duckdb.connect(str(tmp_path / "source.duckdb"), read_only=True) as connection:
        connection.execute(
            "COPY (SELECT * FROM session_events ORDER BY session_id, version, event_id) "
            f"TO '{tmp_path}/of.parquet' (FORMAT parquet)"
        )
    with open_ledger(tmp_path, "target") as target:
        assert import_parquet(target.store, tmp_path / "of.parquet").new == 10
        assert sorted(export_lines(target.store)) == sorted(export_lines(three_days.store))


@pytest.mark.parametrize(
    ("session_ids", "query", "exported"),
    [
        (["s2", "s0"], None, {"s0", "s2"}),
        (None, SessionQuery(user_id="ada"), {"s0", "s2"}),
        (None, SessionQuery(created_from=START + DAY, created_until=START + 2 * DAY), {"s1"}),
        (None, SessionQuery(user_id="nobody"), set()),
    ],
)
def test_sessions_users_and_days_can_be_chosen(
    three_days: SessionLedger,
    tmp_path: Path,
    session_ids: list[str] | None,
    query: SessionQuery | None,
    exported: set[str],
) -> None:
    done = export_parquet(three_days.store, tmp_path / "out", session_ids, query=query)
    assert done.sessions == len(exported)
    found = [pq.read_table(path, partitioning=None) for path in (tmp_path / "out").rglob("*.parquet")]
    assert {session_id for table in found for session_id in table["session_id"].to_pylist()} == exported


def test_a_session_is_in_one_file_and_files_end_once_they_are_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "FILE_ROWS", 5)
    monkeypatch.setattr(parquet, "GROUP_BYTES", 2_500)
    with open_ledger(tmp_path, "source") as source:
        for number in range(4):
            source.create_session("ada", "Why?", session_id=f"s{number}")
            for text in "abcd":
                source.update_summary(f"s{number}", text)
        done = export_parquet(source.store, tmp_path / "out")
        files = [pq.ParquetFile(path) for path in sorted((tmp_path / "out").rglob("*.parquet"))]
        of_file = [set(file.read(["session_id"])["session_id"].to_pylist()) for file in files]
        assert all(file.metadata.num_row_groups > 1 for file in files)
        assert [len(each) for each in of_file] == [1] * 4
        assert done.files == len(set.union(*of_file)) == 4


def test_a_session_that_does_not_exist_leaves_no_folder(three_days: SessionLedger, tmp_path: Path) -> None:
    with pytest.raises(SessionNotFound, match="no session nobody"):
        export_parquet(three_days.store, tmp_path / "out", ["s0", "nobody"])
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))


@pytest.mark.parametrize("there", ["file", "folder", "link to a folder"])
def test_a_path_that_is_taken_is_refused_and_stays_as_it_is(
    three_days: SessionLedger, tmp_path: Path, there: str
) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "note.txt").write_text("mine")
    out = {"file": taken / "note.txt", "folder": taken, "link to a folder": tmp_path / "link"}[there]
    if there == "link to a folder":
        out.symlink_to(taken)
    with pytest.raises(InvalidInput, match="is not an empty folder; nothing was written"):
        export_parquet(three_days.store, out)
    assert names(taken) == ["note.txt"]


def test_an_empty_folder_and_a_link_to_one_are_filled(three_days: SessionLedger, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert export_parquet(three_days.store, tmp_path / "link").files == 3
    assert (tmp_path / "link").is_symlink()
    assert len(names(tmp_path / "real")) == 3
    assert (tmp_path / "real").stat().st_mode & 0o077 == 0


def test_an_empty_ledger_gives_an_empty_folder(tmp_path: Path) -> None:
    with open_ledger(tmp_path, "empty") as empty:
        done = export_parquet(empty.store, tmp_path / "out")
    assert (done.sessions, done.events, done.files) == (0, 0, 0)
    assert list((tmp_path / "out").iterdir()) == []


KILLED = """
import os, sys
from pathlib import Path
from ledger import SessionLedger
from ledger.formats.parquet import export_parquet
left = [7]
def seen():
    left[0] -= 1
    if not left[0]:
        os._exit(9)
with SessionLedger.open(sys.argv[1]) as ledger:
    export_parquet(ledger.store, Path(sys.argv[2]), seen=seen)
"""


def test_an_export_that_is_killed_leaves_no_folder_and_the_next_one_clears_up(
    three_days: SessionLedger, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    url = f"sqlite:///{tmp_path / 'source.db'}"
    killed = subprocess.run([sys.executable, "-c", KILLED, url, str(out)], check=False, timeout=60)
    assert killed.returncode == 9
    assert not out.exists()
    (left,) = tmp_path.glob(".out.*.part")
    assert names(left)
    assert export_parquet(three_days.store, out).files == 3
    assert not list(tmp_path.glob(".out.*.part"))


def test_a_folder_that_another_process_is_writing_is_left_alone(three_days: SessionLedger, tmp_path: Path) -> None:
    seen: list[list[Path]] = []

    def also() -> None:
        if not seen:
            seen.append([])
            export_parquet(three_days.store, tmp_path / "out", ["s0"])  # finishes first
            seen.append(list(tmp_path.glob(".out.*.part")))

    with pytest.raises(InvalidInput, match="is not an empty folder"):
        export_parquet(three_days.store, tmp_path / "out", seen=also)
    assert len(seen[1]) == 1
    assert len(names(tmp_path / "out")) == 1


def test_the_command_line_carries_a_ledger_over(shell: Shell, tmp_path: Path) -> None:
    session_id = shell.ok("new", "Why?").strip()
    shell.ok("message", session_id, "user", "Hello")
    out = str(tmp_path / "events")
    assert shell("export", "--format", "parquet", "-o", out).stderr == "1 session, 2 events, 1 file exported.\n"
    other = f"sqlite:///{tmp_path / 'other.db'}"
    assert shell.ok("import", "-u", other, "--format", "parquet", out) == "1 session, 2 events: 2 new.\n"
    assert shell.ok("export", "-u", other) == shell.ok("export")
    (day,) = (tmp_path / "events").iterdir()
    assert shell.json("import", "--format", "parquet", str(day))["new_events"] == 0
    shell.ok("verify", "-u", other)
