"""The generated files of the dbt package: they are those of the headers, and their SQL is GoogleSQL."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest

from ledger.warehouse import catalog
from ledger.warehouse.schema import SchemaObject
from support.googlesql import GoogleSql
from support.modules import module

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "integrations" / "dbt"
#: All but those without created_at, of which a model would read all days, or which are no sessions'.
VIEWS = [
    item.name
    for item in catalog.objects()
    if item.kind == "view" and item.name not in ("agent_events", "model_price_periods")
]


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    return module(ROOT / "tools" / "dbt_package.py")


@pytest.fixture(scope="module")
def analyzer() -> GoogleSql:
    google = GoogleSql()
    for item in catalog.objects():
        if item.kind != "function":
            google.create(item)
    return google


def rendered(text: str) -> str:
    """A model as dbt renders it, in a dataset of unqualified names."""
    text = re.sub(r"\{\{ source\('session_ledger', '(\w+)'\) \}\}", r"\1", text)
    text = text.replace('{{ var("session_ledger_since") }}', "2026-03-01")
    assert "{{" not in text
    return text


def test_the_files_are_those_that_make_docs_generates(generator):
    expected = generator.files()
    assert {path for path in generator.FOLDER.rglob("*.*") if path.is_file()} == set(expected)
    for path, text in expected.items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is out of date: run make docs"


@pytest.mark.parametrize("view", VIEWS)
def test_googles_analyzer_resolves_the_staging_model_of_each_view_with_all_its_columns(view, generator, analyzer):
    text = (generator.FOLDER / "staging" / f"{generator.model(view)}.sql").read_text(encoding="utf-8")
    columns = analyzer.analyze(rendered(text)).output_column_list
    assert [column.name for column in columns] == [
        column.name for column in analyzer.analyze(f"SELECT * FROM {view}").output_column_list
    ]


def test_googles_analyzer_resolves_the_test_of_a_grain(analyzer):
    text = (PACKAGE / "macros" / "unique_combination_of_columns.sql").read_text(encoding="utf-8")
    text = text.split("%}", 1)[1].split("{% endtest", 1)[0]
    text = text.replace('{{ columns | join(",\\n  ") }}', "session_id, message_id").replace("{{ model }}", "messages")
    assert "{{" not in text
    assert analyzer.analyze(text) is not None


def test_a_grain_that_does_not_name_columns_is_refused(generator):
    for grain in ("one row.", "(session_id, no_such_column)."):
        with pytest.raises(ValueError, match="must name its columns"):
            generator.grains(SchemaObject("view", "made_up", "", grain, ()))
