"""A seeded sample of ``make interrupts``: methods of a ledger, interrupted at places drawn at random."""

from __future__ import annotations

import random
import sys
import threading
import warnings

import pytest

from faults.interrupted_methods import ERRORS, METHODS, Stage, points_of, public_methods, warm_up
from ledger import SessionLedger
from ledger.warehouse.duckdb.warehouse import DuckDBWarehouse

monitored = pytest.mark.skipif(sys.version_info < (3, 12), reason="sys.monitoring")
#: The methods of the sample, and the number of places at which each is interrupted.
SAMPLE = {
    "add_message": 8,
    "create_session": 6,
    "get_messages": 4,
    "get_session": 3,
    "history": 4,
    "list_sessions": 4,
    "maintain": 6,
    "update_session": 8,
    "warehouse.query": 8,
}
SEED = 12
LONG = "SELECT COUNT(*) FROM range(100000000) AS a, range(100000) AS b"


@pytest.fixture
def stage(tmp_path):
    stage = Stage(tmp_path)
    yield stage
    stage.close()


def test_each_public_method_has_an_example_call():
    assert public_methods() <= set(METHODS)


@monitored
def test_an_interrupted_method_leaves_a_ledger_as_good_as_new(stage):
    chance = random.Random(SEED)
    with warm_up(stage, *(METHODS[name] for name in SAMPLE)) as interrupter:
        for name, wanted in SAMPLE.items():
            places = stage.places_of(METHODS[name], interrupter)
            for point in points_of(places, wanted / places, chance):
                interrupter.point, interrupter.error = point, chance.choice(list(ERRORS.values()))
                stage.trial(METHODS[name], interrupter)
        stage.finish()


def test_a_statement_that_runs_long_is_interrupted_by_a_fork(tmp_path):
    """The child, which inherits no connection, uses the file."""
    import os

    warehouse = DuckDBWarehouse(tmp_path / "warehouse.duckdb")
    warehouse.create()
    running, raised = threading.Event(), []

    def read() -> None:
        try:
            with warehouse.reading() as connection:
                running.set()
                connection.execute(LONG)
        except Exception as error:  # noqa: BLE001 - looked at below
            raised.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    running.wait(10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        try:
            answer = warehouse.query("SELECT COUNT(*) AS n FROM sessions").rows
        except BaseException:  # noqa: BLE001 - told by the exit
            os._exit(1)
        os._exit(0 if answer == [(0,)] else 2)
    assert os.waitpid(child, 0)[1] == 0
    thread.join(10)
    assert [type(error).__name__ for error in raised] == ["StoreUnavailable"]
    assert "interrupted, because the process was forked" in str(raised[0])


def test_a_sync_within_a_query_of_its_own_thread_is_refused(tmp_path):
    """As by a signal handler; it would wait for itself."""
    from ledger import StoreRejected

    with SessionLedger.open(f"sqlite:///{tmp_path / 'k.db'}", warehouse=f"duckdb:///{tmp_path / 'w.duckdb'}") as ledger:
        ledger.create_session("ada", "What?")
        ledger.warehouse.sync()
        ledger.create_session("ada", "What?")
        warehouse = DuckDBWarehouse(tmp_path / "w.duckdb")
        with warehouse.reading(), pytest.raises(StoreRejected, match="This thread is reading"):
            ledger.warehouse.sync()
        assert ledger.warehouse.sync() > 0
