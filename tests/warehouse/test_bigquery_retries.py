"""What is tried again of BigQuery's calls, for how long, and what is logged."""

from __future__ import annotations

import socket

import pytest
import requests

from ledger.errors import ConfigurationError, InvalidInput, StoreError, StoreRejected, StoreUnavailable
from ledger.warehouse.bigquery.errors import NotYetVisible
from ledger.warehouse.bigquery.jobs import EMULATOR_SECONDS, MAX_ATTEMPTS, Jobs, retrying
from ledger.warehouse.bigquery.settings import Dataset

PLACE = Dataset("my-project", "ledger")

# Trying again


class Failing:
    """Fails with each of these in turn, and then returns 7."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self) -> int:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return 7


LATER = [StoreUnavailable(f"later {number}") for number in range(100)]


def test_a_call_is_made_again_until_it_succeeds_and_that_is_logged_once(caplog):
    slept: list[float] = []
    call = Failing(*LATER[:4])
    assert retrying("The append", 60, slept.append)(call) == 7
    assert call.calls == 5
    assert len(slept) == 4
    assert [record.getMessage() for record in caplog.records] == ["The append is retried for up to 60 s: later 0"]
    assert {record.name for record in caplog.records} == {"ledger.bigquery"}


def test_what_is_only_new_is_waited_for_longer_and_the_log_says_for_how_long(caplog):
    new = [NotYetVisible(f"later {number}") for number in range(MAX_ATTEMPTS)]
    assert retrying("The append", 1, lambda _: None)(Failing(*new)) == 7
    assert [record.getMessage() for record in caplog.records] == ["The append is retried for up to 300 s: later 0"]


def test_a_call_that_succeeds_is_not_logged(caplog):
    assert retrying("The append", 60)(Failing()) == 7
    assert caplog.records == []


@pytest.mark.parametrize(
    "error", [StoreRejected("no"), ConfigurationError("no"), InvalidInput("no"), StoreError("no"), ValueError("no")]
)
def test_what_will_not_pass_is_raised_at_once_and_not_logged(error, caplog):
    call = Failing(error)
    with pytest.raises(type(error)) as raised:
        retrying("The append", 60, lambda _: pytest.fail("waited"))(call)
    assert raised.value is error
    assert call.calls == 1
    assert caplog.records == []


def test_an_error_that_will_not_pass_ends_the_tries():
    refusal = StoreRejected("no")
    call = Failing(*LATER[:2], refusal)
    with pytest.raises(StoreRejected) as raised:
        retrying("The append", 60, lambda _: None)(call)
    assert raised.value is refusal
    assert call.calls == 3


def test_a_call_is_given_up_after_so_many_tries_with_its_last_error():
    slept: list[float] = []
    call = Failing(*LATER)
    with pytest.raises(StoreUnavailable) as raised:
        retrying("The append", 1e9, slept.append)(call)
    assert raised.value is LATER[MAX_ATTEMPTS - 1]
    assert call.calls == MAX_ATTEMPTS
    assert len(slept) == MAX_ATTEMPTS - 1
    assert all(0 <= seconds <= 8 for seconds in slept)
    assert max(slept) > 1  # it waits longer as time goes on


def test_a_call_is_not_made_again_beyond_its_patience():
    slept: list[float] = []
    with pytest.raises(StoreUnavailable):
        retrying("The append", 1.0, slept.append)(Failing(*LATER))
    assert all(seconds < 1 for seconds in slept)  # a wait that ended later would be in vain
    call = Failing(*LATER)
    with pytest.raises(StoreUnavailable) as raised:
        retrying("The append", 0, slept.append)(call)
    assert raised.value is LATER[0]
    assert call.calls == 1


def unreached() -> StoreUnavailable:
    error = StoreUnavailable("later")
    error.__cause__ = requests.exceptions.ConnectionError("Failed to establish a new connection: Connection refused")
    return error


def test_an_emulator_that_never_answered_is_given_up_within_seconds_and_the_error_says_how_to_start_one():
    slept: list[float] = []
    with socket.socket() as held:  # bound, and not listening: connections are refused
        held.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{held.getsockname()[1]}"
        jobs = Jobs(PLACE, environment={"BIGQUERY_EMULATOR_HOST": address}, sleep=slept.append)
        with pytest.raises(StoreUnavailable, match=f"no emulator answers at http://{address} .* `ledger emulator`"):
            jobs.describe()
        jobs.clients.close()
    assert slept
    assert all(seconds < EMULATOR_SECONDS for seconds in slept)


@pytest.mark.parametrize("environment", [{}, {"BIGQUERY_EMULATOR_HOST": "127.0.0.1:9"}])
def test_bigquery_and_an_emulator_that_has_answered_are_waited_for(environment):
    slept: list[float] = []
    jobs = Jobs(PLACE, environment=environment, sleep=slept.append)
    if environment:
        assert jobs.retry_idempotent("The look-up", Failing()) == 7
    call = Failing(*(unreached() for _ in range(MAX_ATTEMPTS - 1)))
    assert jobs.retry_idempotent("The look-up", call) == 7
    assert max(slept) > EMULATOR_SECONDS
