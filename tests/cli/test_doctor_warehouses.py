"""The doctor opens the warehouses that a ledger in a file ships to, and advises nothing that loses data."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest

from ledger import SessionLedger
from ledger.warehouse.duckdb.warehouse import DuckDBWarehouse
from support.shell import Shell


def examined(shell: Shell, *args: str, **environment: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Exit code, and findings by name."""
    result = shell("doctor", "--json", *args, HOME=str(shell.path.parent), **environment)
    return result.exit_code, {finding["what"]: finding for finding in json.loads(result.stdout)["findings"]}


def make_newer(path: Path) -> None:
    """Rewrite the header of a DuckDB file as that of a newer version."""
    content = bytearray(path.read_bytes())
    content[12:20] = struct.pack("<Q", 999)
    checksum = 5381
    for (word,) in struct.iter_unpack("<Q", content[8:4096]):
        checksum ^= word * 0xBF58476D1CE4E5B9 & 2**64 - 1
    content[:8] = struct.pack("<Q", checksum)
    path.write_bytes(content)


def archived(shell: Shell) -> None:
    session_id = shell.ok("new", "How many orders?").strip()
    shell.ok("complete", session_id)
    shell.ok("archive", session_id)
    shell.ok("sync")
    shell.ok("maintain")


def test_a_duckdb_file_is_opened_and_left_as_it_is(shell: Shell) -> None:
    shell.ok("new", "How many orders?")
    shell.ok("sync")
    file = shell.path.with_suffix(".duckdb")
    before = file.read_bytes()
    code, findings = examined(shell)
    assert (code, findings["duckdb"]["status"]) == (0, "ok")
    assert findings["duckdb"]["detail"].endswith(" bytes, 2 rows")
    assert file.read_bytes() == before
    with DuckDBWarehouse(file).kept_open():
        assert examined(shell)[1]["duckdb"]["status"] == "ok"
    file.write_bytes(b"text " * 1000)
    code, findings = examined(shell)
    assert (code, findings["duckdb"]["status"]) == (1, "problem")
    assert "is no DuckDB file: it begins like the file of another program" in findings["duckdb"]["detail"]
    assert findings["duckdb"]["remedy"].startswith("correct the warehouse's URL")


def test_a_file_of_a_newer_duckdb_may_be_moved_away_and_is_filled_again(shell: Shell) -> None:
    shell.ok("new", "How many orders?")
    shell.ok("sync")
    file = shell.path.with_suffix(".duckdb")
    make_newer(file)
    failed = shell("sql", "SELECT COUNT(*) AS n FROM sessions")
    assert failed.exit_code == 12
    assert "was written by a newer DuckDB than the " in failed.stderr
    assert (
        "or move the file away, and the ledger fills a new one, unless sessions of a ledger are archived in it: "
        "`ledger doctor` says" in failed.stderr
    )
    code, findings = examined(shell)
    assert (code, findings["duckdb"]["status"]) == (1, "problem")
    assert "or move the file away and keep it" in findings["duckdb"]["remedy"]
    assert "nobody knows whether sessions of another ledger are archived in it alone" in findings["duckdb"]["remedy"]
    file.rename(file.with_name("kept.duckdb"))
    assert shell.json("sql", "SELECT COUNT(*) AS n FROM sessions")["rows"] == [{"n": 1}]


def test_a_damaged_file_is_called_so_and_what_to_do_depends_on_whether_sessions_are_archived_in_it(
    shell: Shell,
) -> None:
    archived(shell)
    file = shell.path.with_suffix(".duckdb")
    content = bytearray(file.read_bytes())
    content[12288 + 8 : 12288 + 4096] = bytes(4088)  # a part of the first block, which has a checksum
    file.write_bytes(content)
    failed = shell("sql", "SELECT COUNT(*) AS n FROM sessions")
    assert failed.exit_code == 12
    assert f"{file} is damaged (IO Error: Corrupt database file: " in failed.stderr
    assert "Restore it from a backup; or move it away, and the ledger fills a new one, unless" in failed.stderr
    code, findings = examined(shell)
    assert (code, findings["duckdb"]["status"]) == (1, "problem")
    assert findings["duckdb"]["remedy"].startswith("keep the file: 1 archived session may be in it alone")


def test_a_file_damaged_where_only_some_statements_read_says_the_same_and_the_doctor_says_why_rows_wait(
    shell: Shell,
) -> None:
    session_id = shell.ok("new", "How many orders?").strip()
    with SessionLedger(shell.path) as ledger:
        for number in range(200):
            ledger.add_message(session_id, "user", hashlib.sha512(b"%d" % number).hexdigest() * 40)
    shell.ok("sync")
    shell.ok("message", session_id, "user", "And this year?")
    file, seen = shell.path.with_suffix(".duckdb"), set()
    good = file.read_bytes()
    for block in range(12288, len(good), 262144):  # each has a checksum in front
        content = bytearray(good)
        content[block + 1000 : block + 1100] = b"x" * 100
        file.write_bytes(content)
        failed = shell("sync")
        if failed.exit_code == 0:  # a free block
            break
        assert (failed.exit_code, f"{file} is damaged (IO Error: Corrupt" in failed.stderr) == (12, True)
        code, findings = examined(shell)
        seen.add(findings["duckdb"]["status"])
        assert (code, findings["relay"]["status"]) == (1, "problem")
        assert "rows wait, since they could not be shipped" in findings["relay"]["detail"]
        assert "is damaged" in shell("status").stdout
    assert seen == {"ok", "problem"}


def test_a_failure_is_not_held_against_rows_that_were_recorded_after_it(shell: Shell) -> None:
    shell.ok("new", "How many orders?")
    shell.ok("sync")
    with SessionLedger(shell.path) as ledger:
        ledger.store.outbox(f"duckdb:///{shell.path.with_suffix('.duckdb')}").failed("away")
    shell.ok("new", "How many customers?")
    code, findings = examined(shell)
    assert (code, "relay" in findings) == (0, False)


def test_a_file_in_which_sessions_are_archived_is_not_to_be_deleted(shell: Shell) -> None:
    archived(shell)
    file = shell.path.with_suffix(".duckdb")
    assert examined(shell)[1]["duckdb"]["status"] == "ok"
    make_newer(file)
    code, findings = examined(shell)
    assert (code, findings["duckdb"]["status"]) == (1, "problem")
    assert findings["duckdb"]["remedy"].startswith("keep the file: 1 archived session may be in it alone")
    file.unlink()
    code, findings = examined(shell)
    assert (code, findings["duckdb"]["status"]) == (1, "problem")
    assert "does not exist, and has the rows of 1 archived session" in findings["duckdb"]["detail"]


def test_the_ledger_itself_is_no_warehouse(shell: Shell, tmp_path: Path) -> None:
    shell.ok("new", "How many orders?")
    link = tmp_path / "link.duckdb"
    link.symlink_to(shell.path)
    for named in (shell.path, link, Path(f"{shell.path}-wal")):
        code, findings = examined(shell, LEDGER_WAREHOUSE=f"duckdb:///{named}")
        assert (code, findings["duckdb"]["status"]) == (1, "problem")
        assert findings["duckdb"]["detail"] == f"{named} is the ledger itself; give the warehouse a file of its own."
        assert findings["duckdb"]["remedy"] == "give the warehouse a file of its own"


def test_a_ledger_named_like_its_warehouse_is_not_examined_as_one(tmp_path: Path) -> None:
    shell = Shell(tmp_path / "ledger.duckdb")
    shell.ok("init")
    code, findings = examined(shell)
    assert (code, findings["duckdb"]["status"]) == (0, "note")
    assert "set LEDGER_WAREHOUSE to another file" in findings["duckdb"]["remedy"]


def test_nothing_that_is_no_duckdb_file_is_to_be_moved_or_deleted(shell: Shell, tmp_path: Path) -> None:
    shell.ok("new", "How many orders?")
    other, folder, pipe = (tmp_path / name for name in ("other.db", "folder", "pipe"))
    Shell(other).ok("init")
    folder.mkdir()
    os.mkfifo(pipe)
    for named, what in (
        (other, "it is a SQLite database, perhaps a ledger"),
        (folder, "it is a directory"),
        (pipe, "it is a device or a pipe"),
    ):
        code, findings = examined(shell, LEDGER_WAREHOUSE=f"duckdb:///{named}")
        assert (code, findings["duckdb"]["status"]) == (1, "problem")
        assert findings["duckdb"]["detail"] == f"{named} is no DuckDB file: {what}"
        assert findings["duckdb"]["remedy"].startswith("correct the warehouse's URL")
        assert "delete" not in findings["duckdb"]["remedy"]


def test_a_file_whose_beginning_is_damaged_may_be_restored(shell: Shell) -> None:
    archived(shell)
    file = shell.path.with_suffix(".duckdb")
    file.write_bytes(b"x" * 4096 + file.read_bytes()[4096:])
    code, findings = examined(shell)
    assert (code, findings["duckdb"]["status"]) == (1, "problem")
    assert "or its beginning is damaged" in findings["duckdb"]["detail"]
    assert "if the URL is right, keep the file, and restore a backup of it" in findings["duckdb"]["remedy"]


def test_an_empty_file_may_be_removed_unless_sessions_are_archived_in_it(shell: Shell) -> None:
    file = shell.path.with_suffix(".duckdb")
    shell.ok("new", "How many orders?")
    file.touch()
    code, findings = examined(shell)
    assert (code, findings["duckdb"]["detail"]) == (0, "ledger.duckdb is empty")
    assert findings["duckdb"]["remedy"].startswith("it may be removed")
    file.unlink()
    archived(shell)
    file.write_bytes(b"")
    code, findings = examined(shell)
    assert (code, findings["duckdb"]["status"]) == (1, "problem")
    assert "is empty, and has the rows of 1 archived session" in findings["duckdb"]["detail"]


def test_a_file_of_another_user_names_its_owner(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.ok("new", "How many orders?")
    shell.ok("sync")
    file = shell.path.with_suffix(".duckdb")
    file.chmod(0o640)
    monkeypatch.setattr("ledger.cli.doctor.warehouses.os.access", lambda path, mode: path != file)
    owner = file.owner()
    code, findings = examined(shell)
    assert (code, findings["duckdb"]["status"]) == (1, "problem")
    assert findings["duckdb"]["detail"].endswith(
        f"not readable and writable; its owner is {owner}, group {file.group()}, mode 0640"
    )
    assert "chmod u+rw" in findings["duckdb"]["remedy"]
    monkeypatch.setattr("ledger.cli.doctor.warehouses.os.geteuid", lambda: 12345)
    _, findings = examined(shell)
    assert findings["duckdb"]["remedy"].startswith(f"ask {owner}, to whom the file belongs, for access")


def test_every_warehouse_that_has_rows_of_the_ledger_is_tried(shell: Shell, tmp_path: Path) -> None:
    shell.ok("new", "How many orders?")
    shell.ok("sync")
    warehouse = f"duckdb:///{tmp_path}/other.duckdb"
    code, findings = examined(shell, LEDGER_WAREHOUSE=warehouse)
    assert (code, findings["duckdb"]["detail"]) == (0, "other.duckdb does not exist")
    assert findings["also shipped to"]["status"] == "ok"
    shell.path.with_suffix(".duckdb").unlink()
    code, findings = examined(shell, "--warehouse", warehouse)
    assert (code, findings["also shipped to"]["status"]) == (1, "problem")
    assert "ledger.duckdb does not exist" in findings["also shipped to"]["detail"]
    _, findings = examined(shell, LEDGER_WAREHOUSE="duckdb:////nowhere/w.duckdb")
    assert findings["duckdb"]["detail"] == "there is no directory /nowhere"


def test_a_warehouse_in_bigquery_is_tried_too(shell: Shell, closed_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.ok("new", "How many orders?")
    silent = {
        "LEDGER_WAREHOUSE": "bigquery://my-project/ledger",
        "BIGQUERY_EMULATOR_HOST": f"127.0.0.1:{closed_port}",
        "BIGQUERY_EMULATOR_GRPC_HOST": f"127.0.0.1:{closed_port}",
    }
    code, findings = examined(shell, **silent)
    assert (code, findings["warehouse emulator"]["status"]) == (1, "problem")
    assert "nothing answers at" in findings["warehouse emulator"]["detail"]
