"""The recipes of docs/sql-recipes.md answer what stands below them, over the sessions of the page."""

from __future__ import annotations

import shutil
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ledger import InvalidInput, SessionLedger
from support.bigquery_stores import Datasets, environment
from support.consoles import blocks_of, environment_in

if TYPE_CHECKING:
    from support.emulator import Emulator

PAGE = Path(__file__).parents[2] / "docs" / "sql-recipes.md"
pytestmark = pytest.mark.duckdb


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the page's program has recorded its sessions."""
    folder = tmp_path_factory.mktemp("recipes")
    (program,) = (text for kind, text in blocks_of(PAGE) if kind == "python")
    subprocess.run(["python", "-c", program], cwd=folder, env=environment_in(folder), check=True)
    return folder


def test_each_statement_is_followed_by_its_answer() -> None:
    kinds = [kind for kind, _ in blocks_of(PAGE)]
    assert kinds == ["sql", "text"] * 10 + ["python"]


def test_the_answers_are_those_of_the_page(folder: Path) -> None:
    for (kind, statement), (_, answer) in pairwise(blocks_of(PAGE)):
        if kind == "sql":
            done = subprocess.run(
                ["ledger", "sql", statement],
                cwd=folder,
                env=environment_in(folder, LEDGER_URL="sqlite:///recipes.db"),
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            assert [line.rstrip() for line in done.stdout.splitlines()] == answer.splitlines(), statement


def test_the_statements_of_the_page_on_analytics_run(folder: Path) -> None:
    statements = [text for kind, text in blocks_of(PAGE.with_name("analytics.md")) if kind == "sql"]
    with SessionLedger.open(f"sqlite:///{folder}/recipes.db") as ledger:
        tools, sessions = map(ledger.sql, statements)
    assert tools.rows == [("sql", 5, 1, 3)]
    assert sessions.rows == []  # none was created on that day


@pytest.mark.parametrize("number", [0, 1])
def test_the_programs_of_the_page_on_analytics_print_what_they_say(folder: Path, number: int) -> None:
    programs = [text for kind, text in blocks_of(PAGE.with_name("analytics.md")) if kind == "python"]
    assert len(programs) == 2
    program = programs[number]
    done = subprocess.run(
        ["python", "-c", program], cwd=folder, env=environment_in(folder), capture_output=True, text=True, check=True
    )
    said = [line.partition("# ")[2] for line in program.splitlines() if "# " in line]
    assert done.stdout.splitlines() == [*said[:-1], *said[-1].split(", ")]


def test_a_fork_and_a_rewind_change_neither_what_was_spent_nor_how_tools_failed(folder: Path, tmp_path: Path) -> None:
    counting = {"FROM scores", "FROM queries", "item_type = 'tool_call'", "item_type = 'model_call'"}
    statements = [text for kind, text in blocks_of(PAGE) if kind == "sql" and any(each in text for each in counting)]
    assert len(statements) == len(counting)
    shutil.copy(folder / "recipes.db", tmp_path / "l.db")
    with SessionLedger.open(f"sqlite:///{tmp_path / 'l.db'}") as ledger:
        before = [ledger.sql(statement).rows for statement in statements]
        fork = ledger.fork_session("s2")
        assert [ledger.sql(statement).rows for statement in statements] == before
        ledger.rewind("s1", to_version=3)
        ledger.rewind(fork, to_version=1)
        spent = [statement for statement in statements if "session_items" in statement]
        assert [ledger.sql(each).rows for each in spent] == [
            rows for statement, rows in zip(statements, before, strict=True) if statement in spent
        ]


def test_the_statements_of_the_pages_run_on_bigquery(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment(emulator).items():
        monkeypatch.setenv(name, value)
    pages = (PAGE, PAGE.with_name("analytics.md"))
    statements = [text for page in pages for kind, text in blocks_of(page) if kind == "sql"]
    with Datasets(emulator, "recipes").emptied("main") as place, SessionLedger.open(place.url) as ledger:
        assert [ledger.sql(statement).rows for statement in statements] == [[]] * 12


@pytest.mark.parametrize("statement", ["SELECT * FROM attributes", "SELECT * FROM tag", "SELECT tags FROM sessions"])
def test_a_field_without_a_view_or_column_is_named_with_where_it_is(statement: str, folder: Path) -> None:
    field = "attribute" if "attribute" in statement else "tag"
    with (
        SessionLedger.open(f"sqlite:///{folder}/recipes.db") as ledger,
        pytest.raises(InvalidInput, match=f"are rows of session_fields, with field = '{field}'; docs/sql-recipes"),
    ):
        ledger.sql(statement)
