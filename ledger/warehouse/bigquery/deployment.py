"""The deployment of a ledger's objects to a dataset: tables, views and functions, and the scheduled queries."""

from __future__ import annotations

from collections.abc import Mapping

from ledger.warehouse.bigquery.jobs import Jobs
from ledger.warehouse.bigquery.schedules import ScheduleChange, Schedules
from ledger.warehouse.bigquery.tables import ObjectChange, create
from ledger.warehouse.scheduled import SCHEDULED, numbers_of

#: Where BigQuery creates a dataset if nobody says where.
_DEFAULT_LOCATION = "US"


class Deployment:
    """A plan of what to create, update and remove in a dataset, and its execution.

    Args:
        warehouse: A client of the dataset.
        lookback_days: The number of that name for all statements; None for their defaults.
        expire: True to schedule ``expire_sessions``.
        retention_days: The number of days after which ``delete_old_sessions`` deletes sessions; None to delete none.
        service_account: Address of the account as which the scheduled queries run; None for the caller's.

    Raises:
        InvalidInput: A number of days is not a whole number of 1 to 36,525.
    """

    def __init__(
        self,
        warehouse: Jobs,
        *,
        lookback_days: int | None = None,
        expire: bool = False,
        retention_days: int | None = None,
        service_account: str | None = None,
    ) -> None:
        self._warehouse = warehouse
        self._schedules = Schedules(warehouse, service_account)
        given = {"lookback_days": lookback_days, "retention_days": retention_days}
        self._wanted: dict[str, Mapping[str, int]] = {}
        for item in SCHEDULED:
            numbers = numbers_of(item, given)
            if numbers is not None and (expire or item.name != "expire_sessions"):
                self._wanted[item.name] = numbers
        self._planned: list[ScheduleChange] = []

    def plan(self) -> list[ObjectChange]:
        """Return what ``execute`` will do, one entry for each object and each schedule; nothing is changed.

        Raises:
            ConfigurationError: The dataset has other objects under the ledger's names.
            LedgerError: BigQuery cannot be reached, or denies permission.
        """
        objects = create(self._warehouse, dry_run=True)
        self._planned = self._schedules.plan(self._wanted, self._location())
        return [*objects, *(change.reported() for change in self._planned)]

    def execute(self) -> None:
        """Make the changes of the plan: the objects first, which the scheduled queries name.

        Raises:
            LedgerError: A change failed; those before it are made. Plan again and execute the rest.
        """
        create(self._warehouse)
        self._schedules.execute(self._planned, self._location())

    def _location(self) -> str:
        """Return where the dataset is, or will be."""
        dataset = self._warehouse.describe()
        found = self._warehouse.dataset.location if dataset is None else dataset.location
        return found or _DEFAULT_LOCATION
