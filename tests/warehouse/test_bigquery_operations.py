"""Messages say what a statement does in plain words, for each operation, and know which operations write."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import ledger
from ledger.warehouse import catalog
from ledger.warehouse.bigquery.operations import OPERATIONS, operation_of

STATEMENTS = {
    path.stem: path.read_text(encoding="utf-8")
    for folder in ("statements", "scheduled")
    for path in (catalog.sql_folder() / folder).glob("*.sql")
}
#: Operations of the DuckDB file, where jobs have no labels.
ELSEWHERE = {"relay_batches"}


def labels() -> set[str]:
    """The labels that the package names where it runs a statement."""
    found = set()
    for path in Path(ledger.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            named = [it.value for it in node.keywords if it.arg == "operation"]
            if isinstance(node.func, ast.Attribute) and node.func.attr in (
                "ask",
                "estimate",
                "dry_run",
                "change",
                "run_scheduled",
            ):
                named += node.args[:1]
            if isinstance(node.func, ast.Attribute) and node.func.attr == "run" and len(node.args) > 1:
                named += node.args[:1]
            found |= {it.value for it in named if isinstance(it, ast.Constant) and isinstance(it.value, str)}
    return found - ELSEWHERE


def test_every_operation_has_words_and_every_words_an_operation() -> None:
    assert set(OPERATIONS) == labels() | STATEMENTS.keys() | {"query"}
    assert [doing for doing, _ in OPERATIONS.values() if "_" in doing] == []
    assert operation_of("one_more").doing == "The statement one_more"


def test_a_statement_that_changes_rows_is_known_to_write() -> None:
    changes = re.compile(r"^\s*(INSERT|DELETE|UPDATE|MERGE)\b", re.MULTILINE)
    for name, sql in STATEMENTS.items():
        assert OPERATIONS[name].writes == bool(changes.search(sql)), name
