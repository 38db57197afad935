"""The types of the SDK: mypy knows the type of each result, and finds a misspelt name, in the classes of both kinds."""

from __future__ import annotations

import asyncio
import inspect
import io
import pydoc
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ledger
from support.modules import module

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(__file__).parent / "typed"


def test_mypy_knows_every_result_and_finds_every_mistake() -> None:
    """The configuration is the project's, so that the cache of ``make check`` serves here."""
    command = [sys.executable, "-m", "mypy", "--no-error-summary", "--no-pretty", "--hide-error-context", str(PROGRAMS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    found = set(re.findall(r"(\w+)\.py:(\d+): error: .*\[([a-z-]+)\]$", done.stdout, re.MULTILINE))
    mistakes = (PROGRAMS / "mistakes.py").read_text("utf-8").splitlines()
    expected = {
        ("mistakes", str(number), match[1])
        for number, line in enumerate(mistakes, 1)
        if (match := re.search(r"# error: (\S+)$", line))
    }
    assert expected
    assert (found, done.stderr) == (expected, ""), done.stdout


@pytest.mark.parametrize(
    ("program", "main"),
    [("sync_program", "main"), ("async_program", "main"), ("user_view", "main"), ("user_view", "asynchronous_main")],
)
def test_the_programs_run(program: str, main: str, tmp_path: Path) -> None:
    call = getattr(module(PROGRAMS / f"{program}.py"), main)
    result = call(f"sqlite:///{tmp_path}/l.db")
    if inspect.iscoroutine(result):
        asyncio.run(result)


def test_the_types_of_the_asynchronous_ledger_are_those_of_the_classes_that_it_runs_in_threads() -> None:
    generator = module(ROOT / "tools" / "aio_methods.py")
    assert generator.PATH.read_text("utf-8") == generator.generate(), "run `make docs`"


@pytest.mark.parametrize("name", ["SessionLedger", "AsyncSessionLedger", "Session", "Message", "Page", "Change"])
def test_help_shows_signatures_that_can_be_read(name: str) -> None:
    shown = io.StringIO()
    pydoc.Helper(output=shown).help(getattr(ledger, name))
    text = re.sub(".\b", "", shown.getvalue())
    assert "<object object" not in text
    assert "(*args, **named)" not in text
    if name.endswith("SessionLedger"):
        words = " ".join(text.replace("|", " ").split())  # a signature has a line for each parameter in some releases
        assert re.search(
            r"create_session\( ?self, user_id: 'str None' = None, question: 'str None' = None, \*, ", words
        )
        assert "ttl: 'timedelta None' = UNSET" in words
        assert {"create_session", "add_message", "for_user", "warehouse"} <= set(dir(getattr(ledger, name)))
