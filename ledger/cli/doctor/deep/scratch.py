"""A dataset for experiments, which is removed whatever happens, and a client that notes what its statements read."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ledger.cli.commands.dataset import drop
from ledger.clock import Clock, new_id, utc_now
from ledger.errors import LedgerError
from ledger.model.events import SCHEMA_VERSION
from ledger.model.ids import created_at_for
from ledger.model.instants import to_micros
from ledger.outbox import columns
from ledger.warehouse.bigquery.clients import ONCE
from ledger.warehouse.bigquery.settings import Dataset
from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")
#: Time after which BigQuery removes the tables of a scratch dataset that could not be removed, in milliseconds.
EXPIRATION_MS = 3_600_000
#: Maximum bytes billed of one statement in a scratch dataset.
BUDGET_BYTES = 2**30
#: Seconds between two attempts of something that BigQuery does not allow yet.
PAUSE_SECONDS = 1.0
#: Days and bytes of the rows of ``Scratch.settled``: rows per day, and characters of each row's value.
SETTLED_DAYS, SETTLED_ROWS, VALUE_CHARACTERS = 3, 400, 10_000
#: Accounts and ids in messages of BigQuery, and what stands for them in a report.
_PRIVATE = (
    (re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"), "ACCOUNT"),
    (re.compile(r"\bprojects/[^/\s]+"), "projects/PROJECT"),
    (re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "ID"),
)
_SETTLE = """
INSERT INTO `${project}.${dataset}.session_events` (
  session_id, version, event_id, event_type, field, key, value, removed, user_id, occurred_at, recorded_at, created_at,
  schema_version, store_id
)
SELECT
  @ids[OFFSET(day)], number, CONCAT(@ids[OFFSET(day)], '-', CAST(number AS STRING)), 'test.made', 'context',
  CAST(number AS STRING), TO_JSON(REPEAT('x', @characters)), FALSE, 'doctor', @days[OFFSET(day)], @days[OFFSET(day)],
  @days[OFFSET(day)], @schema_version, 'doctor'
FROM UNNEST(GENERATE_ARRAY(0, @last_day)) AS day
CROSS JOIN UNNEST(GENERATE_ARRAY(1, @row_count)) AS number
"""


class Job(NamedTuple):
    """A statement that was run. The attributes are None if the service did not tell them."""

    id: str | None
    location: str | None
    bytes_processed: int | None


class MeasuredWarehouse(BigQueryWarehouse):
    """A warehouse that notes its jobs in ``jobs``."""

    jobs: list[Job]

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.jobs = []

    def _query(self, *args: Any, **settings: Any) -> Any:
        rows = super()._query(*args, **settings)
        self.jobs.append(Job(rows.job_id, rows.location, rows.total_bytes_processed))
        return rows

    def bytes_billed(self, job: Job) -> int | None:
        """Return the bytes that a job billed; None if the service does not tell them."""
        name = job.id
        if name is None:
            return None

        rest = self.clients.rest
        try:
            found: Any = self.request("Looking up a job", lambda: rest.get_job(name, location=job.location, retry=ONCE))
        except LedgerError:
            return None
        billed: int | None = found.total_bytes_billed
        return billed


class SingleAttempts(BigQueryWarehouse):
    """A warehouse that makes each call once, so that a check sees each refusal and measures its own waits."""

    def _retry(self, doing: str, call: Callable[[], T]) -> T:
        return call()


class Attempts(NamedTuple):
    """How long something took to be allowed.

    Attributes:
        refusals: Number of attempts that were refused.
        seconds: Seconds from the first attempt to the end of the last.
        message: Message of the first refusal; an empty string if there was none.
        accepted: True if the last attempt was accepted.
    """

    refusals: int
    seconds: float
    message: str
    accepted: bool

    def __str__(self) -> str:
        if not self.refusals:
            return f"accepted at the first attempt, after {self.seconds:.1f} s"
        times = "once" if self.refusals == 1 else f"{self.refusals} times"
        ended = "then accepted" if self.accepted else "not accepted"
        return f"refused {times}, {ended} after {self.seconds:.0f} s; first: {self.message}"


class Settled(NamedTuple):
    """Rows written by a statement, so that none of them is in the streaming buffer.

    Attributes:
        session_ids: One session a day, the newest first.
        days: The creation times of these sessions.
    """

    session_ids: list[str]
    days: list[datetime]


class Scratch:
    """A dataset with the ledger's tables, views and functions, in which experiments are made.

    Args:
        warehouse: The dataset.
        beside: Name of the dataset beside which it is.
        environment: Environment variables.
        clock, monotonic, sleep: Sources of time.
    """

    def __init__(
        self,
        warehouse: MeasuredWarehouse,
        beside: str,
        environment: Mapping[str, str],
        *,
        clock: Clock = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.warehouse = warehouse
        self.environment = environment
        self._beside = beside
        self.now = clock
        self._monotonic = monotonic
        self._sleep = sleep

    @property
    def location(self) -> str | None:
        """Location of the dataset; None if unknown."""
        return self.warehouse.dataset.location

    def told(self, error: Exception) -> str:
        """Return an error's message on one line, without names of projects, datasets and accounts."""
        clients, name = self.warehouse.clients, self.warehouse.dataset.name
        names = {name: "SCRATCH", self._beside: "DATASET", clients.project: "PROJECT"}
        text = str(error)
        for each, instead in names.items():
            text = re.sub(rf"(?<![\w-]){re.escape(each)}(?![\w-])", instead, text)
        for pattern, instead in _PRIVATE:
            text = pattern.sub(instead, text)
        return " ".join(text.split())

    def new_session(self, *, days_ago: int = 0) -> tuple[str, datetime]:
        """Return a new id and the creation time in it."""
        now = self.now()
        session_id = new_id(now - timedelta(days=days_ago))
        return session_id, created_at_for(session_id, now)

    def rows(
        self, session_id: str, created_at: datetime, texts: Sequence[str], *, field: str = "context", raw: bool = False
    ) -> pa.RecordBatch:
        """Return rows of ``session_events``, one event with a change for each text.

        Args:
            texts: JSON texts, the values of the keys ``0``, ``1`` ...
            raw: True to send each text as it is; False to send it as a relay and a lenient append do.
        """
        import pyarrow

        from ledger.warehouse.arrow_rows import record_batch

        instant = to_micros(created_at)
        row: dict[str, Any] = dict.fromkeys(columns.NAMES)
        row |= {"session_id": session_id, "version": 1, "event_id": new_id(self.now()), "event_type": "test.made"}
        row |= {"field": field, "removed": False, "user_id": "doctor", "store_id": "doctor"}
        row |= {"occurred_at": instant, "recorded_at": instant, "created_at": instant}
        row["schema_version"] = SCHEMA_VERSION
        keys = [""] if field == "status" else [str(number) for number in range(len(texts))]
        changes = zip(keys, texts, strict=True)
        batch = record_batch([tuple((row | {"key": key, "value": text}).values()) for key, text in changes])
        if not raw:
            return batch
        arrays = [
            pyarrow.array(texts, pyarrow.string()) if name == "value" else column
            for name, column in zip(batch.schema.names, batch.columns, strict=True)
        ]
        return pyarrow.RecordBatch.from_arrays(arrays, names=batch.schema.names)

    def single_attempts(self) -> AbstractContextManager[SingleAttempts]:
        """Return a context manager that opens the dataset as a warehouse that repeats no call."""
        return closing(SingleAttempts(self.warehouse.dataset, environment=self.environment))

    def append(self, rows: pa.RecordBatch) -> None:
        """Append rows to ``session_events`` as a lenient append does."""
        self.warehouse.append("session_events", rows)

    def until_accepted(self, attempt: Callable[[], object], seconds: float) -> Attempts:
        """Repeat a call that BigQuery refuses until it is accepted, or for some seconds."""
        began, refusals, message = self._monotonic(), 0, ""
        while True:
            try:
                attempt()
            except LedgerError as error:
                refusals, message = refusals + 1, message or self.told(error)
                accepted = False
            else:
                accepted = True
            passed = self._monotonic() - began
            if accepted or passed >= seconds:
                return Attempts(refusals, passed, message, accepted)
            self._sleep(PAUSE_SECONDS)

    @cached_property
    def settled(self) -> Settled:
        """Rows of some MB on each of three days, which are written at the first use."""
        made = [self.new_session(days_ago=day) for day in range(2, 2 + SETTLED_DAYS)]
        settled = Settled([session_id for session_id, _ in made], [created_at for _, created_at in made])
        parameters = {
            "ids": settled.session_ids,
            "days": settled.days,
            "last_day": SETTLED_DAYS - 1,
            "row_count": SETTLED_ROWS,
            "characters": VALUE_CHARACTERS,
            "schema_version": SCHEMA_VERSION,
        }
        self.warehouse.run("settle", _SETTLE, parameters)
        return settled


@contextmanager
def scratch(
    beside: Dataset, environment: Mapping[str, str], *, kept: Callable[[str], None], **times: Any
) -> Iterator[Scratch]:
    """Context manager that creates a dataset beside another one, and removes it after the block, whatever happens.

    Its tables expire after an hour by themselves, in case that this process is killed.

    Args:
        beside: The dataset whose project, location and transport are used. It need not exist, and is not touched.
        environment: Environment variables.
        kept: Called with a message if the dataset could not be removed.
        times: As for ``Scratch``.

    Raises:
        LedgerError: The dataset or its tables cannot be created.
    """
    name = f"{beside.name}_doctor_{secrets.token_hex(4)}"
    budget = min(BUDGET_BYTES, beside.maximum_bytes_billed)
    location = _location_of(beside, environment)
    place = replace(beside, name=name, location=location, strict=False)
    place = replace(place, maximum_bytes_billed=budget, lookup_maximum_bytes_billed=budget)
    with closing(BigQueryWarehouse(place, environment=environment)) as maker:
        try:
            place = replace(place, location=_create(maker))
            with closing(MeasuredWarehouse(place, environment=environment)) as warehouse:
                warehouse.create()
                yield Scratch(warehouse, beside.name, environment, **times)
        finally:
            try:
                maker.retry_idempotent("Removing the scratch dataset", lambda: drop(maker))
            except LedgerError as error:
                kept(
                    f"The dataset {name} could not be removed: {error} Its tables expire within an hour. Remove it: "
                    f"bq rm -r -f -d {maker.clients.project}:{name}"
                )


def _location_of(dataset: Dataset, environment: Mapping[str, str]) -> str | None:
    """Return the location of a dataset that exists, and otherwise the location of its URL."""
    with closing(BigQueryWarehouse(dataset, environment=environment)) as warehouse:
        found = warehouse.describe()
    return (found and found.location) or dataset.location


def _create(warehouse: BigQueryWarehouse) -> str | None:
    """Create the dataset, and return its location, which BigQuery chooses if none is given."""
    from google.cloud import bigquery

    clients, dataset = warehouse.clients, warehouse.dataset
    wanted = bigquery.Dataset(f"{clients.project}.{dataset.name}")
    wanted.location = dataset.location
    wanted.default_table_expiration_ms = EXPIRATION_MS
    wanted.description = "Scratch dataset of `ledger doctor --deep`; may be removed."

    made = warehouse.request(
        "Creating the scratch dataset", lambda: clients.rest.create_dataset(wanted, exists_ok=True, retry=ONCE)
    )
    location: str | None = made.location
    return location
