"""``ledger sql``: run GoogleSQL over the ledger, in BigQuery or, for a SQLite ledger, on its DuckDB file."""

from __future__ import annotations

import csv
import io
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
from ledger.cli.values import decode_text, parse_pairs
from ledger.errors import CapabilityMissing, ConfigurationError
from ledger.holding import ending
from ledger.settings import LEDGER_WAREHOUSE
from ledger.stores.base import outbox_store, warehouse_store
from ledger.warehouse.urls import parse_warehouse_url

if TYPE_CHECKING:
    from ledger.sdk.ledger import SessionLedger
    from ledger.warehouse.base import Answer, Warehouse
    from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse
    from ledger.warehouse.duckdb.warehouse import DuckDBWarehouse

COMMANDS: dict[str, click.Command] = {}
FORMATS = ("table", "json", "csv")
#: Maximum number of rows that a table shows, because it takes long to compute the column widths of more rows.
TABLE_ROWS = 1000
#: Maximum time, in seconds, to wait for another process that ships to the same file.
RETRY_TIMEOUT = 60.0


def warehouse_path(ledger: SessionLedger) -> Path:
    """Return the path of the DuckDB file of a SQLite ledger.

    It is the path in LEDGER_WAREHOUSE if that is a ``duckdb:`` URL. Otherwise the file is beside the ledger, for
    example ledger.duckdb for ledger.db.

    Raises:
        CapabilityMissing: The ledger is not a SQLite file.
        ConfigurationError: The ledger's own name ends with .duckdb, so that both files would have the same path.
    """
    store = outbox_store(ledger.store)
    if store is None:
        raise CapabilityMissing(f"{ledger.url} is not a file, so it has no DuckDB file beside it.")
    setting = LEDGER_WAREHOUSE.text() or ""
    if setting.startswith("duckdb:"):
        configured = parse_warehouse_url(setting)
        assert isinstance(configured, Path)  # noqa: S101 - implied by the scheme
        return configured
    beside = store.path.with_suffix(".duckdb")
    if beside == store.path:
        raise ConfigurationError(
            f"{store.path} is the ledger itself, so its DuckDB file cannot have that name. Give the ledger a name that "
            "ends with .db."
        )
    return beside


def own_warehouse(ledger: SessionLedger) -> BigQueryWarehouse | None:
    """Return the warehouse of a ledger in BigQuery. For any other ledger, return None."""
    store = warehouse_store(ledger.store)
    if store is None:
        return None
    from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse

    assert isinstance(store.warehouse, BigQueryWarehouse)  # noqa: S101 - there is no other such store
    return store.warehouse


@contextmanager
def warehouse_of(ledger: SessionLedger) -> Iterator[Warehouse]:
    """Open the ledger's warehouse for the block of a ``with`` statement. All rows of the ledger are in it.

    A ledger in BigQuery is its own warehouse. The warehouse of a SQLite ledger is its DuckDB file. The waiting rows are
    shipped to this file before the block begins.

    Raises:
        ConfigurationError, LeaseHeld: As for ``catch_up``.
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
    """Ship the waiting rows to a DuckDB file, and return the number of rows that this call shipped.

    If another process is shipping rows to the file, wait until that process has shipped them.

    Raises:
        ConfigurationError: The file has rows of another ledger.
        LeaseHeld: Another process ships to the file, and rows still waited after ``RETRY_TIMEOUT`` seconds.
    """
    from ledger.relay.background import sync_now
    from ledger.tiers.opening import outbox_of, relay_between
    from ledger.warehouse.urls import duckdb_url

    own = {"own": ledger.store.store_id}
    if beside.query("SELECT store_id FROM relay_batches WHERE store_id != @own LIMIT 1", own).rows:
        raise ConfigurationError(
            f"{beside.path} has rows of another ledger, not only of {ledger.url}. Move the file away; the next "
            "`ledger sql` creates it again from the ledger."
        )
    outbox = outbox_of(ledger.store, duckdb_url(beside.path))
    relay = relay_between(ledger.store, beside)
    with ending(relay.close), progress("Shipping rows", outbox.status().waiting_rows) as advance:
        return sync_now(relay, outbox, timeout=RETRY_TIMEOUT, progress=advance)


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
    help="Value of @NAME: text, or a JSON number or boolean. May be repeated.",
)
@click.option("--format", "form", type=click.Choice(FORMATS), default="table", show_default=True, help="Output format.")
def sql(as_json: bool, url: str | None, statement: str, params: tuple[str, ...], form: str) -> None:
    """Run a GoogleSQL SELECT over the ledger. SELECT may be - for stdin.

    If the ledger is in BigQuery, the query runs there, and BigQuery bills for it; a condition on created_at lowers the
    price. If the ledger is a SQLite file, the query runs on a DuckDB file beside it (ledger.duckdb for ledger.db), to
    which waiting rows are shipped first.

    Tables: session_events, session_heads, session_index. Views: sessions, session_fields, session_history,
    session_versions, tool_calls, messages, conflicts.
    """
    text = decode_text(sys.stdin.buffer.read(), "The statement") if statement == "-" else statement
    with opened(url) as ledger, warehouse_of(ledger) as warehouse:
        answer = warehouse.query(text, parse_pairs(params, "--param"))
    print_answer(answer, "json" if as_json else form)


def print_answer(answer: Answer, form: str) -> None:
    """Print an answer as a table, JSON or CSV. Control characters are escaped, except in CSV for a file or pipe."""
    from ledger.cli.output.render import cell, emit, rows_table

    if form == "json":
        print_json({"columns": answer.columns, "rows": as_rows(answer)})
    elif form == "csv":
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(answer.columns)
        writer.writerows([cell(value) for value in row] for row in answer.rows)
        click.echo(safe(buffer.getvalue()) if to_terminal() else buffer.getvalue(), nl=False)
    else:
        count = len(answer.rows)
        footer = f"{count:,} {'row' if count == 1 else 'rows'}"
        if count > TABLE_ROWS:
            footer += f", the first {TABLE_ROWS:,} shown; --format csv or json prints all"
        emit(rows_table(answer.columns, answer.rows[:TABLE_ROWS]), plain(footer, "dim"))


def as_rows(answer: Answer) -> list[dict[str, Any]]:
    """Return each row as a dictionary that maps column names to values."""
    return [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]
