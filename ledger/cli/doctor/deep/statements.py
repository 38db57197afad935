"""Deep checks of statements: transactions that meet, the location of jobs, and what is read."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from typing import Any

from ledger.cli.doctor.deep.check import UNKNOWN, Check, Observed, compared
from ledger.cli.doctor.deep.scratch import VALUE_CHARACTERS, MeasuredWarehouse, Scratch
from ledger.clock import new_id
from ledger.errors import LedgerError
from ledger.model.events import LAST_VERSION
from ledger.model.ids import creation_day
from ledger.model.values import canonical
from ledger.warehouse import catalog
from ledger.warehouse.bigquery.clients import ONCE
from ledger.warehouse.projection import FAR_FUTURE

#: Transactions that start together.
WRITERS = 4
#: Rows that are appended before a look-up is measured, each of some ``VALUE_CHARACTERS`` bytes.
FRESH_ROWS = 200
_CONTEND = """
BEGIN TRANSACTION;
UPDATE `${project}.${dataset}.session_locks` SET moved_at = CURRENT_TIMESTAMP() WHERE TRUE;
INSERT INTO `${project}.${dataset}.session_index` (session_id, created_at, user_id)
VALUES (@session_id, CURRENT_TIMESTAMP(), @user_id);
COMMIT TRANSACTION;
"""
_COMMITTED = "SELECT COUNT(*) AS committed FROM session_index WHERE user_id = @user_id"
#: Statements that should read one day of three. Each has the parameters ``first`` and ``next``, midnights, or
#: ``created``, times of these days.
_PRUNED = {
    "below QUALIFY": catalog.query("read_states"),
    "by a list of times": "SELECT value FROM `${project}.${dataset}.session_events` "
    "WHERE created_at IN UNNEST(@created)",
    "by arguments of a table function": "SELECT value "
    "FROM `${project}.${dataset}.session_state`(@id, @first, @next, NULL)",
    "below UNION ALL, in a table function": "SELECT * FROM `${project}.${dataset}.sessions_between`(@first, @next)",
    "below UNION ALL, in a view": "SELECT version FROM `${project}.${dataset}.session_versions` "
    "WHERE created_at >= @first AND created_at < @next",
}


def contention(scratch: Scratch) -> Observed:
    """Let transactions that update one table start together, and count those that commit."""
    start, errors = threading.Barrier(WRITERS), list[LedgerError]()
    user_id = new_id(scratch.now())

    def write() -> None:
        start.wait()
        try:
            scratch.warehouse.run("doctor", _CONTEND, {"session_id": new_id(scratch.now()), "user_id": user_id})
        except LedgerError as error:
            errors.append(error)

    threads = [threading.Thread(target=write, name=f"doctor-writer-{number}") for number in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    committed = scratch.warehouse.query(_COMMITTED, {"user_id": user_id}, operation="doctor").rows[0][0]
    detail = f"of {WRITERS} transactions {committed} committed and {len(errors)} were cancelled"
    if errors:
        final = [error for error in errors if not error.retryable]
        first = scratch.told((final or errors)[0])
        detail = f"{detail}, {len(final)} of them with an error that is not retried; first: {first}"
        return compared(not final and committed == WRITERS - len(errors), detail)
    return Observed(UNKNOWN, f"{detail}: either none met another, or BigQuery queued them")


def location(scratch: Scratch) -> Observed:
    """Run a statement without a location, once by Google's client and once by the ledger's."""
    dataset = replace(scratch.warehouse.dataset, location=None)
    sql = "SELECT COUNT(*) AS events FROM `${project}.${dataset}.session_locks`"
    with closing(MeasuredWarehouse(dataset, environment=scratch.environment)) as other:
        bound = catalog.bind(sql, other.clients.project, dataset.name)

        def by_client() -> str | None:
            found: str | None = other.clients.rest.query(bound, retry=ONCE, job_retry=ONCE).location
            return found

        def by_ledger() -> str | None:
            other.query(sql, operation="doctor")
            return other.jobs[-1].location

        plain = _place(scratch, lambda: other.request("A job", by_client))
        ran = _place(scratch, by_ledger)
    detail = f"the dataset is in {scratch.location}; a job without a location ran in {plain}, the ledger's in {ran}"
    if scratch.location is None or ran is None:
        return Observed(UNKNOWN, detail)
    return compared(ran.upper() == scratch.location.upper(), detail)


def _place(scratch: Scratch, run: Callable[[], str | None]) -> str | None:
    """Return the location that a function returns, or the message with which BigQuery refused it."""
    try:
        return run()
    except LedgerError as error:
        if error.retryable:
            raise
        return f"another place ({scratch.told(error)})"


def pruning(scratch: Scratch) -> Observed:
    """Compare what statements would read of one day and of three days, by dry runs over settled rows."""
    settled = scratch.settled
    parts, holds = [], True
    for where, sql in _PRUNED.items():
        one, three = (scratch.warehouse.estimate("doctor", sql, _span(scratch, sql, days)) for days in (1, 3))
        if not three:
            return Observed(UNKNOWN, "dry runs estimate no bytes")
        holds = holds and one * 2 < three
        parts.append(f"{where} {_size(one)} of {_size(three)}")
    return compared(holds, f"one day of {len(settled.days)} reads: {'; '.join(parts)}")


def look_up(scratch: Scratch) -> Observed:
    """Look a session up by its id, with settled rows on other days and fresh rows in the streaming buffer."""
    sql = catalog.query("read_states")
    parameters = _span(scratch, sql, 1)
    session_id, created_at = scratch.new_session()
    scratch.append(scratch.rows(session_id, created_at, [canonical("x" * VALUE_CHARACTERS)] * FRESH_ROWS))
    estimate = scratch.warehouse.estimate("doctor", sql, parameters)
    scratch.warehouse.query(sql, parameters, operation="doctor")
    job = scratch.warehouse.jobs[-1]
    processed, billed = job.bytes_processed, scratch.warehouse.bytes_billed(job)
    detail = f"estimate {_size(estimate)}, read {_size(processed)}, billed {_size(billed)}"
    if not estimate or not processed:
        return Observed(UNKNOWN, f"{detail}: the service does not tell all of them")
    fresh = FRESH_ROWS * VALUE_CHARACTERS * 3 // 2
    return compared(processed <= estimate + fresh, f"{detail}; {_size(FRESH_ROWS * VALUE_CHARACTERS)} are fresh")


def _span(scratch: Scratch, sql: str, days: int) -> dict[str, Any]:
    """Return a statement's parameters: the newest settled session, and some days up to the one of its creation."""
    session_id, created_at = scratch.settled.session_ids[0], scratch.settled.days[0]
    first, following = creation_day(created_at)
    first -= timedelta(days=days - 1)
    parameters = {
        "id": session_id,
        "session_ids": [session_id],
        "first": first,
        "next": following,
        "created": [created_at - timedelta(days=back) for back in range(days)],
        "created_from": first,
        "created_until": following,
        "at_version": LAST_VERSION,
        "at_time": FAR_FUTURE,
        "with_messages": True,
    }
    return {name: value for name, value in parameters.items() if re.search(rf"@{name}\b", sql)}


def _size(count: int | None) -> str:
    return "an unknown number of bytes" if count is None else f"{count / 1e6:,.1f} MB"


CHECKS = (
    Check(
        "transactions that meet",
        "all but one are cancelled with an error that is retried, and write nothing",
        "ledger/warehouse/bigquery/reasons.py",
        "elementary issue 1109; multi-statement transactions, concurrency",
        150,
        contention,
    ),
    Check(
        "a job without a location",
        "the ledger's jobs run where the dataset is, whether or not its URL has a location",
        "ledger/warehouse/bigquery/jobs.py",
        "snowplow/sql-runner issue 173",
        20,
        location,
    ),
    Check(
        "pruning of days",
        "filters and arguments on created_at reach the table below QUALIFY and UNION ALL",
        "sql/functions/session_state.sql, sql/views/sessions.sql",
        "none",
        0,
        pruning,
    ),
    Check(
        "bytes of a look-up",
        "a look-up by id reads its day and the rows in the streaming buffer, and no other day",
        "ledger/warehouse/projection.py",
        "estimating costs of clustered tables; streaming buffer",
        20,
        look_up,
    ),
)
