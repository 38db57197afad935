"""The commands of docs/security.md run, and its statements and the roles in its table are those that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ledger.warehouse import catalog
from ledger.warehouse.bigquery.security import READERS
from support.consoles import BLOCK, check_commands
from support.googlesql import GoogleSql

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "security.md"
#: Also those of steps, which are indented.
BLOCKS = BLOCK.findall(re.sub(r"^   (?=\S|  )", "", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE))
STATEMENTS = [text for kind, text in BLOCKS if kind == "sql"]


def test_the_commands_print_what_stands_below_them(tmp_path: Path) -> None:
    check_commands([text for kind, text in BLOCKS if kind == "console"], tmp_path)
    (command,) = (text.replace("\\\n", "") for kind, text in BLOCKS if kind == "text")
    check_commands([f"$ {command.strip()} | grep -c 'CREATE OR REPLACE ROW ACCESS POLICY'\n8\n"], tmp_path)
    assert {kind for kind, _ in BLOCKS} == {"console", "sql", "text"}


@pytest.mark.parametrize("text", STATEMENTS, ids=lambda text: text.split("`")[0].strip())
def test_googles_analyzer_resolves_the_statements(text: str) -> None:
    google = GoogleSql()
    for item in catalog.objects():
        if item.kind == "table":
            google.create(item)
    source = (catalog.sql_folder() / "security" / f"{READERS}.sql").read_text(encoding="utf-8")
    google.create(catalog.SqlObject("table", READERS, source, frozenset()))
    assert len(STATEMENTS) == 3
    assert google.analyze(text.replace("my-project.agents.", "")) is not None


def test_the_roles_are_those_of_the_page_on_bigquery() -> None:
    roles = set(re.findall(r"roles/bigquery\.\w+", PAGE.read_text(encoding="utf-8")))
    known = set(re.findall(r"roles/bigquery\.\w+", (ROOT / "docs" / "bigquery.md").read_text(encoding="utf-8")))
    assert roles - known == {"roles/bigquery.filteredDataViewer"}, "the system's own, which nobody grants"
