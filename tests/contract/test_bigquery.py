"""The stores in BigQuery keep the contract, lenient and strict, through the emulator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings

from ledger.stores.base import Capabilities, EventStore
from ledger.testing import OpenStore, SetClock, StoreContract, StoreMachine
from support.bigquery_stores import Datasets

pytestmark = [pytest.mark.emulator, pytest.mark.slow]


@pytest.fixture
def of_machines(datasets: Datasets) -> None:
    OnBigQuery.datasets = datasets


class TestLenientStore(StoreContract):
    capabilities = Capabilities(
        compare_and_append=False,
        gapless_versions=False,
        hash_chain=False,
        backup=False,
        commit_order=False,
        warehouse=True,
        max_changes=1000,
        max_event_bytes=8_000_000,
    )

    @pytest.fixture
    def open_store(self, datasets: Datasets, clock: SetClock) -> Iterator[OpenStore]:
        with datasets.stores(clock) as open_store:
            yield open_store


class TestStrictStore(StoreContract):
    capabilities = Capabilities(
        compare_and_append=True,
        gapless_versions=True,
        hash_chain=True,
        backup=False,
        commit_order=False,
        warehouse=True,
        max_changes=1000,
        max_event_bytes=2_000_000,
    )

    @pytest.fixture
    def open_store(self, datasets: Datasets, clock: SetClock) -> Iterator[OpenStore]:
        with datasets.stores(clock, strict=True) as open_store:
            yield open_store


class OnBigQuery(StoreMachine):
    """Each example works in the same dataset, emptied before."""

    datasets: ClassVar[Datasets]
    strict: ClassVar[bool]

    def open(self, clock: SetClock) -> EventStore:
        if not hasattr(self, "opening"):
            self.opening = self.datasets.stores(clock, strict=self.strict)
            self.open_store = self.opening.__enter__()
        return self.open_store("main")

    def teardown(self) -> None:
        super().teardown()
        if hasattr(self, "opening"):
            self.opening.__exit__(None, None, None)


class LenientMachine(OnBigQuery):
    strict = False


class StrictMachine(OnBigQuery):
    strict = True


few = settings(
    max_examples=2,
    stateful_step_count=8,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # at this speed shrinking a failure takes many minutes
)


@pytest.mark.usefixtures("of_machines")
class TestLenientMachine(LenientMachine.TestCase):
    settings = few


@pytest.mark.usefixtures("of_machines")
class TestStrictMachine(StrictMachine.TestCase):
    settings = few
