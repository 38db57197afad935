"""A process ends in order, whatever its daemon threads are doing."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import atexit, sys, threading, time
from ledger import SessionLedger, StoreUnavailable

ledger = SessionLedger.open("sqlite:///l.db", warehouse="duckdb:///w.duckdb", relay="off")
ledger.create_session("ada", "q")
ledger.warehouse.sync()
started = threading.Event()


def query():
    while True:
        started.set()
        ledger.sql("SELECT COUNT(*) AS n FROM UNNEST(GENERATE_ARRAY(1, 3000000)) AS a")


for _ in range(3):
    threading.Thread(target=query, daemon=True).start()
started.wait()
time.sleep(float(sys.argv[1]))
"""


@pytest.mark.duckdb
@pytest.mark.parametrize("after", [0.1, 0.25, 0.4])
def test_a_process_whose_threads_run_statements_on_duckdb_ends_without_an_error(tmp_path, after):
    command = [sys.executable, "-c", PROGRAM, str(after)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.duckdb
def test_a_statement_in_an_exit_function_that_was_registered_before_the_ledger_is_refused(tmp_path):
    early = "import atexit\n@atexit.register\ndef _(): print(run())\n"
    late = (
        "def run():\n    try:\n        ledger.sql('SELECT 1 AS n')\n    except StoreUnavailable as error:\n"
        "        return error\n"
    )
    program = early + PROGRAM.split("started =")[0] + late
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    assert "The process is about to end" in done.stdout
