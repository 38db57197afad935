"""``ledger sql``: run GoogleSQL over the ledger, in BigQuery or on a DuckDB file."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from ledger.cli.app import command
from ledger.cli.commands.maintenance import with_attached
from ledger.cli.commands.relay import with_warehouse
from ledger.cli.output.csv_text import check_csv_safe, print_csv, with_csv_safe
from ledger.cli.output.progress import progress
from ledger.cli.output.shapes import print_json, with_float_texts
from ledger.cli.output.text import counted, plain
from ledger.cli.values import decode_text, parse_pairs
from ledger.errors import InvalidInput
from ledger.sdk.queries import warehouse_of

if TYPE_CHECKING:
    from ledger.warehouse.answer import Answer, Estimate
    from ledger.warehouse.schema import SchemaColumn

COMMANDS: dict[str, click.Command] = {}
FORMATS = ("table", "json", "csv")
#: Maximum number of rows that a table shows, because it takes long to compute the column widths of more rows.
TABLE_ROWS = 1000


@command(
    "sql",
    'ledger sql "SELECT status, COUNT(*) AS sessions FROM sessions GROUP BY status"',
    'ledger sql "SELECT * FROM tool_calls WHERE session_id = @id" --param id=SESSION_ID --format csv',
    "ledger sql - < report.sql",
    "ledger sql --estimate - < report.sql",
    'ledger sql "SELECT COUNT(*) AS sessions FROM sessions" --warehouse duckdb:///other.duckdb',
    into=COMMANDS,
)
@click.argument("statement", metavar="SELECT")
@click.option(
    "--param",
    "params",
    multiple=True,
    metavar="NAME=TEXT|NAME:=JSON",
    help="Value of @NAME: text, or JSON after := (a number, a boolean, null, text, or an array of one of these). May "
    "be repeated with other names.",
)
@click.option("--format", "form", type=click.Choice(FORMATS), default="table", show_default=True, help="Output format.")
@with_csv_safe
@with_warehouse
@click.option(
    "--estimate",
    is_flag=True,
    help="Print how many bytes BigQuery would read, and their price; run nothing. Rows that were just appended are not "
    "counted.",
)
def sql(
    as_json: bool,
    url: str | None,
    statement: str,
    params: tuple[str, ...],
    form: str,
    csv_safe: bool,
    warehouse: str | None,
    estimate: bool,
) -> None:
    """Run a GoogleSQL SELECT over the ledger. SELECT may be - for stdin.

    If the ledger is in BigQuery, the query runs there, and BigQuery bills for it; a condition on created_at lowers the
    price, and --estimate tells it before. If the ledger is a SQLite file, the query runs on its warehouse
    (--warehouse) or, without one, on a DuckDB file beside it (ledger.duckdb for ledger.db). Waiting rows are shipped
    first.

    `ledger schema` lists the views, tables and functions.
    """
    check_csv_safe(csv_safe, "json" if as_json else form)
    text = decode_text(sys.stdin.buffer.read(), "The statement") if statement == "-" else statement
    parameters = parse_pairs(params, "--param")
    with with_attached(url, warehouse) as ledger, _naming_file(statement):
        if estimate:
            found = ledger.estimate_sql(text, parameters)
        else:
            with warehouse_of(ledger, shipping) as queried:
                answer = queried.query(text, parameters)
    if estimate:
        _print_estimate(found, as_json=as_json or form == "json")
    else:
        print_answer(answer, "json" if as_json else form, csv_safe=csv_safe)


@contextmanager
def _naming_file(statement: str) -> Iterator[None]:
    """If a statement is refused in the block and is the path of a file, say how to run the file."""
    try:
        yield
    except InvalidInput as error:
        if statement == "-" or not os.path.isfile(statement):  # noqa: PTH113 - False for any text that is no path
            raise
        said = f"{statement} is a file, not a statement; run it with: ledger sql - < {shlex.quote(statement)}"
        raise InvalidInput(said) from error


def _print_estimate(found: Estimate, *, as_json: bool) -> None:
    from ledger.cli.commands.cost import dollars

    if as_json:
        print_json({"bytes_processed": found.bytes_processed, "cost_usd": found.cost_usd})
    elif found.bytes_processed is None or found.cost_usd is None:
        click.echo("Nothing would be billed: the warehouse is a DuckDB file.")
    else:
        click.echo(
            f"{counted(found.bytes_processed, 'byte')} would be read, {dollars(found.cost_usd)} on demand; at least "
            "10 MB are billed for each table."
        )


@command("schema", "ledger schema", "ledger schema tool_calls", "ledger schema --json", into=COMMANDS)
@click.argument("name", metavar="[VIEW]", required=False)
def schema(as_json: bool, url: str | None, name: str | None) -> None:
    """List the views, tables and functions that `ledger sql` can name, or the columns of one of them.

    The list is the same for every ledger; no ledger is opened.
    """
    from ledger.cli.output.tables import emit, rows_table
    from ledger.warehouse.schema import schema as schema_of

    objects = schema_of(name)
    if as_json:
        print_json({"objects": [asdict(item) for item in objects]})
    elif name is None:
        emit(rows_table(("kind", "name", "description"), [(it.kind, it.name, it.description) for it in objects]))
    else:
        (item,) = objects
        click.echo(f"{item.kind} {item.name}: {item.description}\nOne row per {item.grain}\n")
        if item.parameters:
            click.echo(f"{item.call}\n")
            emit(rows_table(("parameter", "type", "description"), _described(item.parameters)))
            click.echo()
        emit(rows_table(("column", "type", "description"), _described(item.columns)))


def _described(columns: Iterable[SchemaColumn]) -> list[tuple[str, str, str]]:
    # The fields of a STRUCT would make the column too wide; --json and docs/sql.md have them.
    return [(it.name, re.sub(r"STRUCT<.*>(?=>)", "STRUCT", it.type), it.description) for it in columns]


def shipping(waiting: int) -> AbstractContextManager[Callable[[int], None]]:
    """Show the progress of shipping waiting rows to a warehouse; see ``warehouse_of``."""
    return progress("Shipping rows", waiting)


def print_answer(answer: Answer, form: str, *, csv_safe: bool = False) -> None:
    """Print an answer as a table, JSON or CSV. Control characters are escaped."""
    from ledger.cli.output.tables import emit, rows_table

    if form == "json":
        rows = list(answer)
        may_be_infinite = any("FLOAT64" in kind for kind in answer.types)
        told = {name: getattr(answer, name) for name in ("bytes_processed", "bytes_billed", "cost_usd")}
        billed = {name: value for name, value in told.items() if value is not None}
        print_json({"columns": answer.columns, "rows": with_float_texts(rows) if may_be_infinite else rows, **billed})
    elif form == "csv":
        print_csv(answer.columns, answer.rows, csv_safe=csv_safe)
    else:
        count = len(answer.rows)
        footer = counted(count, "row")
        if count > TABLE_ROWS:
            footer += f", the first {TABLE_ROWS:,} shown; --format csv or json prints all"
        if answer.bytes_processed:
            footer += f"; {counted(answer.bytes_processed, 'byte')} read"
        if answer.bytes_billed and answer.cost_usd is not None:
            from ledger.cli.commands.cost import dollars

            footer += f", {answer.bytes_billed:,} billed, {dollars(answer.cost_usd)}"
        emit(rows_table(answer.columns, answer.rows[:TABLE_ROWS]), plain(footer, "dim"))
