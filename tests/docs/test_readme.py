"""Every block of the README, docs/bigquery.md and docs/python.md runs, and prints what it says it prints."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import pytest

from support.consoles import blocks_of, check_commands

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = (README, ROOT / "docs" / "bigquery.md", ROOT / "docs" / "python.md")
#: A comment behind a print, or on a line of its own, is what is printed.
SAYS = re.compile(r"(?:^|^ *print\(.*\)  )# (.*)$")


def blocks() -> list[tuple[str, str]]:
    return [block for page in PAGES for block in blocks_of(page)]


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("readme")


def test_every_block_is_of_a_kind_that_is_run() -> None:
    assert {kind for kind, _ in blocks()} == {"python", "console"}


def test_a_result_stands_within_the_first_fifteen_lines() -> None:
    top = README.read_text(encoding="utf-8").splitlines()[:15]
    assert any("# 1,217 orders a week on average" in line for line in top)


def test_the_python_blocks_print_what_their_comments_say(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(elsewhere)
    names: dict[str, Any] = {}
    for source in (text for kind, text in blocks() if kind == "python"):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(source, str(README), "exec"), names)  # noqa: S102 - our own README
        said = [match.group(1) for line in source.splitlines() if (match := SAYS.search(line))]
        assert printed.getvalue().splitlines() == said


def consoles(*, bigquery: bool) -> list[str]:
    return [text for kind, text in blocks() if kind == "console" and ("bigquery://" in text) == bigquery]


def test_the_commands_print_what_stands_below_them(elsewhere: Path) -> None:
    check_commands(consoles(bigquery=False), elsewhere)


def test_the_commands_over_bigquery_print_what_stands_below_them(elsewhere: Path, emulator: Any) -> None:
    check_commands(
        consoles(bigquery=True),
        elsewhere,
        BIGQUERY_EMULATOR_HOST=emulator.rest,
        BIGQUERY_EMULATOR_GRPC_HOST=emulator.grpc,
    )
    emulator.client.delete_dataset("agents", delete_contents=True)
