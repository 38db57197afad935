"""`ledger doctor` on a ledger in BigQuery."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from google.cloud import bigquery

from ledger.cli.scripts.commands import create_sessions_table
from support.bigquery_commands import Place, printed
from support.shell import Shell

if TYPE_CHECKING:
    from support.emulator import Emulator

pytestmark = [pytest.mark.emulator, pytest.mark.slow, pytest.mark.usefixtures("emulator_settings")]


def examined(shell: Shell, *args: str, **settings: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Exit code, and findings by name."""
    result = shell("doctor", "--json", *args, **settings)
    found = json.loads(result.stdout)
    return result.exit_code, {finding["what"]: finding for finding in found["findings"]}


def problems(findings: Mapping[str, dict[str, Any]]) -> list[str]:
    return [name for name, finding in findings.items() if finding["status"] == "problem"]


def test_a_healthy_dataset_is_healthy_and_left_as_it_is(there: Shell, emulator: Emulator, place: Place) -> None:
    printed(create_sessions_table, *place.options)
    before = emulator.client.get_dataset(place.name).to_api_repr()
    code, findings = examined(there)
    assert (code, problems(findings)) == (0, [])
    looked = ("url", "emulator", "credentials", "project", "api", "dataset", "tables", "views", "functions", "release")
    assert [name for name in findings if name in looked] == list(looked)
    assert {name: findings[name]["status"] for name in (*looked, "read", "write", "storage write")} == dict.fromkeys(
        (*looked, "read", "write", "storage write"), "ok"
    )
    assert findings["expiration"]["detail"] == "none: the table session_events keeps all rows"
    assert emulator.client.get_dataset(place.name).to_api_repr() == before


def test_the_expiration_of_partitions_is_shown(
    there: Shell, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bigquery.TimePartitioning, "expiration_ms", 60 * 86_400_000)
    code, findings = examined(there)
    assert (code, findings["expiration"]["status"]) == (0, "note")
    assert "keeps the rows of a day for 60 days, then BigQuery drops them" in findings["expiration"]["detail"]


def test_a_warehouse_is_examined_as_a_ledger_in_bigquery_is(shell: Shell, place: Place) -> None:
    shell.ok("new", "q")
    code, findings = examined(shell, LEDGER_WAREHOUSE=place.url)
    assert (code, problems(findings)) == (0, [])
    assert findings["warehouse storage write"]["status"] == findings["warehouse expiration"]["status"] == "ok"
    shell.ok("sync", "--warehouse", place.url)
    code, findings = examined(shell)
    assert findings["also shipped to"]["detail"] == place.url
    code, findings = examined(shell, LEDGER_WAREHOUSE=place.url.replace("cli_", "gone_"))
    assert (code, problems(findings)) == (1, ["warehouse dataset"])
    assert "check LEDGER_WAREHOUSE, or" in findings["warehouse dataset"]["remedy"]


def test_a_missing_dataset_is_a_problem_with_the_command_that_makes_it(shell: Shell, emulator: Emulator) -> None:
    shell.url = f"bigquery://{emulator.project}/nowhere"
    code, findings = examined(shell)
    assert (code, problems(findings)) == (1, ["dataset"])
    assert f"ledger --url bigquery://{emulator.project}/nowhere init (in the US" in findings["dataset"]["remedy"]
    assert findings["dataset"]["remedy"].startswith("check LEDGER_URL, or")
    shell.url += "?location=EU"
    assert f"--url '{shell.url}' init" in examined(shell)[1]["dataset"]["remedy"]
    assert "nowhere" not in {item.dataset_id for item in emulator.client.list_datasets()}


def test_missing_objects_are_problems_by_kind(shell: Shell, bigquery_dataset: str) -> None:
    shell.url = f"bigquery://ledger/{bigquery_dataset}"
    code, findings = examined(shell)
    assert (code, problems(findings)) == (1, ["tables", "views", "functions"])
    assert "session_events" in findings["tables"]["detail"]
    assert findings["tables"]["remedy"] == f"ledger --url {shell.url} init"
    assert findings["read"]["status"] == "note"


def test_views_of_another_release_are_a_note(there: Shell, emulator: Emulator, place: Place) -> None:
    def label(value: str) -> str:
        dataset = emulator.client.get_dataset(place.name)
        before: str = dataset.labels["session_ledger_catalog"]
        dataset.labels = {**dataset.labels, "session_ledger_catalog": value}
        emulator.client.update_dataset(dataset, ["labels"])
        return before

    present = label("older")
    try:
        code, findings = examined(there)
        assert (code, findings["release"]["status"]) == (0, "note")
        assert "init" in findings["release"]["remedy"]
    finally:
        label(present)


def test_a_location_that_is_not_the_datasets_is_a_problem(
    there: Shell, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bigquery.Dataset, "location", property(lambda self: "EU"))
    _, findings = examined(there, "--url", f"{place.url}?location=US")
    assert findings["dataset"]["remedy"] == "use location=EU, or omit it"


def test_emulators_that_are_malformed_silent_or_half_named_are_found(there: Shell, closed_port: int) -> None:
    silent = f"127.0.0.1:{closed_port}"
    code, findings = examined(there, BIGQUERY_EMULATOR_HOST="nonsense")
    assert (code, problems(findings)) == (1, ["emulator"])
    code, findings = examined(there, BIGQUERY_EMULATOR_HOST=silent)
    assert (code, problems(findings)) == (1, ["emulator"])
    assert "BIGQUERY_EMULATOR_HOST" in findings["emulator"]["detail"]
    code, findings = examined(there, BIGQUERY_EMULATOR_GRPC_HOST=silent)
    assert (code, problems(findings)) == (1, ["emulator", "storage write"])
    assert findings["storage write"]["remedy"] == "check BIGQUERY_EMULATOR_GRPC_HOST"


def test_the_streams_are_not_looked_at_where_they_are_not_used(there: Shell, place: Place, closed_port: int) -> None:
    settings = {"BIGQUERY_EMULATOR_GRPC_HOST": f"127.0.0.1:{closed_port}"}
    _, findings = examined(there, "--url", f"{place.url}?transport=insertall", **settings)
    assert findings["storage write"]["status"] == "ok"


def test_credentials_are_named_and_never_shown(there: Shell, nobody: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from google.api_core.exceptions import Forbidden

    def forbidden(*args: Any, **options: Any) -> None:
        raise Forbidden("Access Denied: Dataset my-project:d: Permission bigquery.datasets.get denied on dataset")

    monkeypatch.setattr(bigquery.Client, "get_dataset", forbidden)
    key = nobody / "key.json"
    secret = {"type": "authorized_user", "client_id": "i", "client_secret": "s3cret", "refresh_token": "s3cret"}
    key.write_text(json.dumps(secret))
    code, findings = examined(
        there, "--url", "bigquery://my-project/d", GOOGLE_APPLICATION_CREDENTIALS=str(key), LEDGER_TOKEN="s3cret"
    )
    assert (code, problems(findings)) == (1, ["api"])
    assert findings["credentials"]["detail"] == f"of a user, from {key}"
    assert "roles/bigquery" in findings["api"]["detail"]
    assert "s3cret" not in json.dumps(findings)
    key.write_text('{"type": "service_account", "private_key": "s3cret"}')
    _, findings = examined(there, GOOGLE_APPLICATION_CREDENTIALS=str(key))
    assert problems(findings) == ["credentials"]
    assert "s3cret" not in json.dumps(findings)


def test_missing_credentials_are_a_problem_and_nothing_further_is_asked(there: Shell, nobody: Path) -> None:
    code, findings = examined(there)
    assert (code, problems(findings)) == (1, ["credentials"])
    assert "gcloud auth application-default login" in findings["credentials"]["remedy"]
    _, findings = examined(there, GOOGLE_APPLICATION_CREDENTIALS="/nowhere/key.json")
    assert "/nowhere/key.json" in findings["credentials"]["detail"]
    assert "api" not in findings


def test_a_project_that_is_named_nowhere_is_a_problem(shell: Shell, place: Place) -> None:
    shell.url = f"bigquery:///{place.name}"
    code, findings = examined(shell)
    assert (code, problems(findings)) == (1, ["project"])
    assert "GOOGLE_CLOUD_PROJECT" in findings["project"]["remedy"]


def test_permissions_that_are_missing_come_with_the_role_to_grant(
    there: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    from google.api_core.exceptions import Forbidden, NotFound

    def denied(*args: Any, **options: Any) -> None:
        raise Forbidden("Access Denied: User does not have bigquery.jobs.create permission in project ledger.")

    def unknown(*args: Any, **options: Any) -> None:
        raise NotFound("no such method")

    monkeypatch.setattr(bigquery.Client, "query", denied)
    monkeypatch.setattr(bigquery.Client, "test_iam_permissions", lambda *args, **options: {"permissions": []})
    code, findings = examined(there)
    assert (code, problems(findings)) == (1, ["read", "write"])
    assert "roles/bigquery.jobUser" in findings["read"]["detail"]
    assert "roles/bigquery.dataEditor" in findings["write"]["remedy"]
    monkeypatch.setattr(bigquery.Client, "test_iam_permissions", unknown)
    assert examined(there)[1]["write"]["status"] == "note"


def test_an_exceeded_quota_is_not_the_networks_fault(there: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    from google.api_core.exceptions import Forbidden
    from google.cloud import bigquery

    def exceeded(*args: Any, **options: Any) -> None:
        message = "Quota exceeded: Your project exceeded quota for free query bytes scanned."
        raise Forbidden(message, errors=[{"reason": "quotaExceeded"}])

    monkeypatch.setattr(bigquery.Client, "query", exceeded)
    code, findings = examined(there)
    assert (code, problems(findings)) == (1, ["read"])
    assert findings["read"]["remedy"].startswith("wait, or raise the quota")


def test_people_see_the_doctors_findings_within_eighty_columns(there: Shell) -> None:
    assert max(map(len, there.ok("doctor").splitlines())) <= 80
