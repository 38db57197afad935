"""The deep checks: after consent, in a scratch dataset that is removed whatever happens; a report without names."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from faults.proxy_grpc import Refused
from ledger.cli.doctor.deep import examination
from ledger.cli.doctor.deep.check import Check, Observed, Result
from ledger.cli.doctor.deep.command import _show
from ledger.cli.doctor.deep.examination import CHECKS, Examination, examine, price, report
from ledger.cli.doctor.deep.scratch import MeasuredWarehouse, Scratch
from ledger.errors import StoreError, StoreRejected
from ledger.warehouse import catalog
from ledger.warehouse.bigquery.settings import Dataset
from service.layer import Behaviour, service
from support.bigquery_stores import environment
from support.shell import Shell

if TYPE_CHECKING:
    from support.emulator import Emulator

#: Creating and removing a dataset takes seconds.
through_the_emulator = pytest.mark.slow
PLACE = Dataset("my-project", "agents")
#: What each check says of the emulator.
ON_EMULATOR = {
    "a new table": "as assumed",
    "a new column and an open stream": "as assumed",
    "changes to rows just appended": "differs",  # it allows them in transactions
    "empty array parameter": "as assumed",
    "doubles": "as assumed",
    "delicate values by stream": "as assumed",
    "a job without a location": "could not be told",  # it tells no location of a dataset
    "pruning of days": "could not be told",  # it estimates no bytes
    "bytes of a look-up": "could not be told",
}


@pytest.fixture(scope="module")
def emulator(emulator: Emulator) -> Emulator:
    return emulator.behind()


def scratches(emulator: Emulator) -> list[str]:
    return [it.dataset_id for it in emulator.client.list_datasets() if "_doctor_" in it.dataset_id]


def check(name: str, run: Any) -> Check:
    return Check(name, "something", "ledger/files.py", "none", 0, run)


@pytest.fixture(scope="module")
def ran(emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, str]]:
    """What the command printed about the emulator as JSON, and the report that it wrote."""
    folder = tmp_path_factory.mktemp("deep")
    shell, file = Shell(folder / "ledger.db"), folder / "deep.md"
    where = ("--warehouse", "bigquery://ledger/agents", "--report", str(file))
    result = shell("doctor", "--deep", "--yes", "--json", *where, **environment(emulator))
    assert result.exit_code == 1, result.stderr
    yield json.loads(result.stdout), file.read_text()
    assert list(folder.iterdir()) == [file]


@through_the_emulator
def test_each_check_says_of_the_emulator_what_is_known_of_it(ran: tuple[Any, str]) -> None:
    found = {each["name"]: each["outcome"] for each in ran[0]["checks"]}
    assert list(found) == [check.name for check in CHECKS]
    assert len(found) == 10
    # Whether transactions meet is for the scheduler to say.
    assert found.pop("transactions that meet") in {"as assumed", "could not be told"}
    assert found == ON_EMULATOR
    assert (ran[0]["as_assumed"], ran[0]["emulator"]) == (False, True)


@through_the_emulator
def test_the_scratch_dataset_is_removed(emulator: Emulator, ran: tuple[Any, str]) -> None:
    assert ran[0]["statements"] > 20
    assert scratches(emulator) == []


@through_the_emulator
def test_the_report_has_a_row_for_each_check_twice_and_names_nobody(ran: tuple[Any, str]) -> None:
    lines = ran[1].splitlines()
    assert lines[0] == "### `ledger doctor --deep` on an emulator"
    for each in CHECKS:
        assert len([line for line in lines if line.startswith(f"| {each.name} |")]) == 2
    assert "_doctor_" not in ran[1]
    assert "agents" not in ran[1]


@through_the_emulator
def test_an_interrupt_leaves_no_dataset_and_its_tables_would_have_expired(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MeasuredWarehouse, "create", lambda self: None)  # tables take seconds, and none is needed
    made: list[Any] = []

    def interrupt(scratch: Scratch) -> Observed:
        made.extend(emulator.client.get_dataset(name) for name in scratches(emulator))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        examine(
            Dataset("ledger", "agents"), environment(emulator), checks=[check("interrupt", interrupt)], kept=pytest.fail
        )
    assert [it.default_table_expiration_ms for it in made] == [3_600_000]
    assert scratches(emulator) == []


class StreamsRefusedTwice(Behaviour):
    """The first two streams are refused, as if the table were not found."""

    def __init__(self) -> None:
        self.left = 2

    def call(self, method: str, request: bytes, forward: Callable[[], bytes]) -> bytes:
        if method == "CreateWriteStream" and self.left:
            self.left -= 1
            raise Refused(grpc.StatusCode.NOT_FOUND, "Requested entity was not found.")
        return forward()


@through_the_emulator
def test_each_refusal_of_a_new_table_is_counted_and_none_is_repeated_beneath(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    (events,) = [item for item in catalog.objects() if item.name == "session_events"]
    monkeypatch.setattr(MeasuredWarehouse, "create", lambda self: self.run("create", catalog.statement(events)))
    with service(emulator.rest, emulator.grpc, [StreamsRefusedTwice()]) as stricter:
        found = examine(
            Dataset("ledger", "agents"),
            environment(replace(emulator, rest=stricter.rest, grpc=stricter.grpc)),
            checks=[CHECKS[0]],
            kept=pytest.fail,
            sleep=lambda _: None,
        )
    outcome, detail = found.results[0].observed
    assert outcome == "as assumed"
    assert "creating a stream: refused 2 times, then accepted after" in detail


def test_a_check_that_fails_could_not_be_told_and_names_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(scratch: Scratch) -> Observed:
        raise StoreRejected("Not found: my-project:agents_doctor_1.x beside my-project.agents, by a.b@c.example")

    @contextmanager
    def nowhere(beside: Dataset, environment: Any, **settings: Any) -> Iterator[Scratch]:
        yield Scratch(MeasuredWarehouse(replace(PLACE, name="agents_doctor_1"), environment={}), PLACE.name, {})

    monkeypatch.setattr(examination, "scratch", nowhere)
    found = examine(PLACE, {}, checks=[check("one", fail)], kept=pytest.fail)
    observed = found.results[0].observed
    assert observed == (
        "could not be told",
        "StoreRejected: Not found: PROJECT:SCRATCH.x beside PROJECT.DATASET, by ACCOUNT",
    )
    assert (found.differs, found.bytes_billed) == (False, None)


def test_something_refused_at_first_is_tried_until_it_is_accepted_or_the_time_is_over() -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    warehouse = MeasuredWarehouse(PLACE, environment={})
    scratch = Scratch(warehouse, "agents", {}, monotonic=lambda: now[0], sleep=sleep)
    left = [3]

    def attempt() -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise StoreError("Not found: my-project.agents.x")

    assert str(scratch.until_accepted(attempt, 60)) == (
        "refused 3 times, then accepted after 3 s; first: Not found: PROJECT.DATASET.x"
    )
    assert str(scratch.until_accepted(attempt, 60)) == "accepted at the first attempt, after 0.0 s"
    left[0] = 1000
    never = scratch.until_accepted(attempt, 5)
    assert (never.accepted, never.refusals) == (False, 6)


def test_a_report_marks_what_differs_and_keeps_the_columns_of_its_tables() -> None:
    results = [Result(check("one", None), Observed("differs", "a | b")), Result(CHECKS[0], Observed("as assumed", "c"))]
    text = report(Examination(results, False, "EU", "storage", 3, 20_000_000))
    assert "on BigQuery\n" in text
    assert "- location EU, transport storage\n- 3 statements, 20.0 MB billed\n" in text
    assert "| one | **differs** | a \\| b |\n" in text


def test_an_emulator_that_differs_is_said_to_be_expected_to(capsys: pytest.CaptureFixture[str]) -> None:
    results = [Result(CHECKS[0], Observed("differs", "a")), Result(CHECKS[1], Observed("as assumed", "b"))]
    _show(Examination(results, True, None, "storage", 3, None), as_json=False)
    assert capsys.readouterr().out.endswith("An emulator differs from BigQuery in 1 check; that is expected.\n")
    _show(Examination(results, False, "EU", "storage", 3, None), as_json=False)
    assert "expected" not in capsys.readouterr().out


def test_the_price_is_that_of_the_bytes_of_all_checks() -> None:
    assert price() == "less than 1 US cent on demand (up to 350 MB of statements)"
    assert price([check("none", None)] * 2).endswith("(up to 0 MB of statements)")
    large = Check("large", "", "", "", 10_000_000, lambda scratch: Observed("as assumed", ""))
    assert price([large]).startswith("about 5684 US cents on demand")


def test_without_a_terminal_consent_is_an_option(shell: Shell) -> None:
    code, said = shell.fails("--url", "bigquery://my-project/agents", "doctor", "--deep")
    assert code == 3
    assert "cost less than 1 US cent on demand (up to 350 MB of statements)" in said
    assert said.endswith("pass --yes to agree. (invalid_input)")


def test_consent_is_asked_for_on_a_terminal_and_refused_nothing_is_done() -> None:
    parent, child = pty.openpty()
    program = [Path(sys.executable).parent / "ledger", "--url", "bigquery://my-project/agents", "doctor", "--deep"]
    with subprocess.Popen(program, stdin=child, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as ran:
        os.close(child)
        os.write(parent, b"n\n")
        printed, said = ran.communicate(timeout=60)
        os.close(parent)
    assert (ran.returncode, printed) == (1, "")
    assert "beside bigquery://my-project/agents, which is removed at the end." in said
    assert said.endswith("Continue? [y/N]: Nothing was done.\n")


def test_a_ledger_that_is_nowhere_in_bigquery_cannot_be_examined(shell: Shell) -> None:
    code, said = shell.fails("doctor", "--deep", "--yes")
    assert (code, said.split(":")[0]) == (
        3,
        "The deep checks examine BigQuery, and neither the ledger nor its warehouse is there",
    )


@pytest.mark.parametrize("option", [["--yes"], ["--report", "x.md"]], ids=str)
def test_options_of_the_deep_checks_need_them(shell: Shell, option: list[str]) -> None:
    code, said = shell.fails("doctor", *option)
    assert (code, said.split(". ")[0]) == (2, "--yes and --report are options of --deep")


def test_a_report_never_replaces_a_file(shell: Shell) -> None:
    shell.ok("init")
    before = shell.path.read_bytes()
    where = ("--warehouse", "bigquery://my-project/agents", "--report", str(shell.path))
    code, _ = shell.fails("doctor", "--deep", "--yes", *where)
    assert (code, shell.path.read_bytes()) == (30, before)


def test_every_module_that_a_check_names_exists() -> None:
    root = Path(__file__).parents[2]
    for each in CHECKS:
        for name in each.module.split(", "):
            assert (root / name).is_file(), each
