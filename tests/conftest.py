"""What every test may ask for. Heavy things are imported by the fixture that needs them, never here."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.register_assert_rewrite("support")

from support.shell import Shell  # noqa: E402

if TYPE_CHECKING:
    from support.bigquery_stores import Datasets
    from support.emulator import Emulator

EMULATOR_PYTHON = (3, 13)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what uses the emulator or a DuckDB file, and leave out what cannot run here: never by what is installed.

    A missing emulator on a Python that has it is therefore a failure and not a gap.
    """
    for item in items:
        if "emulator" in getattr(item, "fixturenames", ()):
            item.add_marker("emulator")
        if "warehouse" in getattr(item, "fixturenames", ()):
            item.add_marker("duckdb")
    here = sys.version_info >= EMULATOR_PYTHON
    remote = bool(os.environ.get("LEDGER_TEST_BIGQUERY"))
    out = [
        item
        for item in items
        if (item.get_closest_marker("emulator") and not here) or (item.get_closest_marker("remote") and not remote)
    ]
    if out:
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if item not in out]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """Leave the emulator to the next test without the answers that this one was given."""
    yield
    if item.get_closest_marker("emulator"):
        from support import emulator as module

        module.forget_answers()


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """BigQuery's REST and gRPC interfaces in this process; one for each xdist worker."""
    from support import emulator as module

    with module.emulator(tmp_path_factory.mktemp("bigquery")) as running:
        yield running


@pytest.fixture
def bigquery_dataset(emulator: Emulator) -> Iterator[str]:
    """The name of an empty dataset in the emulator, dropped after the test."""
    name = f"test_{uuid.uuid4().hex}"
    emulator.client.create_dataset(name)
    yield name
    emulator.client.delete_dataset(name, delete_contents=True, not_found_ok=True)


@pytest.fixture(scope="session")
def datasets(emulator: Emulator) -> Iterator[Datasets]:
    """Datasets with the ledger's tables, which all modules share, as making them takes seconds."""
    from support.bigquery_stores import Datasets

    made = Datasets(emulator, f"shared_{uuid.uuid4().hex}")
    yield made
    made.drop()


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """A command line whose ledger does not exist yet."""
    return Shell(tmp_path / "ledger.db")
