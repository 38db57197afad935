"""What of the tests of the real BigQuery an emulator can run, it runs here, so that they are not found broken there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.bigquery_stores import environment

if TYPE_CHECKING:
    from support.emulator import Emulator

pytestmark = [pytest.mark.emulator, pytest.mark.slow]

TESTS = Path(__file__).parent / "test_bigquery_service.py"
#: One test of each contract, since the emulator runs the contracts elsewhere, and all facts but those that need what it
#: does not have: budgets. The other deep checks are compared with it in
#: tests/cli/test_doctor_deep.py.
CHOSEN = (
    "test_an_event_comes_back or (deep_checks and doubles) "
    "or not (TestLenientService or TestStrictService or budget or deep_checks)"
)


def test_the_tests_of_the_service_run_over_the_emulator_and_leave_no_dataset(emulator: Emulator) -> None:
    before = {it.dataset_id for it in emulator.client.list_datasets()}
    settings = {**os.environ, **environment(emulator.behind()), "LEDGER_TEST_BIGQUERY": f"{emulator.project}.remote"}
    options = ("-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", "remote", "-k", CHOSEN)
    program = [sys.executable, "-m", "pytest", *options, str(TESTS)]
    ran = subprocess.run(program, env=settings, capture_output=True, text=True, check=False, cwd=TESTS.parents[2])
    assert ran.returncode == 0, ran.stdout
    assert "7 passed" in ran.stdout
    assert {it.dataset_id for it in emulator.client.list_datasets()} == before
