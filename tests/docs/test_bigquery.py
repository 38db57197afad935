"""The tests that docs/bigquery.md names are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "bigquery.md").read_text()
SECTIONS = re.findall(r"^#+ (.+)$", PAGE, re.MULTILINE)


def test_every_test_that_the_page_names_exists():
    named = re.findall(r"`(tests/[\w/.]+)::(\w+)`", PAGE)
    assert len(named) > 10
    for path, name in named:
        tree = ast.parse((ROOT / path).read_text())
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, (path, name)


def test_every_section_that_the_page_names_exists():
    rows = [line for line in PAGE.splitlines() if re.match(r"\| \d+ \|", line)]
    assert [int(line.split("|")[1]) for line in rows] == [number for number in range(1, 31) if number != 22]
    for line in rows:
        for section in re.findall(r'"([A-Z][\w ]+)"', line):
            assert section in SECTIONS, section
