"""The tables of docs/coming-from name tests that there are, and every test of a seed is named there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: Page to the modules whose every test it names, and to those of which it names some.
PAGES: dict[str, tuple[list[str], list[str]]] = {
    "seed0.md": (
        [],
        [
            *("tests/sdk/test_ledger.py", "tests/sdk/test_envelopes.py", "tests/cli/test_scripts.py"),
            *("tests/formats/test_sessions_table*.py", "tests/warehouse/test_bigquery_table*.py"),
            "tests/cli/test_bigquery.py",
        ],
    ),
    "seed1.md": (
        ["tests/compat/test_seed1_*.py"],
        [
            *("tests/compat/test_importing.py", "tests/compat/test_importing_cli.py", "tests/sdk/test_lifecycle.py"),
            *("tests/sdk/test_begin_once.py", "tests/sdk/test_subscriptions.py", "tests/formats/test_events.py"),
        ],
    ),
    "seed2.md": (
        ["tests/compat/test_seed2_*.py"],
        [
            *("tests/compat/test_importing.py", "tests/compat/test_importing_chats.py"),
            *("tests/compat/test_importing_cli.py", "tests/stores/test_views.py"),
        ],
    ),
    "seed3.md": (
        ["tests/compat/test_seed3_*.py"],
        ["tests/compat/test_importing_services.py", "tests/compat/test_importing_cli.py"],
    ),
    "seed4.md": (
        ["tests/compat/test_seed4_*.py"],
        ["tests/compat/test_importing_services.py", "tests/compat/test_importing_cli.py"],
    ),
}


def defined_in(modules: list[str]) -> set[str]:
    sources = [path.read_text(encoding="utf-8") for module in modules for path in ROOT.glob(module)]
    return {name for source in sources for name in re.findall(r"^def (test_\w+)", source, re.MULTILINE)}


def rows_of(page: str) -> list[str]:
    lines = (ROOT / "docs" / "coming-from" / page).read_text(encoding="utf-8").splitlines()
    return [line.removesuffix("|").strip() for line in lines if re.match(r"\| (?!Documented)[^-]", line)]


def named_in(page: str) -> set[str]:
    return {name for row in rows_of(page) for name in re.findall(r"`(test_\w+)`", row.rpartition(" | ")[2])}


@pytest.mark.parametrize("page", PAGES)
def test_a_page_names_tests_that_there_are_and_every_test_of_its_seed(page: str) -> None:
    whole, some = PAGES[page]
    assert named_in(page) <= defined_in([*whole, *some])
    assert defined_in(whole) <= named_in(page)


@pytest.mark.parametrize("page", PAGES)
def test_every_row_has_a_test_or_is_to_come(page: str) -> None:
    rows = rows_of(page)
    assert rows
    held = re.compile(r"`test_\w+`|the same|\(a warning\)")
    assert not [row for row in rows if not held.search(row.rpartition(" | ")[2]) and "to come" not in row]


def test_every_test_of_the_importers_is_named() -> None:
    named = set().union(*map(named_in, PAGES))
    assert defined_in(["tests/compat/test_importing_services.py"]) <= named


def test_the_front_page_leads_to_every_page() -> None:
    front = (ROOT / "docs" / "coming-from.md").read_text(encoding="utf-8")
    pages = {path.name for path in (ROOT / "docs" / "coming-from").iterdir()}
    assert set(re.findall(r"\(coming-from/(\w+\.md)\)", front)) == pages == set(PAGES)
