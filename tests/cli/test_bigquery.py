"""The command line on a ledger in BigQuery: the same commands, the same answers, errors of one line."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests

from ledger.cli.demo import emulator as own_emulator
from ledger.cli.demo import scenario
from ledger.cli.scripts.commands import create_sessions_table, create_test_session, query_sessions
from ledger.errors import MissingExtra
from ledger.sdk.ledger import SessionLedger
from support.bigquery_commands import EMULATOR, Place, printed, script
from support.shell import Shell

if TYPE_CHECKING:
    from support.emulator import Emulator

pytestmark = [pytest.mark.emulator, pytest.mark.slow, pytest.mark.usefixtures("emulator_settings")]

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def test_creating_says_what_was_created_and_the_second_time_that_nothing_is_to_be_done(
    created: tuple[Place, str], there: Shell
) -> None:
    place, said = created
    lines = said.splitlines()
    assert lines[0].split() == ["what", "name", "done", "detail"]
    assert lines[1].split() == ["dataset", f"{place.project}.{place.name}", "created"]
    assert {line.split()[0] for line in lines[2:-1]} == {"table", "view", "function"}
    assert {line.split()[2] for line in lines[1:-1]} == {"created"}
    assert lines[-1] == f"{len(lines) - 2} created, 0 updated."
    again = printed(create_sessions_table, *place.options)
    assert again.splitlines()[-1] == "Nothing to change."
    assert there.ok("init") == again
    assert max(map(len, again.splitlines())) <= 80


@pytest.fixture
def expiring(emulator: Emulator) -> Iterator[Place]:
    """A dataset of its own: sessions without an end cannot be recorded where days expire."""
    place = Place(emulator.project, f"cli_{uuid.uuid4().hex[:8]}")
    printed(create_sessions_table, *place.options)
    yield place
    emulator.client.delete_dataset(place.name, delete_contents=True)


def test_creating_puts_options_on_tables_that_are_there_and_reports_them(emulator: Emulator, expiring: Place) -> None:
    place = expiring
    options = ("--label", "team=a", "--json")
    days = ("--partition-expiration-days", "3000", "--max-ttl-hours", "168")
    found = json.loads(printed(create_sessions_table, "--url", place.url, *options, *days))
    assert list(found) == ["url", "store_id", "changes", "created", "updated"]
    assert list(found["changes"][0]) == ["what", "name", "done", "detail"]
    updated = {change["name"]: change["detail"] for change in found["changes"] if change["done"] == "updated"}
    assert len({change["name"] for change in found["changes"]}) == len(found["changes"]), "one line for each object"
    assert (found["created"], found["updated"]) == (0, len(updated))
    assert "partition_expiration_days = 3000" in updated["session_events"]
    assert emulator.client.get_table(f"{place.project}.{place.name}.session_events").labels["team"] == "a"
    assert json.loads(printed(create_sessions_table, "--url", place.url, *options, *days))["updated"] == 0


def test_what_something_else_drops_at_once_is_noticed(
    emulator: Emulator, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    from google.cloud import bigquery

    monkeypatch.setattr(bigquery.Client, "list_routines", lambda *args, **options: [])
    result = script(create_sessions_table, *place.options)
    assert result.exit_code == 23
    assert "session_state" in result.stderr


def test_a_session_is_the_same_in_sqlite_and_in_bigquery_byte_for_byte(
    there: Shell, tmp_path: Path, place: Place
) -> None:
    here = f"sqlite:///{tmp_path / 'here.db'}"
    with SessionLedger(here) as ledger:
        session_id = scenario.record(ledger)
        numbers = {"z": 1.0, "a": 0.1, "m": 1e300, "big": 2**63, "neg": -0.0, "e": 1e-7, "int": 3, "least": 5e-324}
        ledger.update_session(session_id, {"attribute": numbers, "tag": {"weekly": True, "daily": True}})
        ledger.update_session(session_id, {"context": {"b": {"z": 1, "a": [1.5, None, True]}, "a": "é漢🙂\u2028"}})
        ledger.update_session(session_id, {"x_note": {"k": {"b": 2, "a": 1e22}, "c": 0.30000000000000004}})
        ledger.update_tool_call_status(session_id, "Another", "completed", {"z": 1, "a": 2})
        ledger.add_message(session_id, "user", "And then?", token_count=3, processing_time_ms=1.5)
    there.ok("export", "--url", here, "--output", str(tmp_path / "events.jsonl"))
    there.ok("import", str(tmp_path / "events.jsonl"))
    for form in (["--json"], ["--json", "--details"], ["--format", "csv"], ["--details"]):
        in_sqlite, in_bigquery = (printed(query_sessions, session_id, *form, "--url", url) for url in (here, place.url))
        assert in_sqlite == in_bigquery
    events, back = str(tmp_path / "events"), f"sqlite:///{tmp_path / 'back.db'}"
    there.ok("export", "--format", "parquet", "--output", events)
    assert there.json("import", "--format", "parquet", events)["new_events"] == 0
    there.ok("import", "--url", back, "--format", "parquet", events)
    assert there.ok("export", "--url", back) == there.ok("export")
    there.ok("verify", "--url", back)


def story(shell: Shell) -> tuple[str, list[str]]:
    """One of each command that changes or reads, and what they print."""
    said = [shell.ok("new", "What?", "--user", "user123", "--tag", "weekly", "--attribute", "n:=2.50", "--title", "T")]
    session_id = said[0].strip()
    commands = (
        ("set", session_id, "constraints", '{"tool_calls": [{"name": "Orders", "tables": ["orders"]}], "kpi": 1.0}'),
        ("tool", session_id, "Orders", "completed", "--result", '{"rows": 3}'),
        ("message", session_id, "user", "And the week before?", "--ms", "1.5"),
        ("set", session_id, "title", "--remove"),
        ("set", session_id, "summary", "Orders peaked.", "--event-id", "mine"),
        ("set", session_id, "summary", "Orders peaked.", "--event-id", "mine"),
        ("show", session_id, "--messages"),
        ("show", session_id, "--messages", "--json"),
        ("show", session_id, "--version", "2", "--json"),
        ("show", session_id, "--last", "1", "--json"),
        ("history", session_id, "--limit", "3", "--after", "3"),  # within an event BigQuery keeps no order
        ("diff", session_id, "2"),
        ("list", "--user", "user123", "--since", "2026-03-05", "--until", "2026-03-06"),
        ("list", "--attribute", "n:=2.5", "--tag", "weekly", "--json"),
    )
    return session_id, said + [shell.ok(*args) for args in commands]


def without_ids(said: list[str]) -> list[str]:
    """What was said, with each id as the number of its first appearance."""
    seen: dict[str, str] = {}
    return [UUID.sub(lambda match: seen.setdefault(match[0], f"{len(seen):>36}"), text) for text in said]


def test_every_command_says_the_same_in_sqlite_and_in_bigquery(
    shell: Shell, place: Place, stand_still: Callable[[], object]
) -> None:
    told = []
    for url in (shell.url, place.url):
        stand_still()
        shell.url = url
        told.append(story(shell))
    (_, in_sqlite), (session_id, in_bigquery) = told
    assert without_ids(in_sqlite) == without_ids(in_bigquery)
    assert shell.fails("show", "nobody")[0] == 4
    assert shell.fails("set", session_id, "title", "T", "--expected-version", "2")[0] == 6
    assert shell.fails("set", session_id, "summary", "Else.", "--event-id", "mine")[0] == 7
    assert shell.fails("show", session_id, "--version", "99")[0] == 3


def test_the_scripts_create_and_query_sessions(place: Place) -> None:
    session_id = printed(create_test_session, "How many orders?", LEDGER_URL=place.url).strip()
    listed = printed(query_sessions, "--limit", "1", LEDGER_URL=place.url)
    assert session_id in listed
    assert "How many orders?" in listed


def test_sql_asks_bigquery_itself_as_table_json_and_csv(there: Shell, tmp_path: Path) -> None:
    session_id = there.ok("new", "Asked by SQL?").strip()
    statement = "SELECT question, version FROM sessions WHERE session_id = @id AND created_at >= TIMESTAMP(@day)"
    args = ("sql", statement, "--param", f"id={session_id}", "--param", "day=2026-01-01")
    answer = {"columns": ["question", "version"], "rows": [{"question": "Asked by SQL?", "version": 1}]}
    told = there.json(*args)
    assert {name: told[name] for name in answer} == answer
    assert (told["bytes_billed"] % 1_048_576, told["cost_usd"] > 0) == (0, True)
    assert list(csv.reader(io.StringIO(there.ok(*args, "--format", "csv"))))[1] == ["Asked by SQL?", "1"]
    assert re.fullmatch(r"1 row; [1-9][\d,]* bytes read, [\d,]+ billed, \$0\.\d+", there.ok(*args).splitlines()[-1])
    assert not list(tmp_path.glob("*.duckdb"))


@pytest.mark.parametrize(
    "statement", ["SELEC 1", "DELETE FROM session_events WHERE true", "SELECT * FROM nowhere", "SELECT nothing"]
)
def test_sql_that_cannot_be_answered_is_the_users_to_mend(there: Shell, statement: str) -> None:
    assert there.fails("sql", statement)[0] == 3


def test_a_backup_of_a_dataset_is_refused_in_one_line_and_writes_nothing(there: Shell, tmp_path: Path) -> None:
    code, message = there.fails("backup", str(tmp_path / "copy.db"))
    assert code == 11
    assert "ledger export" in message
    assert not (tmp_path / "copy.db").exists()


def test_the_demo_compares_the_sdk_with_sql_in_the_emulator_and_drops_its_dataset(
    shell: Shell, emulator: Emulator
) -> None:
    before = {item.dataset_id for item in emulator.client.list_datasets()}
    shown = shell.ok("demo", "--emulator")
    assert shown.count("✓ same") == 3
    assert "the same in BigQuery's SQL, from its emulator" in shown
    assert f"The ledger was bigquery://{emulator.project}/ledger_demo_" in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert {item.dataset_id for item in emulator.client.list_datasets()} == before


def test_the_demo_is_either_in_the_emulator_or_at_a_url(shell: Shell) -> None:
    assert shell.fails("demo", "--emulator", "--url", shell.url)[0] == 2


def test_where_no_emulator_is_named_one_runs_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(EMULATOR[0])
    monkeypatch.setenv(EMULATOR[1], "elsewhere:1")
    with own_emulator.configured():
        rest = os.environ[EMULATOR[0]]
        assert os.environ[EMULATOR[1]] != "elsewhere:1"
        listed = requests.get(f"{rest}/bigquery/v2/projects/ledger/datasets", timeout=5)
        assert listed.json()["kind"] == "bigquery#datasetList"
    assert EMULATOR[0] not in os.environ
    assert os.environ[EMULATOR[1]] == "elsewhere:1"
    with pytest.raises(requests.ConnectionError):
        requests.get(rest, timeout=5)


def test_without_the_emulators_packages_the_demo_says_how_to_install_them(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(EMULATOR[0])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, message = shell.fails("demo", "--emulator")
    assert code == 13
    assert "Python 3.13 or later and local-bigquery, duckdb-extension-icu, duckdb-extension-ducklake" in message
    assert "give it an environment of its own, in the checkout: python3.13 -m venv emulator && " in message


def test_extensions_of_another_duckdb_are_a_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "exists", lambda self: False)
    with pytest.raises(MissingExtra, match=r"for the installed DuckDB v1\.5\.5. It runs on DuckDB 1\.5\.5, so give it"):
        own_emulator.extension_files()


# What stands in the way of a command.


@pytest.mark.parametrize("args", [["list"], ["show", "x"], ["new", "q"], ["sql", "SELECT * FROM sessions"]], ids=str)
def test_a_dataset_that_is_not_there_is_a_setting_to_mend(shell: Shell, emulator: Emulator, args: list[str]) -> None:
    shell.url = f"bigquery://{emulator.project}/nowhere"
    code, message = shell.fails(*args)
    assert code == 12
    assert "Not found" in message
    assert "ledger init" in message


@pytest.mark.parametrize("args", [["sync"], ["sql", "SELECT 1 AS a"], ["reconcile"], ["status"], ["schema"]], ids=str)
def test_no_command_makes_a_dataset_of_a_mistyped_warehouse(
    shell: Shell, emulator: Emulator, emulator_settings: None, args: list[str]
) -> None:
    shell.ok("new", "What?")
    answer = shell(*args, LEDGER_WAREHOUSE=f"bigquery://{emulator.project}/mistyped")
    if args[0] in ("sync", "sql"):
        assert answer.exit_code == 12
        assert "ledger --url 'bigquery://ledger/mistyped?location=EU' init" in answer.stderr
        assert shell.json("status")["waiting_rows"] == 2
    assert "mistyped" not in {dataset.dataset_id for dataset in emulator.client.list_datasets()}


def test_a_project_and_a_table_that_are_not_there_are_settings_to_mend(shell: Shell, bigquery_dataset: str) -> None:
    for shell.url in ("bigquery://no-such-project/d", f"bigquery://ledger/{bigquery_dataset}"):
        code, message = shell.fails("list")
        assert code == 12
        assert "Not found" in message


def test_a_malformed_address_of_an_emulator_names_the_setting(there: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in EMULATOR:
        with monkeypatch.context() as patch:
            patch.setenv(name, "nonsense")
            code, message = there.fails("list")
            assert (code, f"{name} is 'nonsense'" in message) == (12, True)
            assert script(create_sessions_table, "--url", there.url).exit_code == 12


def test_a_project_that_is_named_nowhere_is_asked_for(shell: Shell, place: Place) -> None:
    shell.url = f"bigquery:///{place.name}"
    code, message = shell.fails("list")
    assert code == 12
    assert "GOOGLE_CLOUD_PROJECT" in message
    assert shell("list", GOOGLE_CLOUD_PROJECT=place.project).exit_code == 0


@pytest.mark.parametrize("named", [None, "/nowhere/key.json"])
def test_missing_credentials_are_one_line_that_says_how_to_get_some(
    there: Shell, nobody: Path, named: str | None
) -> None:
    extra = {} if named is None else {"GOOGLE_APPLICATION_CREDENTIALS": named}
    code, message = there.fails("list", **extra)
    assert code == 12
    assert "gcloud auth application-default login" in message
    assert named is None or named in message
    assert script(create_sessions_table, "--url", there.url, **extra).exit_code == 12


def test_a_dataset_in_another_location_is_refused_and_left_alone(emulator: Emulator) -> None:
    from google.cloud import bigquery

    made = bigquery.Dataset(f"{emulator.project}.cli_{uuid.uuid4().hex[:8]}")
    made.location = "EU"
    emulator.client.create_dataset(made)
    try:
        result = script(
            create_sessions_table, "--project", made.project, "--dataset", made.dataset_id, "--location", "US"
        )
        assert (result.exit_code, result.stdout) == (12, "")
        assert "is in EU, not in US" in result.stderr
        assert not list(emulator.client.list_tables(made.dataset_id))
    finally:
        emulator.client.delete_dataset(made.dataset_id, delete_contents=True)


def test_partitions_that_would_go_before_their_sessions_are_refused(place: Place) -> None:
    lifetimes = ("--partition-expiration-days", "7", "--max-ttl-hours", "168")
    result = script(create_sessions_table, *place.options, *lifetimes)
    assert (result.exit_code, result.stderr.count("\n")) == (12, 1)
    assert "8 or more" in result.stderr


@pytest.mark.parametrize(("hours", "expected"), [("none", "sessions may have no end"), ("720", "set 31 or more")])
def test_partitions_expire_only_after_the_longest_time_that_a_session_lives(
    place: Place, monkeypatch: pytest.MonkeyPatch, hours: str, expected: str
) -> None:
    monkeypatch.setenv("LEDGER_SESSION_MAX_TTL_HOURS", hours)
    options = (*place.options, "--dry-run", "--partition-expiration-days", "30")
    result = script(create_sessions_table, *options)
    assert (result.exit_code, result.stdout) == (12, "")
    assert expected in result.stderr
    assert "partition_expiration_days = 30" in printed(create_sessions_table, *options, "--max-ttl-hours", "719")
    assert script(create_sessions_table, *options, "--max-ttl-hours", "720").exit_code == 12


@pytest.mark.parametrize("args", [["list"], ["init"], ["show", "x"], ["sql", "SELECT * FROM sessions"]], ids=str)
def test_an_emulator_that_does_not_run_is_unavailable(
    there: Shell, closed_port: int, monkeypatch: pytest.MonkeyPatch, args: list[str]
) -> None:
    monkeypatch.setenv(EMULATOR[0], f"127.0.0.1:{closed_port}")
    code, message = there.fails(*args, "--url", f"{there.url}?patience=0.1")
    assert code == 21
    assert "no emulator answers at http:" in message
    assert "`ledger emulator`" in message


def test_an_append_whose_answer_does_not_come_is_unknown_and_says_how_to_repeat_it(
    there: Shell, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(EMULATOR[1], f"127.0.0.1:{closed_port}")
    code, message = there.fails("new", "q", "--url", f"{there.url}?patience=0.1")
    assert code in (21, 22)
    assert "append" in message
