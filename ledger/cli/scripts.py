"""The commands behind ``scripts/``: those that users of the BigQuery session manager know, over this ledger."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from ledger.cli.app import default_user, opened
from ledger.cli.exits import OneLineErrors
from ledger.cli.shapes import print_json, session_object, to_terminal
from ledger.cli.text import safe
from ledger.errors import CapabilityMissing, ConfigurationError, SessionNotFound

if TYPE_CHECKING:
    from ledger.model.session import Session


with_url = click.option(
    "-u",
    "--url",
    envvar="LEDGER_URL",
    metavar="URL",
    help="The ledger.  [default: LEDGER_URL, else sqlite:///ledger.db]",
)


@click.command("create_sessions_table", cls=OneLineErrors)
@click.option("--project", help="The Google Cloud project; left out, the tables are made on this machine.")
@click.option("--dataset", help="The BigQuery dataset.")
@click.option("--location", default="US", show_default=True, help="Where the dataset is.")
@click.option("--partition-expiration-days", type=click.IntRange(min=1), help="Drop sessions this long after creation.")
@click.option("--dry-run", is_flag=True, help="Print the statements and do nothing.")
@with_url
def create_sessions_table(
    project: str | None,
    dataset: str | None,
    location: str,
    partition_expiration_days: int | None,
    dry_run: bool,
    url: str | None,
) -> None:
    """Create the ledger's tables, views and functions.

    With --project, --dataset and --dry-run: print the GoogleSQL for BigQuery. With neither project nor dataset: make
    the SQLite ledger and the DuckDB file beside it. What exists already is kept.
    """
    if (project is None) != (dataset is None):
        raise click.UsageError("Give --project and --dataset together, or neither.")
    if project is None and not dry_run and partition_expiration_days is not None:
        raise click.UsageError("--partition-expiration-days is BigQuery's: give --project and --dataset with it.")
    if dry_run:
        for statement in statements(project, dataset, location, partition_expiration_days):
            click.echo(statement)
    elif project is not None:
        raise CapabilityMissing(
            "This release does not create tables in BigQuery itself; the next one does. Run the statements that "
            "--dry-run prints, where the dataset is to be, for example: create_sessions_table.py ... --dry-run | "
            f"bq --location={location} query --nouse_legacy_sql"
        )
    else:
        _create_here(url)


def statements(
    project: str | None, dataset: str | None, location: str, partition_expiration_days: int | None
) -> Iterator[str]:
    """The statements that create everything, each ended by a semicolon, in an order that works."""
    from ledger.warehouse import catalog

    if project is not None:
        catalog.bind("", project, dataset)  # refuses a name that must not stand in a statement
        if not location.replace("-", "").isalnum():
            raise ConfigurationError(f"{location!r} is no location; it looks like US, EU or europe-west3.")
        yield f"CREATE SCHEMA IF NOT EXISTS `{project}.{dataset}` OPTIONS (location = '{location}');\n"
    for item in catalog.objects():
        yield catalog.bind(catalog.statement(item), project, dataset)
        if partition_expiration_days is not None and "PARTITION BY" in item.source and item.kind == "table":
            name = catalog.bind(f"`${{project}}.${{dataset}}.{item.name}`", project, dataset)
            yield f"ALTER TABLE {name} SET OPTIONS (partition_expiration_days = {partition_expiration_days});\n"


def _create_here(url: str | None) -> None:
    from ledger.cli.warehouse import caught_up, warehouse_path

    with opened(url, create=True) as ledger:
        with caught_up(ledger) as warehouse:
            warehouse.create()
        click.echo(f"Ready: {safe(ledger.url)}, and {safe(str(warehouse_path(ledger)))} for SQL.")


@click.command("query_sessions", cls=OneLineErrors)
@click.argument("session_id", required=False)
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=10, show_default=True, help="At most this many sessions."
)
@click.option("--details", is_flag=True, help="All that is known of each session.")
@click.option("--format", "form", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
@with_url
def query_sessions(session_id: str | None, limit: int, details: bool, form: str, url: str | None) -> None:
    """Show the latest state of one session, or of the newest ones."""
    with opened(url) as ledger:
        if session_id is None:
            found: Sequence[Session] = ledger.list_sessions(limit=limit)
        else:
            session = ledger.get_session(session_id, messages=details)
            if session is None:
                raise SessionNotFound(f"There is no session {session_id}.", session_id=session_id)
            found = [session]
    if form == "json":
        print_json([session_object(session) for session in found])
    elif form == "csv":
        _print_csv(found)
    else:
        from ledger.cli.render import emit, session_page, sessions_table

        if details or session_id is not None:
            for session in found:
                emit(session_page(session, session.messages), "")
        else:
            emit(sessions_table(found))


def _print_csv(sessions: Sequence[Session]) -> None:
    """The columns of the sessions view; arrays and objects as JSON."""
    from ledger.cli.render import cell
    from ledger.model.session import COLUMNS

    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([cell(session[column]) for column in COLUMNS] for session in sessions)
    click.echo(safe(written.getvalue()) if to_terminal() else written.getvalue(), nl=False)


@click.command("create_test_session", cls=OneLineErrors)
@click.argument("question")
@click.option("--user", help="Its owner.  [default: LEDGER_USER, else your login]")
@with_url
def create_test_session(question: str, user: str | None, url: str | None) -> None:
    """Begin a session with a question, and print its id."""
    with opened(url, create=True) as ledger:
        click.echo(safe(ledger.create_session(user or default_user(), question)))
