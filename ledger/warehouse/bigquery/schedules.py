"""The ledger's scheduled queries in BigQuery's Data Transfer Service: a plan of what to change, and its execution.

Only schedules that the ledger made are changed or removed. Each has the name and the first line that ``Marks`` gives
it; a copy that somebody made of one has another name, and is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from google.api_core import exceptions as api

from ledger.errors import LedgerError
from ledger.warehouse.bigquery.clients import ANSWER_SECONDS, ONCE
from ledger.warehouse.bigquery.errors import once
from ledger.warehouse.bigquery.jobs import Jobs
from ledger.warehouse.bigquery.tables import ObjectChange
from ledger.warehouse.scheduled import SCHEDULED, query_text

if TYPE_CHECKING:
    from google.cloud.bigquery_datatransfer import DataTransferServiceClient, TransferConfig

_SOURCE = "scheduled_query"


@dataclass(frozen=True, slots=True)
class Marks:
    """What tells the ledger's schedules of a dataset from all others."""

    project: str
    dataset: str

    def name(self, statement: str) -> str:
        """Return the display name of a schedule."""
        return f"Session ledger {self.dataset}: {statement}"

    def first_line(self, statement: str) -> str:
        """Return the first line of the query of a schedule."""
        return (
            f"-- Made by `ledger deploy` for {self.project}.{self.dataset}: {statement}. Deploy again to change it.\n"
        )

    def statement_of(self, config: TransferConfig) -> str | None:
        """Return the name of the statement that a schedule runs; None if the ledger did not make the schedule."""
        prefix = self.name("")
        name = config.display_name.removeprefix(prefix)
        query = str(dict(config.params).get("query", ""))
        is_ours = config.display_name.startswith(prefix) and query.startswith(self.first_line(name))
        return name if is_ours else None


@dataclass(frozen=True, slots=True)
class ScheduleChange:
    """A change of one schedule.

    Attributes:
        statement: Name of the scheduled statement.
        done: ``created``, ``updated``, ``removed`` or ``unchanged``.
        detail: The schedule and the numbers of days, for people.
        query: The text of the query, which the schedule has or gets; empty if it is removed.
        schedule: When a new schedule runs.
        config: Name of the schedule at the service; None for a new one.
    """

    statement: str
    done: str
    detail: str
    query: str = ""
    schedule: str = ""
    config: str | None = None

    def reported(self) -> ObjectChange:
        """Return the change in the form in which those of tables and views are reported."""
        return ObjectChange("schedule", self.statement, self.done, self.detail)


class Schedules:
    """The scheduled queries of one dataset.

    Args:
        warehouse: A client of the dataset.
        service_account: Address of the account as which new and changed schedules run; None for the caller's.
    """

    def __init__(self, warehouse: Jobs, service_account: str | None = None) -> None:
        self._warehouse = warehouse
        self._service_account = service_account or ""
        self._marks = Marks(warehouse.clients.project, warehouse.dataset.name)

    def plan(self, wanted: Mapping[str, Mapping[str, int]], location: str) -> list[ScheduleChange]:
        """Return what must change so that the dataset has the wanted schedules, and no others of the ledger's.

        When a schedule runs, and whether it is paused, is left as it is: people change that in the console.

        Args:
            wanted: The numbers of days of each statement that is to be scheduled, by name.
            location: The location of the dataset.

        Raises:
            LedgerError: The schedules cannot be listed.
        """
        there = self._listed(location)
        changes = []
        for item in SCHEDULED:
            if item.name not in wanted:
                continue
            numbers = wanted[item.name]
            query = self._marks.first_line(item.name) + query_text(item, *self._place(), numbers)
            detail = _detail(item.schedule, numbers)
            of_statement = there.pop(item.name, [])
            if not of_statement:
                changes.append(ScheduleChange(item.name, "created", detail, query, item.schedule))
                continue
            first, *doubles = of_statement
            # The service does not tell as which account a schedule runs.
            is_same = dict(first.params).get("query") == query and not self._service_account
            done = "unchanged" if is_same else "updated"
            changes.append(
                ScheduleChange(item.name, done, _detail(_when(first), numbers), query, first.schedule, first.name)
            )
            changes += [_removal(item.name, double, "a double") for double in doubles]
        for statement, configs in there.items():
            changes += [_removal(statement, config, "not wanted") for config in configs]
        return changes

    def execute(self, changes: Sequence[ScheduleChange], location: str) -> None:
        """Make the changes of a plan. After an error, make a new plan: what was done is not in it any more.

        Raises:
            LedgerError: A change failed; those before it are made.
        """
        with self._warehouse.clients.transfers() as client:
            self._make(client, changes, location)

    def _make(self, client: DataTransferServiceClient, changes: Sequence[ScheduleChange], location: str) -> None:
        from google.cloud.bigquery_datatransfer import TransferConfig

        for change in changes:
            config = TransferConfig(name=change.config or "", params={"query": change.query})
            if change.done == "created":
                config.display_name = self._marks.name(change.statement)
                config.data_source_id = _SOURCE
                config.schedule = change.schedule
                request: dict[str, Any] = {"parent": self._parent(location), "transfer_config": config}
                self._call("Creating", change, client.create_transfer_config, self._as_account(request))
            elif change.done == "updated":
                paths = ["params", *(["service_account_name"] if self._service_account else [])]
                request = {"transfer_config": config, "update_mask": {"paths": paths}}
                self._call("Updating", change, client.update_transfer_config, self._as_account(request))
            elif change.done == "removed":
                self._remove(client, change)

    def _remove(self, client: DataTransferServiceClient, change: ScheduleChange) -> None:
        try:
            self._call("Removing", change, client.delete_transfer_config, {"name": change.config})
        except LedgerError as error:
            if not isinstance(error.__cause__, api.NotFound):  # else somebody has removed it meanwhile
                raise

    def _call(self, doing: str, change: ScheduleChange, method: Callable[..., Any], request: dict[str, Any]) -> None:
        """Call the service once. A creation whose answer was lost must not be repeated without a new plan."""
        once(
            f"{doing} the schedule {change.statement}",
            lambda: method(request=request, retry=ONCE, timeout=ANSWER_SECONDS),
            place=self._warehouse.clients.place,
        )

    def _as_account(self, request: dict[str, Any]) -> dict[str, Any]:
        return request | ({"service_account_name": self._service_account} if self._service_account else {})

    def _listed(self, location: str) -> dict[str, list[TransferConfig]]:
        """Return the ledger's schedules by the statement that they run, the oldest of each first."""
        with self._warehouse.clients.transfers() as client:
            request = {"parent": self._parent(location), "data_source_ids": [_SOURCE]}
            configs = once(
                "Listing scheduled queries",
                lambda: list(client.list_transfer_configs(request=request, retry=ONCE, timeout=ANSWER_SECONDS)),
                place=self._warehouse.clients.place,
            )
        found: dict[str, list[TransferConfig]] = {}
        for config in sorted(configs, key=lambda it: (it.update_time.timestamp() if it.update_time else 0, it.name)):
            if (statement := self._marks.statement_of(config)) is not None:
                found.setdefault(statement, []).append(config)
        return found

    def _parent(self, location: str) -> str:
        return f"projects/{self._marks.project}/locations/{location.lower()}"

    def _place(self) -> tuple[str, str]:
        return self._marks.project, self._marks.dataset


def _removal(statement: str, config: TransferConfig, why: str) -> ScheduleChange:
    return ScheduleChange(statement, "removed", f"{_when(config)}; {why}", config=config.name)


def _when(config: TransferConfig) -> str:
    return f"{config.schedule}{', paused' if config.disabled else ''}"


def _detail(schedule: str, numbers: Mapping[str, int]) -> str:
    """Return a text such as ``every day 02:37, days 3, lookback_days 8``."""
    return ", ".join((schedule, *(f"{name} {number}" for name, number in numbers.items())))
