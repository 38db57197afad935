"""Deep checks of streams: new tables, new columns, and changes to rows that have just been appended."""

from __future__ import annotations

import pyarrow as pa

from ledger.cli.doctor.deep.check import Check, Observed, compared
from ledger.cli.doctor.deep.scratch import Scratch
from ledger.errors import LedgerError, StoreError
from ledger.model.values import canonical
from ledger.warehouse.bigquery import streams
from ledger.warehouse.bigquery.jobs import NEW_OBJECT_SECONDS

#: Seconds after which an append of a new column is tried over a new connection.
SAME_CONNECTION_SECONDS = 30.0
_CREATE = "CREATE TABLE `${{project}}.${{dataset}}.{table}` LIKE `${{project}}.${{dataset}}.session_events`"
_OF_SESSION = "session_id = @session_id AND created_at = @created_at"
_ERASE = f"UPDATE `${{project}}.${{dataset}}.session_events` SET value = NULL WHERE {_OF_SESSION}"  # noqa: S608 - a constant
_DELETE = f"""
BEGIN TRANSACTION;
DELETE FROM `${{project}}.${{dataset}}.session_events` WHERE {_OF_SESSION};
COMMIT TRANSACTION;
"""  # noqa: S608 - a constant


def new_table(scratch: Scratch) -> Observed:
    """Create a table, and append to it at once by the default stream and by a stream of its own."""
    table = "doctor_new_table"
    warehouse = scratch.warehouse
    warehouse.run("doctor", _CREATE.format(table=table))
    rows = scratch.rows(*scratch.new_session(), [canonical(1)])
    transport = warehouse.make_transport()
    try:
        default = scratch.until_accepted(lambda: transport.send(table, rows), NEW_OBJECT_SECONDS)
    finally:
        transport.close()
    if warehouse.dataset.transport == "insertall":
        return compared(default.accepted, f"insertAll: {default}")
    made: list[str] = []
    with scratch.single_attempts() as single:
        creation = scratch.until_accepted(lambda: made.append(streams.create(single, table)), NEW_OBJECT_SECONDS)
        detail = f"default stream: {default}; creating a stream: {creation}"
        if not made:
            return compared(False, detail)
        stream = streams.WriteStream(single, made[0])
        try:
            own = scratch.until_accepted(lambda: stream.append(rows, 0), NEW_OBJECT_SECONDS)
        finally:
            stream.close()
    return compared(default.accepted and own.accepted, f"{detail}; appending to it: {own}")


def new_column(scratch: Scratch) -> Observed:
    """Add a column to a table with an open connection, and append rows with and without the column."""
    table = "doctor_new_column"
    warehouse = scratch.warehouse
    warehouse.run("doctor", _CREATE.format(table=table))
    old = scratch.rows(*scratch.new_session(), [canonical(1)])
    new = pa.RecordBatch.from_arrays([*old.columns, pa.array(["x"])], names=[*old.schema.names, "doctor_added"])
    transport = warehouse.make_transport()
    try:
        ready = scratch.until_accepted(lambda: transport.send(table, old), NEW_OBJECT_SECONDS)
        if not ready.accepted:
            raise StoreError(f"The new table takes no rows: {ready}")
        alter = f"ALTER TABLE `${{project}}.${{dataset}}.{table}` ADD COLUMN doctor_added STRING"
        warehouse.run("doctor", alter)
        before = scratch.until_accepted(lambda: transport.send(table, old), 0)
        same = scratch.until_accepted(lambda: transport.send(table, new), SAME_CONNECTION_SECONDS)
        detail = f"rows without it: {before}; rows with it, on the open connection: {same}"
        accepted = same.accepted
        if not accepted:
            transport.disconnect(table)
            other = scratch.until_accepted(lambda: transport.send(table, new), NEW_OBJECT_SECONDS)
            detail, accepted = f"{detail}; on a new connection: {other}", other.accepted
    finally:
        transport.close()
    return compared(before.accepted and accepted, detail)


def changes_to_fresh_rows(scratch: Scratch) -> Observed:
    """Change rows that were just appended, by a single statement and in a transaction."""
    session_id, created_at = scratch.new_session()
    scratch.append(scratch.rows(session_id, created_at, [canonical(1)]))
    parameters = {"session_id": session_id, "created_at": created_at}
    inside = _refusal(scratch, _DELETE, parameters)
    if inside is None:
        session_id, created_at = scratch.new_session()
        scratch.append(scratch.rows(session_id, created_at, [canonical(1)]))
        parameters = {"session_id": session_id, "created_at": created_at}
    outside = _refusal(scratch, _ERASE, parameters)
    detail = f"a single statement is {_told(outside)}; in a transaction a statement is {_told(inside)}"
    if inside is None:
        detail = f"{detail}, so BigQuery is kinder than assumed"
    return compared(outside is None and inside is not None, detail)


def _refusal(scratch: Scratch, sql: str, parameters: dict[str, object]) -> str | None:
    """Run a statement, and return the message with which it is refused for good; None if it is accepted."""
    try:
        scratch.warehouse.ask("doctor", sql, parameters)
    except LedgerError as error:
        if error.retryable:
            raise
        return scratch.told(error)
    return None


def _told(refusal: str | None) -> str:
    return "accepted" if refusal is None else f"refused ({refusal})"


CHECKS = (
    Check(
        "a new table",
        f"streams may answer NOT_FOUND at first; appends are accepted within {NEW_OBJECT_SECONDS:.0f} s",
        "ledger/warehouse/bigquery/streams.py",
        "apache/beam PR 38132; google-cloud-go issue 12449; supabase/etl PR 862",
        0,
        new_table,
    ),
    Check(
        "a new column and an open stream",
        f"rows without the column go on; rows with it are accepted within {NEW_OBJECT_SECONDS:.0f} s",
        "ledger/warehouse/bigquery/warehouse.py",
        "snowplow-bigquery-loader issues 366 and 367",
        0,
        new_column,
    ),
    Check(
        "changes to rows just appended",
        "allowed by single statements, refused in a transaction",
        "sql/statements/delete_sessions.sql",
        "Storage Write API, limitations",
        60,
        changes_to_fresh_rows,
    ),
)
