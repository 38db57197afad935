"""The doctor opens the warehouses that a ledger in a file ships to, and says what may be deleted."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

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
    assert "cannot be opened as a DuckDB file" in findings["duckdb"]["detail"]
    assert "or delete the file: `ledger sql` creates" in findings["duckdb"]["remedy"]


def test_a_file_of_a_newer_duckdb_may_be_deleted_and_is_filled_again(shell: Shell) -> None:
    shell.ok("new", "How many orders?")
    shell.ok("sync")
    file = shell.path.with_suffix(".duckdb")
    make_newer(file)
    failed = shell("sql", "SELECT COUNT(*) AS n FROM sessions")
    assert failed.exit_code == 12
    assert "was written by a newer DuckDB than the " in failed.stderr
    assert (
        "or delete the file, which the ledger fills again, unless sessions are archived in it: `ledger doctor` says"
        in (failed.stderr)
    )
    code, findings = examined(shell)
    assert (code, findings["duckdb"]["status"]) == (1, "problem")
    assert "or delete the file" in findings["duckdb"]["remedy"]
    file.unlink()
    assert shell.json("sql", "SELECT COUNT(*) AS n FROM sessions")["rows"] == [{"n": 1}]


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
