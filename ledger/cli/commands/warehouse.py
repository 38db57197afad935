"""GoogleSQL over the ledger: asked of BigQuery where the ledger is there, else of a DuckDB file beside it."""

from __future__ import annotations

import csv
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ledger.cli.app import command, opened
from ledger.cli.output.progress import progress
from ledger.cli.output.shapes import print_json, to_terminal
from ledger.cli.output.text import plain, safe
from ledger.cli.values import parse_pairs, text_of
from ledger.errors import CapabilityMissing, ConfigurationError
from ledger.stores.base import outbox_store, warehouse_store
from ledger.warehouse.urls import parse_warehouse_url

if TYPE_CHECKING:
    from ledger.sdk.ledger import SessionLedger
    from ledger.warehouse.base import Answer, Warehouse
    from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse
    from ledger.warehouse.duckdb.warehouse import DuckDBWarehouse

COMMANDS: dict[str, click.Command] = {}
FORMATS = ("table", "json", "csv")
#: Rows of a table on the screen: fitting columns to very many takes long, and nobody reads them there.
TABLE_ROWS = 1000
#: Seconds to wait while another process brings the same file up to date.
RETRY_TIMEOUT = 60.0


def warehouse_path(ledger: SessionLedger) -> Path:
    """The DuckDB file of a ledger: that of LEDGER_WAREHOUSE, else the one beside it: ledger.db has ledger.duckdb.

    Raises:
        CapabilityMissing: The ledger is no file.
        ConfigurationError: The ledger itself has that name.
    """
    store = outbox_store(ledger.store)
    if store is None:
        raise CapabilityMissing(f"{ledger.url} is no file, so it has no DuckDB file beside it.")
    named = os.environ.get("LEDGER_WAREHOUSE", "")
    if named.startswith("duckdb:"):
        found = parse_warehouse_url(named)
        assert isinstance(found, Path)  # noqa: S101 - by its scheme
        return found
    beside = store.path.with_suffix(".duckdb")
    if beside == store.path:
        raise ConfigurationError(
            f"{store.path} is the ledger itself, so SQL has no file of that name; name the ledger .db."
        )
    return beside


def own_warehouse(ledger: SessionLedger) -> BigQueryWarehouse | None:
    """The warehouse that a ledger in BigQuery is itself; None for a ledger elsewhere."""
    store = warehouse_store(ledger.store)
    if store is None:
        return None
    from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse

    assert isinstance(store.warehouse, BigQueryWarehouse)  # noqa: S101 - there is no other such store
    return store.warehouse


@contextmanager
def warehouse_of(ledger: SessionLedger) -> Iterator[Warehouse]:
    """The ledger's warehouse, with all that the ledger has recorded and nothing else.

    A ledger in BigQuery is its own; one in a SQLite file has a DuckDB file beside it, which is caught up first.

    Raises:
        ConfigurationError: The file has rows that the ledger has not: another ledger's, or from before it was restored.
    """
    own = own_warehouse(ledger)
    if own is not None:
        yield own
        return
    from ledger.warehouse.duckdb.warehouse import DuckDBWarehouse

    beside = DuckDBWarehouse(warehouse_path(ledger))
    catch_up(ledger, beside)
    yield beside


def catch_up(ledger: SessionLedger, beside: DuckDBWarehouse) -> int:
    """Ship to a DuckDB file what the ledger has recorded, and return how many rows that was.

    Raises:
        ConfigurationError: The file has another ledger's rows.
    """
    from ledger.relay.background import sync_now
    from ledger.tiers.opening import outbox_of, relay_between
    from ledger.warehouse.urls import duckdb_url

    own = {"own": ledger.store.store_id}
    if beside.query("SELECT store_id FROM relay_batches WHERE store_id != @own LIMIT 1", own).rows:
        raise ConfigurationError(
            f"{beside.path} has rows of another ledger than {ledger.url}, which would be counted with its own. "
            "Move it away; it is made again from the ledger."
        )
    outbox = outbox_of(ledger.store, duckdb_url(beside.path))
    relay = relay_between(ledger.store, beside)
    try:
        with progress("Catching up, rows", outbox.status().waiting_rows) as advance:
            return sync_now(relay, outbox, timeout=RETRY_TIMEOUT, progress=advance)
    finally:
        relay.close()


@command(
    "sql",
    'ledger sql "SELECT status, COUNT(*) AS sessions FROM sessions GROUP BY status"',
    'ledger sql "SELECT * FROM tool_calls WHERE session_id = @id" --param id=SESSION_ID --format csv',
    "ledger sql - < report.sql",
    into=COMMANDS,
)
@click.argument("statement", metavar="SELECT")
@click.option(
    "--param",
    "params",
    multiple=True,
    metavar="NAME=TEXT|NAME:=JSON",
    help="The value of @NAME: text, or a JSON number or truth value. May be repeated.",
)
@click.option("--format", "form", type=click.Choice(FORMATS), default="table", show_default=True, help="Of the answer.")
def sql(as_json: bool, url: str | None, statement: str, params: tuple[str, ...], form: str) -> None:
    """Answer a GoogleSQL SELECT over the ledger; - reads it from standard input.

    A ledger in BigQuery is asked there, which costs what BigQuery charges for reading: name a range of created_at. For
    one in a SQLite file the same SQL is answered by a DuckDB file beside it (ledger.db has ledger.duckdb), which is
    brought up to date first. Tables: session_events, session_heads, session_index. Views: sessions, session_fields,
    session_history, session_versions, tool_calls, messages, conflicts.
    """
    text = text_of(sys.stdin.buffer.read(), "The statement") if statement == "-" else statement
    with opened(url) as ledger, warehouse_of(ledger) as warehouse:
        answer = warehouse.query(text, parse_pairs(params, "--param"))
    print_answer(answer, "json" if as_json else form)


def print_answer(answer: Answer, form: str) -> None:
    """An answer as a table, JSON or CSV. CSV goes into files as it is; to a terminal without control characters."""
    from ledger.cli.output.render import cell, emit, rows_table

    if form == "json":
        print_json({"columns": answer.columns, "rows": as_rows(answer)})
    elif form == "csv":
        written = io.StringIO()
        writer = csv.writer(written, lineterminator="\n")
        writer.writerow(answer.columns)
        writer.writerows([cell(value) for value in row] for row in answer.rows)
        click.echo(safe(written.getvalue()) if to_terminal() else written.getvalue(), nl=False)
    else:
        count = len(answer.rows)
        said = f"{count:,} {'row' if count == 1 else 'rows'}"
        if count > TABLE_ROWS:
            said += f", the first {TABLE_ROWS:,} shown; --format csv or json gives all"
        emit(rows_table(answer.columns, answer.rows[:TABLE_ROWS]), plain(said, "dim"))


def as_rows(answer: Answer) -> list[dict[str, Any]]:
    """Rows as mappings of column to value."""
    return [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]
