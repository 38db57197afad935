"""Settings: one module reads the environment, each setting is read by somebody, and its documented default holds."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from ledger import settings
from ledger.compat.analysis_sessions.settings import SessionSettings
from ledger.sdk import opening
from ledger.settings import ANALYSIS_SESSIONS, LEDGER_URL, LEDGER_WAREHOUSE, SETTINGS, Setting
from ledger.warehouse.bigquery.settings import EMULATOR_GRPC_PORT

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {
    str(path.relative_to(ROOT)): ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted([*(ROOT / "ledger").rglob("*.py"), *(ROOT / "scripts").glob("*.py")])
}
READER = "ledger/settings.py"
#: The module that sets variables, for the programs that it starts, and puts back what was there.
SET_THEM = {"ledger/cli/demo/emulator.py"}
OF_THE_ENVIRONMENT = {"environ", "environb", "getenv", "getenvb"}
#: Every name under which a setting is looked up.
NAMES = {setting.name for setting in SETTINGS} | {setting.seed_name for setting in SETTINGS} - {""}


def test_one_module_reads_the_environment() -> None:
    readers = {
        name
        for name, tree in SOURCES.items()
        for node in ast.walk(tree)
        if (isinstance(node, ast.Attribute) and node.attr in OF_THE_ENVIRONMENT)
        or (
            isinstance(node, ast.ImportFrom)
            and node.module == "os"
            and OF_THE_ENVIRONMENT & {a.name for a in node.names}
        )
    }
    assert readers == {READER, *SET_THEM}


def test_no_other_module_spells_the_name_of_a_variable() -> None:
    spelled = {
        (name, node.value)
        for name, tree in SOURCES.items()
        if name != READER
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in NAMES
    }
    assert spelled == set()


def test_every_setting_is_read_by_somebody() -> None:
    used = {
        node.id
        for name, tree in SOURCES.items()
        if name != READER
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }
    constants = {name: value for name, value in vars(settings).items() if isinstance(value, Setting)}
    assert list(constants.values()) == list(SETTINGS)
    unread = {name for name, value in constants.items() if name not in used and value not in ANALYSIS_SESSIONS.values()}
    assert unread == set()


@pytest.mark.parametrize("page", ["README.md", "docs/bigquery.md"])
def test_the_pages_that_list_settings_name_none_that_is_not_there(page: str) -> None:
    rows = re.findall(r"^\| (`[^|]+) \|", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`([A-Z]+(?:_[A-Z]+)+)`", row)}
    assert named
    assert named - NAMES == set()


def test_the_settings_of_analysis_sessions_are_the_fields_of_their_model_with_its_defaults() -> None:
    fields = SessionSettings.model_fields
    assert ANALYSIS_SESSIONS.keys() == fields.keys()
    documented = {
        # The lifetimes are settings of every ledger, with another default there: "none; 24 for analysis sessions".
        name: each.default.removeprefix("none; ").removesuffix(" for analysis sessions")
        for name, each in ANALYSIS_SESSIONS.items()
    }
    assert SessionSettings.model_validate(documented) == SessionSettings()


def test_documented_defaults_are_those_of_the_code() -> None:
    assert settings.LEDGER_RELAY.default in opening.RELAYS
    assert str(EMULATOR_GRPC_PORT) in settings.BIGQUERY_EMULATOR_GRPC_HOST.default


def test_a_setting_is_looked_up_where_one_says_else_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEDGER_URL", "sqlite:///here.db")
    assert LEDGER_URL.text() == "sqlite:///here.db"
    assert LEDGER_URL.text({}) is None
    assert LEDGER_URL.text({"LEDGER_URL": "sqlite:///there.db"}) == "sqlite:///there.db"


def test_a_setting_that_is_empty_is_set_and_has_no_text() -> None:
    empty = {"LEDGER_WAREHOUSE": ""}
    assert LEDGER_WAREHOUSE.is_set(empty)
    assert LEDGER_WAREHOUSE.text(empty) is None
    assert not LEDGER_WAREHOUSE.is_set({})


@pytest.mark.parametrize(("text", "on"), [("1", True), ("Yes", True), ("on", True), ("0", False), ("", False)])
def test_a_switch_is_on_where_it_says_so(text: str, on: bool) -> None:
    assert settings.DEBUG_SESSION_STATES.is_on({"DEBUG_SESSION_STATES": text}) is on


def test_values_that_may_be_secret_are_not_shown() -> None:
    shown = {setting.name for setting in SETTINGS if setting.shown}
    assert shown.isdisjoint({"LEDGER_WAREHOUSE", "LEDGER_IMPORT_FROM", "POSTGRES_PASSWORD"})
