"""The files of sql/: their form, the order they are created in, and that Google's analyzer resolves each of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ledger.errors import ConfigurationError
from ledger.warehouse import catalog
from support.googlesql import ALLOWED, GoogleSql

ROOT = Path(__file__).resolve().parents[2]
OBJECTS = {item.name: item for item in catalog.objects()}
HEADER = ("Grain", "Inputs", "Cost", "Twin", "Test")
named = pytest.mark.parametrize("name", OBJECTS)


@pytest.fixture(scope="module")
def analyzer() -> GoogleSql:
    google = GoogleSql()
    for item in OBJECTS.values():
        if item.name not in ALLOWED and item.kind != "function":
            google.create(item)
    return google


def header_of(name: str) -> dict[str, str]:
    comment = OBJECTS[name].source.split("CREATE ", 1)[0]
    return dict(re.findall(r"^-- ([A-Z]\w+): +(.+(?:\n--  +.+)*)", comment, re.MULTILINE))


@named
def test_the_header_names_the_purpose_and_the_five_facts(name):
    source = OBJECTS[name].source
    assert re.match(rf"-- {name}: [^\n]+\.\n--\n", source), "the first line says what the object is for"
    assert tuple(header_of(name)) == HEADER


@named
def test_the_twin_and_the_test_are_there(name):
    facts = header_of(name)
    paths = re.findall(r"[\w/]+\.py", facts["Twin"] + facts["Test"])
    assert len(paths) >= 2
    assert [path for path in paths if not (ROOT / path).is_file()] == []


@named
def test_only_the_names_of_the_ledgers_objects_are_substituted(name):
    bound = catalog.bind(OBJECTS[name].source, "my-project", "my_dataset")
    assert "${" not in bound
    assert f"`my-project.my_dataset.{name}`" in bound


@named
def test_googles_analyzer_resolves_it(name, analyzer):
    if name not in ALLOWED:
        assert analyzer.analyze(catalog.bind(OBJECTS[name].source)) is not None


def test_the_analyzer_refuses_what_does_not_resolve(analyzer):
    with pytest.raises(Exception, match="no_such_column"):
        analyzer.analyze("SELECT no_such_column FROM sessions")


def test_the_columns_of_the_table_are_described(analyzer):
    for item in OBJECTS.values():
        if item.kind == "table":
            columns = analyzer.analyze(catalog.bind(item.source)).column_definition_list
            described = [column for column in columns if column.annotations.option_list]
            assert len(described) == len(columns)


def test_everything_comes_after_what_it_reads():
    created: set[str] = set()
    for item in catalog.objects():
        assert item.references <= created, item.name
        created.add(item.name)
    assert {"session_events", "sessions", "session_state"} <= created


def write(folder: Path, kind: str, name: str, sql: str) -> None:
    (folder / kind).mkdir(exist_ok=True)
    (folder / kind / f"{name}.sql").write_text(sql, encoding="utf-8")


def view(name: str, reads: str) -> str:
    dataset = "${project}.${dataset}"
    return f"CREATE OR REPLACE VIEW `{dataset}.{name}` AS SELECT 1 AS one FROM `{dataset}.{reads}`;"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a": view("b", "a")}, "must create the view a"),
        ({"a": view("a", "missing")}, "reads missing"),
        ({"a": view("a", "b"), "b": view("b", "a")}, "in a circle"),
    ],
)
def test_files_that_do_not_fit_together_are_refused(tmp_path, files, message):
    for name, sql in files.items():
        write(tmp_path, "views", name, sql)
    with pytest.raises(ConfigurationError, match=message):
        catalog.load(tmp_path)


@pytest.mark.parametrize(
    ("project", "dataset"),
    [("p`; DROP", "d"), ("my-project", "d`.x"), ("My-Project", "d"), ("my-project", "a-b"), ("", "d")],
)
def test_names_that_are_no_identifiers_are_not_put_into_sql(project, dataset):
    with pytest.raises(ConfigurationError, match="is no"):
        catalog.bind("SELECT 1 FROM `${project}.${dataset}.sessions`", project, dataset)
