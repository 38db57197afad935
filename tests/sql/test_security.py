"""The files of sql/security/: their form, and that Google's analyzer resolves what is made of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ledger.errors import ConfigurationError
from ledger.warehouse import catalog
from ledger.warehouse.bigquery.security import Access, statements
from ledger.warehouse.schema import table_columns
from support.googlesql import GoogleSql

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "sql" / "security").glob("*.sql")}
RELAY = "serviceAccount:relay@my-project.iam.gserviceaccount.com"
ANALYSTS = ("group:analysts@example.com", "domain:example.com")
ALL = Access((RELAY,), ANALYSTS, "team")
named = pytest.mark.parametrize("name", SOURCES)


@pytest.fixture(scope="module")
def analyzer() -> GoogleSql:
    google = GoogleSql()
    for item in catalog.objects():
        google.create(item)
    return google


def texts(access: Access, location: str | None = None) -> list[str]:
    return list(statements("my-project", "agents", access, location))


@named
def test_the_header_names_the_purpose_the_inputs_the_cost_and_the_test(name):
    source = SOURCES[name]
    assert re.match(rf"-- {name}: [^\n]+\.\n--\n", source)
    facts = dict(re.findall(r"^-- ([A-Z]\w+): +(.+(?:\n--  +.+)*)", source.split("CREATE ", 1)[0], re.MULTILINE))
    assert tuple(facts)[-4:] == ("Inputs", "Cost", "Twin", "Test")
    for path in re.findall(r"[\w/]+\.(?:py|md)", facts["Twin"] + facts["Test"]):
        assert (ROOT / path).is_file(), path


def test_every_file_is_used_if_its_table_is(monkeypatch):
    used = "".join(texts(ALL))
    for name, source in SOURCES.items():
        code = source.split("CREATE ", 1)[1].split("`${", 1)[0]
        assert code in used or name == "shared_rows", name  # no view reads a table without users yet
    assert "${" not in used


def test_googles_analyzer_resolves_the_policies_and_the_table_of_readers(analyzer):
    table, *policies = texts(Access((RELAY,), ANALYSTS))
    plain = [text.replace("my-project.agents.", "") for text in (table, *policies)]
    google = GoogleSql()
    google.create(catalog.SqlObject("table", "session_readers", SOURCES["session_readers"], frozenset()))
    for item in catalog.objects():
        if item.kind == "table":
            google.create(item)
    kinds = [type(google.analyze(text)).__name__ for text in plain]
    assert kinds[:1] == ["ResolvedCreateTableStmt"]
    assert set(kinds[1:]) == {"ResolvedCreateRowAccessPolicyStmt"}


def test_all_tables_with_users_have_full_access_before_any_has_readers():
    table, *policies = texts(Access((RELAY,), ANALYSTS))
    tables = re.findall(r"ON `my-project\.agents\.(\w+)`", "".join(policies))
    assert "CREATE TABLE IF NOT EXISTS `my-project.agents.session_readers`" in table
    assert tables[: len(tables) // 2] == tables[len(tables) // 2 :]
    assert {"session_events", "session_heads", "session_index"} <= set(tables)
    assert [RELAY in text for text in policies] == [True] * (len(tables) // 2) + [False] * (len(tables) // 2)
    assert all("'group:analysts@example.com', 'domain:example.com'" in text for text in policies[len(tables) // 2 :])


def test_nothing_is_granted_by_default():
    (only,) = texts(Access())
    assert "session_readers" in only
    assert "GRANT" not in only


def test_the_views_read_the_readers_rows_and_no_row_of_other_users():
    made = texts(Access(views="team"), "EU")
    assert "CREATE SCHEMA IF NOT EXISTS `my-project.team` OPTIONS (location = 'EU');\n" in made
    authorized = {}
    for text in made[1:-1]:
        created = re.search(r"CREATE OR REPLACE (?:VIEW|TABLE FUNCTION) `my-project\.team\.(\w+)`", text)
        if created is not None and "`my-project.agents." in text:
            authorized[created[1]] = "WHERE reader = SESSION_USER()" in text
    assert authorized == {name: "user_id" in columns_of(name) for name in authorized}
    assert authorized["session_events"] is True
    names = ", ".join(f"my-project.team.{name}" for name in authorized)
    assert made[-1] == f"-- Then authorize these views in the dataset my-project.agents: {names}\n"
    found = re.findall(r"CREATE OR REPLACE (?:VIEW|TABLE FUNCTION) `my-project\.team\.(\w+)`", "".join(made))
    assert set(found) == {item.name for item in catalog.objects() if item.kind != "table"} | set(authorized)


def columns_of(table: str) -> set[str]:
    return {column.name for column in table_columns(catalog.named(table))}


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"readers": ("group:analysts@example.com",)}, "nobody with full access"),
        ({"full_access": ("ana@example.com",)}, "is not a member"),
        ({"full_access": ("allUsers",)}, "is not a member"),
        ({"full_access": ("allAuthenticatedUsers",)}, "is not a member"),
        ({"full_access": ("user:ana@example.com') FILTER USING (TRUE); --",)}, "is not a member"),
        ({"full_access": ("user:ana@example.com\n",)}, "is not a member"),
        ({"full_access": ("",)}, "is not a member"),
        ({"views": "agents"}, "one of their own"),
        ({"views": "AGENTS"}, "one of their own"),
        ({"views": "a`b"}, "is not a dataset id"),
        ({"views": ""}, "is not a dataset id"),
    ],
)
def test_what_cannot_be_is_refused(given, why):
    with pytest.raises(ConfigurationError, match=why):
        texts(Access(**given))


@pytest.mark.parametrize(
    "member",
    [
        "user:ana@example.com",
        RELAY,
        "group:all-analysts@example.com",
        "domain:example.com",
        "principal://iam.googleapis.com/locations/global/workforcePools/pool/subject/ana@example.com",
        "principalSet://iam.googleapis.com/locations/global/workforcePools/pool/group/analysts",
    ],
)
def test_the_members_that_bigquery_knows_are_taken(member):
    assert f"GRANT TO ('{member}')" in texts(Access((member,)))[1]
