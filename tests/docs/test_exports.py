"""The page on exports: its commands and programs print what it says, and BigQuery takes its statements."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import pytest
from zetasql.api import Parser
from zetasql.types import LanguageOptions

from support.consoles import blocks_of, check_commands
from support.googlesql import keep_compiled

PAGE = Path(__file__).parents[2] / "docs" / "exports.md"


def test_the_commands_and_then_the_programs_print_what_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {kind for kind, _ in blocks_of(PAGE)} == {"console", "python", "sql"}
    check_commands([text for kind, text in blocks_of(PAGE) if kind == "console"], tmp_path)
    monkeypatch.chdir(tmp_path)
    for source in (text for kind, text in blocks_of(PAGE) if kind == "python"):
        printed = io.StringIO()
        names: dict[str, Any] = {"__name__": "page"}
        with contextlib.redirect_stdout(printed):
            exec(compile(source, str(PAGE), "exec"), names)  # noqa: S102 - our own page
        said = [line.partition("  # ")[2] for line in source.splitlines() if "  # " in line]
        assert printed.getvalue().splitlines() == said


def test_the_statements_are_googlesql() -> None:
    keep_compiled()
    parser = Parser(LanguageOptions.maximum_features())
    statements = [text for kind, text in blocks_of(PAGE) if kind == "sql"]
    kinds = [type(parser.parse_statement(text)).__name__ for text in statements]
    assert kinds == ["ASTCreateExternalTableStatement", "ASTCreateViewStatement"]
