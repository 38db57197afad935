"""Every block of the README and of the pages of docs runs, and prints what it says it prints."""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ledger import SessionLedger
from support.consoles import blocks_of, check_commands

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
#: The blocks of docs/operations.md and docs/seals.md have tests of their own.
PAGES = [
    README,
    *(ROOT / "docs" / f"{name}.md" for name in ("python", "shipping", "coming-from", "bigquery")),
]
#: A comment behind a print, or on a line of its own, is what is printed.
SAYS = re.compile(r"(?:^|^ *print\(.*\)  | {4}) *# (.*)$")
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def texts(page: Path, kind: str) -> list[str]:
    return [text for found, text in blocks_of(page) if found == kind]


def consoles(page: Path, *, bigquery: bool) -> list[str]:
    return [text for text in texts(page, "console") if ("bigquery://" in text) == bigquery]


@each_page
def test_every_block_is_of_a_kind_that_is_run(page: Path) -> None:
    assert {kind for kind, _ in blocks_of(page)} <= {"python", "console"}


def test_the_readme_is_read_in_minutes_and_has_a_result_within_its_first_fifteen_lines() -> None:
    lines = README.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 200
    assert any("# 1,217 orders a week on average" in line for line in lines[:15])


@pytest.mark.parametrize("page", [README, *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda page: page.stem)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
        assert "://" in target or (page.parent / target).exists(), target


def test_the_page_on_python_names_every_public_method() -> None:
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    public = [name for name in dir(SessionLedger) if not name.startswith("_")]
    assert [name for name in public if not re.search(rf"\b{name}\b", page)] == []


@each_page
def test_the_python_blocks_print_what_their_comments_say(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "page"}
    for source in texts(page, "python"):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(source, str(page), "exec"), names)  # noqa: S102 - our own pages
        said = [match.group(1) for line in source.splitlines() if (match := SAYS.search(line))]
        assert printed.getvalue().splitlines() == said


def test_the_python_blocks_and_the_examples_pass_a_strict_type_checker(tmp_path: Path) -> None:
    """The configuration is the project's, so that the cache of ``make check`` serves here."""
    checked = sorted((ROOT / "examples").glob("*.py"))
    for page in PAGES:
        if source := "".join(texts(page, "python")):
            checked.append(tmp_path / f"page_{page.stem.replace('-', '_')}.py")
            checked[-1].write_text(source, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", "--no-pretty", *map(str, checked)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert f"no issues found in {len(checked)} source files" in done.stdout
    assert len(checked) > 6


@each_page
def test_the_commands_print_what_stands_below_them(page: Path, tmp_path: Path) -> None:
    check_commands(consoles(page, bigquery=False), tmp_path)


def test_the_commands_over_bigquery_print_what_stands_below_them(tmp_path: Path, emulator: Any) -> None:
    check_commands(
        consoles(ROOT / "docs" / "bigquery.md", bigquery=True),
        tmp_path,
        BIGQUERY_EMULATOR_HOST=emulator.rest,
        BIGQUERY_EMULATOR_GRPC_HOST=emulator.grpc,
    )
    emulator.client.delete_dataset("agents", delete_contents=True)
