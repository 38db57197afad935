"""The tables of docs/coming-from name tests that there are, and every test of a seed is named there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = {"seed3.md": "test_seed3_conversations.py", "seed4.md": "test_seed4_analysis_sessions.py"}
IMPORTING = "test_importing_services.py"


def defined_in(name: str) -> set[str]:
    source = (ROOT / "tests" / "compat" / name).read_text(encoding="utf-8")
    return set(re.findall(r"^def (test_\w+)", source, re.MULTILINE))


def named_in(page: str) -> set[str]:
    lines = (ROOT / "docs" / "coming-from" / page).read_text(encoding="utf-8").splitlines()
    return {name for line in lines for name in re.findall(r"`(test_\w+)`", line.rpartition(" | ")[2])}


@pytest.mark.parametrize(("page", "module"), PAGES.items())
def test_the_table_of_a_seed_names_its_tests(page: str, module: str) -> None:
    assert named_in(page) <= defined_in(module) | defined_in(IMPORTING)
    assert defined_in(module) <= named_in(page)


def test_every_test_of_the_importers_is_named() -> None:
    assert defined_in(IMPORTING) == defined_in(IMPORTING) & {name for page in PAGES for name in named_in(page)}
