"""Every block of the README and of docs/bigquery.md runs, and prints what it says it prints."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = (README, ROOT / "docs" / "bigquery.md")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: A comment behind a print, or on a line of its own, is what is printed.
SAYS = re.compile(r"(?:^|^ *print\(.*\)  )# (.*)$")
CHANGING = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[\d,]+(?= bytes)")


def blocks() -> list[tuple[str, str]]:
    return [block for page in PAGES for block in BLOCK.findall(page.read_text(encoding="utf-8"))]


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


def check_commands(texts: list[str], folder: Path, **settings: str) -> None:
    """Run the commands of console blocks in one shell, and compare what they print with what stands below them."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {"PATH": path, "HOME": str(folder), "COLUMNS": "120", "LC_ALL": "C.UTF-8", **settings}
    script, said = ["set -euo pipefail"], []
    for line in (line for text in texts for line in text.splitlines()):
        if line.startswith("$ "):
            script.append(line[2:])
        else:
            said.append(line)
    ran = subprocess.run(
        ["bash", "-c", "\n".join(script)], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert [CHANGING.sub("ID", line.rstrip()) for line in ran.stdout.splitlines()] == [
        CHANGING.sub("ID", line) for line in said
    ]


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
