"""Parquet that cannot be imported: each file and row is named, and nothing of its session is recorded."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ledger import CorruptEvent, InvalidInput, SessionLedger
from ledger.errors import LedgerError
from ledger.formats.events import export_lines
from ledger.formats.parquet import export_parquet, import_parquet
from ledger.testing import CountedIds, SetClock
from support.shell import Shell

DAYS = ("2026-03-05", "2026-03-06")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An export of two sessions of three events each, created on two days."""
    clock = SetClock()
    with SessionLedger.open(f"sqlite:///{tmp_path / 'source.db'}", clock=clock, ids=CountedIds()) as source:
        for name in ("older", "newer"):
            source.create_session("ada", name, session_id=name)
            source.update_summary(name, "one")
            source.set_results(name, {"n": 5})
            clock.move(86_400)
        export_parquet(source.store, tmp_path / "out")
    return tmp_path / "out"


@pytest.fixture
def target(tmp_path: Path) -> Iterator[SessionLedger]:
    with SessionLedger.open(f"sqlite:///{tmp_path / 'target.db'}", clock=SetClock(), ids=CountedIds(1000)) as opened:
        yield opened


def file_of(folder: Path, number: int) -> Path:
    return sorted(folder.rglob("*.parquet"))[number]


def rewrite(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Write a file again with other content."""
    table = change(pq.read_table(path, partitioning=None))
    pq.write_table(table, path)


def with_cell(column: str, row: int, value: Any) -> Callable[[pa.Table], pa.Table]:
    """The change of one cell."""

    def change(table: pa.Table) -> pa.Table:
        values = table[column].to_pylist()
        values[row] = value
        index = table.schema.get_field_index(column)
        return table.set_column(index, column, pa.array(values, table.schema.field(index).type))

    return change


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def flip(path: Path) -> None:
    """Change a byte of the values, which the file's checksums cover."""
    content = bytearray(path.read_bytes())
    content[content.index(b"(\xb5/\xfd") + 20] ^= 0xFF
    path.write_bytes(bytes(content))


#: What happens to the file of the older session, of rows 1 to 4, and what the error says after the file's name.
BAD: dict[str, tuple[Callable[[Path], Any], type[LedgerError], str]] = {
    "cut off": (cut, InvalidInput, r": the Parquet file is damaged, or not complete: .* Copy it again"),
    "a byte changed": (flip, InvalidInput, r": the Parquet file is damaged, or not complete"),
    "empty": (lambda path: path.write_bytes(b""), InvalidInput, " is not a Parquet file"),
    "text": (lambda path: path.write_bytes(b"a,b\n1,2\n"), InvalidInput, r".*CSV"),
    "no column": (
        lambda path: rewrite(path, lambda it: it.drop_columns(["store_id"])),
        InvalidInput,
        r": the file lacks",
    ),
    "other columns": (
        lambda path: pq.write_table(pa.table({"session_id": ["a"], "x": [1]}), path),
        InvalidInput,
        ": the file lacks version, event_id.*It has the columns session_id, x",
    ),
    "a further column": (
        lambda path: rewrite(path, lambda it: it.append_column("colour", pa.array(["red"] * len(it)))),
        InvalidInput,
        ": the file has unknown columns: colour",
    ),
    "numbers as text": (
        lambda path: rewrite(path, lambda it: it.set_column(1, "version", it["version"].cast(pa.string()))),
        InvalidInput,
        ": the column version must be a 64-bit integer, not string",
    ),
    "a value changed": (lambda path: rewrite(path, with_cell("value", 3, "6")), CorruptEvent, ", row 4: "),
    "no JSON": (
        lambda path: rewrite(path, with_cell("value", 3, "{")),
        InvalidInput,
        ", row 4: the value of result is not",
    ),
    "no version": (lambda path: rewrite(path, with_cell("version", 3, None)), InvalidInput, ", row 4: version must be"),
    "no time": (
        lambda path: rewrite(path, with_cell("recorded_at", 3, None)),
        InvalidInput,
        ", row 4: recorded_at is NULL",
    ),
    "no session": (lambda path: rewrite(path, with_cell("session_id", 3, None)), InvalidInput, ", row 4: session_id"),
    "no field": (lambda path: rewrite(path, with_cell("field", 3, None)), InvalidInput, ", row 4: There is no field"),
    "no key": (lambda path: rewrite(path, with_cell("key", 3, None)), InvalidInput, ", row 4: "),
    "not known if removed": (
        lambda path: rewrite(path, with_cell("removed", 3, None)),
        InvalidInput,
        ", row 4: removed",
    ),
    "removed with a value": (
        lambda path: rewrite(path, with_cell("removed", 3, True)),
        InvalidInput,
        ", row 4: result",
    ),
    "an event in two": (lambda path: rewrite(path, with_cell("actor", 1, "eve")), InvalidInput, ", row 1: the rows of"),
    "a row missing": (lambda path: rewrite(path, lambda it: it.slice(1)), CorruptEvent, ", row 1: "),
    "an event missing": (
        lambda path: rewrite(path, lambda it: it.filter(pa.compute.not_equal(it["version"], 2))),
        CorruptEvent,
        ", row 3: .*versions are missing",
    ),
    "no hash": (
        lambda path: rewrite(path, lambda it: it.set_column(18, "event_hash", pa.nulls(len(it), pa.string()))),
        CorruptEvent,
        ", row 1: .* has no hash",
    ),
}


@pytest.mark.parametrize("bad", BAD)
def test_what_cannot_be_imported_is_named_and_leaves_nothing_of_its_session(
    target: SessionLedger, folder: Path, bad: str
) -> None:
    spoil, kind, says = BAD[bad]
    spoil(file_of(folder, 0))
    with pytest.raises(kind, match=f"created_date={DAYS[0]}/part-00000.parquet{says}"):
        import_parquet(target.store, folder)
    assert target.get_session("older") is None

    refused: list[LedgerError] = []
    done = import_parquet(target.store, folder, refuse=refused.append)
    assert [session.session_id for session in target.list_sessions()] == ["newer"]
    assert (done.sessions, done.new) == (1, 3)
    assert {type(error) for error in refused} == {kind}


def test_the_mended_folder_brings_what_was_left_out(target: SessionLedger, folder: Path) -> None:
    whole = file_of(folder, 1).read_bytes()
    cut(file_of(folder, 1))
    with pytest.raises(InvalidInput, match=DAYS[1]):
        import_parquet(target.store, folder)
    assert target.get_session("older") is not None
    file_of(folder, 1).write_bytes(whole)
    assert import_parquet(target.store, folder).new == 3
    with SessionLedger.open(f"sqlite:///{folder.parent / 'source.db'}") as source:
        assert list(export_lines(target.store)) == list(export_lines(source.store))


def test_a_folder_of_which_days_are_missing_brings_the_sessions_of_the_others(
    target: SessionLedger, folder: Path
) -> None:
    file_of(folder, 0).unlink()
    done = import_parquet(target.store, folder)
    assert (done.sessions, done.new) == (1, 3)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("notes.txt", b"hello\n", "notes.txt is not a Parquet file. Move it out of the folder"),
        ("data.db", b"SQLite format 3\x00", "data.db is not a Parquet file: this looks like a SQLite database"),
        (
            "runs.jsonl",
            b'{"messages": [], "x": 1}\n',
            "runs.jsonl is not a Parquet file: this looks like recorded runs",
        ),
        ("events.jsonl", None, "events.jsonl is not a Parquet file: this looks like an export of a ledger"),
    ],
)
def test_another_file_in_the_folder_is_named(
    target: SessionLedger, folder: Path, name: str, content: bytes | None, says: str
) -> None:
    with SessionLedger.open(f"sqlite:///{folder.parent / 'source.db'}") as source:
        (folder / name).write_bytes(next(iter(export_lines(source.store))) if content is None else content)
    with pytest.raises(InvalidInput, match=says):
        import_parquet(target.store, folder)
    refused: list[LedgerError] = []
    assert import_parquet(target.store, folder, refuse=refused.append).sessions == 2
    assert len(refused) == 1


def test_files_that_readers_of_such_folders_pass_over_are_passed_over(target: SessionLedger, folder: Path) -> None:
    (folder / "_SUCCESS").touch()
    (folder / ".part-00000.parquet.crc").write_bytes(b"crc")
    (folder / "_temporary").mkdir()
    (folder / "_temporary" / "x.parquet").write_bytes(b"PAR1")
    assert import_parquet(target.store, folder).sessions == 2


def test_links_to_files_are_read_and_links_to_folders_are_named(target: SessionLedger, folder: Path) -> None:
    (folder / "again.parquet").symlink_to(file_of(folder, 0))
    done = import_parquet(target.store, folder)
    assert (done.sessions, done.events, done.new) == (2, 9, 6)
    (folder / "loop").symlink_to(folder)
    with pytest.raises(InvalidInput, match="loop is a symbolic link to a folder, which is not followed"):
        import_parquet(target.store, folder)
    (folder / "loop").unlink()
    os.mkfifo(folder / "pipe")
    with pytest.raises(InvalidInput, match="pipe is no file"):
        import_parquet(target.store, folder)


def test_a_folder_without_parquet_files_is_refused(target: SessionLedger, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(InvalidInput, match=r"none has no Parquet files: nothing was imported\. Name a folder"):
        import_parquet(target.store, tmp_path / "none")


def test_events_without_hashes_are_accepted_where_that_is_asked_for(target: SessionLedger, folder: Path) -> None:
    for number in (0, 1):
        for column in ("event_hash", "prev_hash", "value_hash", "value_salt"):
            for row in range(4):
                rewrite(file_of(folder, number), with_cell(column, row, None))
    with pytest.raises(CorruptEvent, match="accept it with unchained"):
        import_parquet(target.store, folder)
    assert import_parquet(target.store, folder, unchained=True).new == 6


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("import {folder}", "is a folder. If it has Parquet files of `ledger export`, add --format parquet."),
        (
            "import {file}",
            "this looks like a Parquet file. If `ledger export` wrote it, import it with --format parquet",
        ),
        ("import --format parquet -", "--format parquet requires the path of a folder or a file."),
        ("import --format parquet {folder}/missing", "No such file or directory"),
        ("import --format parquet {folder} --user ada", "--user requires --format openai-chat"),
        ("import --format parquet {folder}/../source.db", "source.db: is not a Parquet file: this looks like a SQLite"),
    ],
)
def test_the_command_line_says_what_to_do(shell: Shell, folder: Path, arguments: str, says: str) -> None:
    filled = arguments.format(folder=folder, file=file_of(folder, 0)).split()
    assert says in shell.fails(*filled)[1]
