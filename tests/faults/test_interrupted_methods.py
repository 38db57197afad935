"""A seeded sample of ``make interrupts``: methods of a ledger, interrupted at places drawn at random."""

from __future__ import annotations

import dis
import random
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

import pytest

import ledger
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
#: Functions with such a loop that hold nothing which their own frame does not release.
HARMLESS_LOOPS = {
    *("Source._fetched", "whole_path", "whole_folder", "_batches", "damage", "SessionCheck._slots", "script_to_duckdb"),
}
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
    chance, struck = random.Random(SEED), 0
    with warm_up(stage, *(METHODS[name] for name in SAMPLE)) as interrupter:
        for name, wanted in SAMPLE.items():
            places = stage.places_of(METHODS[name], interrupter)
            for point in points_of(places, wanted / places, chance):
                interrupter.point, interrupter.error = point, chance.choice(list(ERRORS.values()))
                struck += stage.trial(METHODS[name], interrupter)
        stage.finish()
    assert struck > sum(SAMPLE.values()) // 2


def _loops_outside_of_their_block(code: CodeType) -> Iterator[str]:
    """Yield the functions in which an exception at the end of a loop skips the handler that the loop is in."""
    handlers = [(each.start, each.end, each.target) for each in dis._parse_exception_table(code)]
    instructions = list(dis.get_instructions(code))
    catching = {each.offset for each in instructions if each.opname == "PUSH_EXC_INFO"}
    for each in instructions:
        if each.opname == "JUMP_BACKWARD":
            covering = [
                {handler for start, end, handler in handlers if start <= offset < end}
                for offset in (each.argval, each.offset)
            ]
            if catching & (covering[0] - covering[1]):
                yield code.co_qualname
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _loops_outside_of_their_block(constant)


def test_no_loop_is_within_a_block_that_releases_something():
    """CPython 3.13.0 excludes the jump at the loop's end from the block; an exception there would skip the release."""
    found = {
        name
        for path in Path(ledger.__file__).parent.rglob("*.py")
        for name in _loops_outside_of_their_block(compile(path.read_text(), str(path), "exec"))
    }
    assert found <= HARMLESS_LOOPS


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

    with SessionLedger.open(f"sqlite:///{tmp_path / 'k.db'}", warehouse=f"duckdb:///{tmp_path / 'w.duckdb'}") as opened:
        opened.create_session("ada", "What?")
        opened.warehouse.sync()
        opened.create_session("ada", "What?")
        warehouse = DuckDBWarehouse(tmp_path / "w.duckdb")
        with warehouse.reading(), pytest.raises(StoreRejected, match="This thread is reading"):
            opened.warehouse.sync()
        assert opened.warehouse.sync() > 0
