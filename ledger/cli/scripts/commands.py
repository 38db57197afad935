"""The commands behind ``scripts/``: those that users of the BigQuery session manager know, over this ledger."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from ledger.cli.app import default_user, opened
from ledger.cli.commands.dataset import create, report
from ledger.cli.exits import OneLineErrors
from ledger.cli.output.shapes import in_order, print_json, session_object, to_terminal
from ledger.cli.output.text import safe
from ledger.errors import SessionNotFound
from ledger.extras import require_extra
from ledger.settings import LEDGER_URL
from ledger.warehouse.bigquery.settings import Dataset, labels_of

if TYPE_CHECKING:
    from ledger.model.session import Session
    from ledger.warehouse.bigquery.tables import TableOptions


with_url = click.option(
    "-u",
    "--url",
    envvar=LEDGER_URL.name,
    metavar="URL",
    help="The ledger: sqlite:///file.db or bigquery://PROJECT/DATASET.  [default: LEDGER_URL, else sqlite:///ledger.db]",
)
with_json = click.option("--json", "as_json", is_flag=True, help="Answer as JSON, for programs.")


@click.command("create_sessions_table", cls=OneLineErrors)
@click.option("--project", help="The Google Cloud project; without one, --url says where.")
@click.option("--dataset", help="The BigQuery dataset; made where it is missing.")
@click.option("--location", help="Of a dataset that is made now: US, EU, europe-west3 ...  [default: US]")
@click.option(
    "--partition-expiration-days",
    type=click.IntRange(min=1),
    metavar="N",
    help="Drop sessions this long after their creation; 8 days or more.  [default: never]",
)
@click.option("--kms-key", metavar="KEY", help="Encrypt with projects/P/locations/L/keyRings/R/cryptoKeys/K.")
@click.option("--require-partition-filter", is_flag=True, help="Refuse queries that name no range of created_at.")
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="Of dataset and tables. May be repeated.")
@click.option("--dry-run", is_flag=True, help="Print the statements and do nothing.")
@with_json
@with_url
def create_sessions_table(
    project: str | None, dataset: str | None, dry_run: bool, as_json: bool, url: str | None, **settings: Any
) -> None:
    """Create the ledger's tables, views and functions, and say what was done.

    In BigQuery with --project and --dataset, or where --url is bigquery://PROJECT/DATASET; else the SQLite ledger and
    the DuckDB file beside it. It can be repeated: what is missing is made, what is old is brought up to date, rows are
    kept, and nothing is ever dropped.
    """
    from ledger.stores.urls import parse_url

    url = _where(project, dataset, url)
    place = parse_url(url)
    if not isinstance(place, Dataset):
        given = [name for name, value in settings.items() if value]
        if given and not dry_run:
            option = f"--{given[0].removesuffix('s' if given[0] == 'labels' else '').replace('_', '-')}"
            raise click.UsageError(f"{option} is BigQuery's: give --project and --dataset with it.")
    if dry_run:
        _print_statements(place if isinstance(place, Dataset) else None, _options(**settings), as_json)
    else:
        _create(url, _options(**settings) if isinstance(place, Dataset) else None, as_json)


def _where(project: str | None, dataset: str | None, url: str | None) -> str:
    """The ledger's URL, of two options or as it was given."""
    from ledger.sdk.opening import DEFAULT_URL
    from ledger.warehouse import catalog

    if (project is None) != (dataset is None):
        raise click.UsageError("Give --project and --dataset together, or neither.")
    if project is None or dataset is None:
        return url or DEFAULT_URL
    if click.get_current_context().get_parameter_source("url") is ParameterSource.COMMANDLINE:
        raise click.UsageError("Give --project and --dataset, or --url, not both.")
    catalog.check_names(project, dataset)
    return Dataset(project, dataset).url


def _options(
    location: str | None,
    partition_expiration_days: int | None,
    kms_key: str | None,
    require_partition_filter: bool,
    labels: Sequence[str],
) -> TableOptions:
    require_extra("bigquery")
    from ledger.warehouse.bigquery.tables import TableOptions

    return TableOptions(
        location=location,
        partition_expiration_days=partition_expiration_days,
        kms_key_name=kms_key,
        require_partition_filter=require_partition_filter,
        labels=labels_of(labels),
    )


def _print_statements(place: Dataset | None, options: TableOptions, as_json: bool) -> None:
    from ledger.warehouse.bigquery.clients import Clients
    from ledger.warehouse.bigquery.tables import statements

    if place is None:
        found = list(statements(None, None, options))
    else:
        options = replace(options, location=options.location or place.location)
        found = list(statements(place.project or Clients(place).project, place.name, options))
    if as_json:
        print_json({"statements": found})
        return
    for statement in found:
        click.echo(statement)


def _create(url: str, options: TableOptions | None, as_json: bool) -> None:
    from ledger.cli.commands.warehouse import own_warehouse, warehouse_of, warehouse_path

    with opened(url, create=True) as ledger:
        own = own_warehouse(ledger)
        if own is not None:
            report(create(own, options), ledger, as_json=as_json)
            return
        with warehouse_of(ledger) as warehouse:
            warehouse.create()
        beside = str(warehouse_path(ledger))
        if as_json:
            print_json({"url": ledger.url, "store_id": ledger.store.store_id, "warehouse": beside})
        else:
            click.echo(f"Ready: {safe(ledger.url)}, and {safe(beside)} for SQL.")


@click.command("query_sessions", cls=OneLineErrors)
@click.argument("session_id", required=False)
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=10, show_default=True, help="At most this many sessions."
)
@click.option("--details", is_flag=True, help="All that is known of each session.")
@click.option("--format", "form", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
@with_json
@with_url
def query_sessions(
    session_id: str | None, limit: int, details: bool, form: str, as_json: bool, url: str | None
) -> None:
    """Show the latest state of one session, or of the newest ones."""
    with opened(url) as ledger:
        if session_id is None:
            found: Sequence[Session] = ledger.list_sessions(limit=limit)
        else:
            session = ledger.get_session(session_id, messages=details)
            if session is None:
                raise SessionNotFound(f"There is no session {session_id}.", session_id=session_id)
            found = [session]
    if as_json or form == "json":
        print_json([session_object(session) for session in found])
    elif form == "csv":
        _print_csv(found)
    else:
        from ledger.cli.output.render import emit, session_page, sessions_table

        if details or session_id is not None:
            for session in found:
                emit(session_page(session, session.messages), "")
        else:
            emit(sessions_table(found))


def _print_csv(sessions: Sequence[Session]) -> None:
    """The columns of the sessions view; arrays and objects as JSON."""
    from ledger.cli.output.render import cell
    from ledger.model.session import COLUMNS

    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(COLUMNS)
    for session in sessions:
        values = dict(session) | {"tool_call_results": in_order(session.tool_call_results or {}) or None}
        writer.writerow([cell(values[column]) for column in COLUMNS])
    click.echo(safe(written.getvalue()) if to_terminal() else written.getvalue(), nl=False)


@click.command("create_test_session", cls=OneLineErrors)
@click.argument("question")
@click.option("--user", help="Its owner.  [default: LEDGER_USER, else your login]")
@with_json
@with_url
def create_test_session(question: str, user: str | None, as_json: bool, url: str | None) -> None:
    """Begin a session with a question, and print its id."""
    with opened(url, create=True) as ledger:
        made = ledger.create_session(user or default_user(), question)
    if as_json:
        print_json({"session_id": made})
    else:
        click.echo(safe(made))
