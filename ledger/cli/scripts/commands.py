"""Commands of three scripts in ``scripts/``. Scripts of the former BigQuery session manager had the same names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from ledger.cli.app import default_user, opened
from ledger.cli.commands.dataset import create, report
from ledger.cli.exits import OneLineErrors
from ledger.cli.output.csv_text import check_csv_safe, print_csv, with_csv_safe
from ledger.cli.output.shapes import print_json
from ledger.cli.output.text import safe
from ledger.cli.session_ids import whole_id
from ledger.errors import SessionNotFound
from ledger.extras import require_extra
from ledger.model.queries import ORDERS, OrderBy
from ledger.settings import LEDGER_SESSION_MAX_TTL_HOURS, LEDGER_URL
from ledger.warehouse.bigquery.settings import Dataset, labels_of

if TYPE_CHECKING:
    from ledger.model.session import Session
    from ledger.warehouse.bigquery.tables import TableOptions


with_url = click.option(
    "-u",
    "--url",
    envvar=LEDGER_URL.name,
    metavar="URL",
    help="URL of the ledger: sqlite:///file.db or bigquery://PROJECT/DATASET.  "
    "[default: LEDGER_URL, else sqlite:///ledger.db]",
)
with_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.command("create_sessions_table", cls=OneLineErrors)
@click.option("--project", help="Google Cloud project.  [default: that of --url]")
@click.option("--dataset", help="BigQuery dataset; created if it does not exist.")
@click.option("--location", help="Location of a new dataset: US, EU, europe-west3 ...  [default: US]")
@click.option(
    "--partition-expiration-days",
    type=click.IntRange(min=1),
    metavar="N",
    help="Drop sessions N days after the day of their creation; must exceed --max-ttl-hours.  [default: never]",
)
@click.option(
    "--max-ttl-hours",
    type=click.FloatRange(min=0, min_open=True),
    metavar="HOURS",
    help="Longest time that a session lives; only with --partition-expiration-days.  "
    f"[default: {LEDGER_SESSION_MAX_TTL_HOURS.name}, else {LEDGER_SESSION_MAX_TTL_HOURS.default}]",
)
@click.option("--kms-key", metavar="KEY", help="Encryption key: projects/P/locations/L/keyRings/R/cryptoKeys/K.")
@click.option("--require-partition-filter", is_flag=True, help="Refuse queries without a filter on created_at.")
@click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="NAME=VALUE",
    help="Label of the dataset and its tables. May be repeated.",
)
@click.option("--dry-run", is_flag=True, help="Print the statements without running them.")
@with_json
@with_url
def create_sessions_table(
    project: str | None, dataset: str | None, dry_run: bool, as_json: bool, url: str | None, **settings: Any
) -> None:
    """Create or update the ledger's tables, views and functions.

    With --project and --dataset, or with a --url of bigquery://PROJECT/DATASET, the command creates them in BigQuery.
    Otherwise it creates a SQLite ledger and the DuckDB file beside it. The command can be repeated: it creates missing
    objects, updates old ones, keeps all rows and drops nothing.
    """
    from ledger.stores.urls import parse_url

    url = _ledger_url(project, dataset, url)
    parsed = parse_url(url)
    if not isinstance(parsed, Dataset):
        names = [name for name, value in settings.items() if value]
        if names and not dry_run:
            option = f"--{names[0].removesuffix('s' if names[0] == 'labels' else '').replace('_', '-')}"
            raise click.UsageError(f"{option} requires --project and --dataset.")
    if dry_run:
        _print_statements(parsed if isinstance(parsed, Dataset) else None, _options(**settings), as_json)
    else:
        _create(url, _options(**settings) if isinstance(parsed, Dataset) else None, as_json)


def _ledger_url(project: str | None, dataset: str | None, url: str | None) -> str:
    """Return the URL of the dataset if --project and --dataset are given, or else the value of --url or its default.

    Raises:
        UsageError: Only one of --project and --dataset is given, or --url is given too.
    """
    from ledger.sdk.opening import DEFAULT_URL
    from ledger.warehouse import catalog

    if (project is None) != (dataset is None):
        raise click.UsageError("Pass both --project and --dataset, or neither.")
    if project is None or dataset is None:
        return url or DEFAULT_URL
    if click.get_current_context().get_parameter_source("url") is ParameterSource.COMMANDLINE:
        raise click.UsageError("Pass --project and --dataset, or --url, not both.")
    catalog.check_names(project, dataset)
    return Dataset(project, dataset).url


def _options(
    location: str | None,
    partition_expiration_days: int | None,
    max_ttl_hours: float | None,
    kms_key: str | None,
    require_partition_filter: bool,
    labels: Sequence[str],
) -> TableOptions:
    require_extra("bigquery")
    from ledger.sdk.opening import longest_ttl
    from ledger.warehouse.bigquery.tables import TableOptions

    if max_ttl_hours is not None and partition_expiration_days is None:
        raise click.UsageError("--max-ttl-hours requires --partition-expiration-days.")
    longest = longest_ttl() if max_ttl_hours is None else timedelta(hours=max_ttl_hours)
    return TableOptions(
        location=location,
        partition_expiration_days=partition_expiration_days,
        max_ttl_hours=None if longest is None else longest / timedelta(hours=1),
        kms_key_name=kms_key,
        require_partition_filter=require_partition_filter,
        labels=labels_of(labels),
    )


def _print_statements(dataset: Dataset | None, options: TableOptions, as_json: bool) -> None:
    from ledger.warehouse.bigquery.clients import Clients
    from ledger.warehouse.bigquery.tables import statements

    if dataset is None:
        bound = list(statements(None, None, options))
    else:
        options = replace(options, location=options.location or dataset.location)
        bound = list(statements(dataset.project or Clients(dataset).project, dataset.name, options))
    if as_json:
        print_json({"statements": bound})
        return
    for statement in bound:
        click.echo(statement)


def _create(url: str, options: TableOptions | None, as_json: bool) -> None:
    from ledger.cli.commands.warehouse import shipping
    from ledger.sdk.queries import own_warehouse, warehouse_of, warehouse_path

    with opened(url, create=True) as ledger:
        own = own_warehouse(ledger)
        if own is not None:
            report(create(own, options), ledger, as_json=as_json)
            return
        with warehouse_of(ledger, shipping) as warehouse:
            warehouse.create()
        beside = str(warehouse_path(ledger))
        if as_json:
            print_json({"url": ledger.url, "store_id": ledger.store.store_id, "warehouse": beside})
        else:
            click.echo(f"The ledger {safe(ledger.url)} is ready, with {safe(beside)} for SQL.")


@click.command("query_sessions", cls=OneLineErrors)
@click.argument("session_id", required=False)
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=10, show_default=True, help="Maximum number of sessions."
)
@click.option(
    "--order-by",
    type=click.Choice(ORDERS),
    default="created",
    show_default=True,
    help="Show the newest sessions, or those with the latest event.",
)
@click.option("--details", is_flag=True, help="Print each session in full.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "csv"]),
    default="table",
    show_default=True,
    help="Output format.",
)
@with_csv_safe
@with_json
@with_url
def query_sessions(
    session_id: str | None,
    limit: int,
    order_by: OrderBy,
    details: bool,
    form: str,
    csv_safe: bool,
    as_json: bool,
    url: str | None,
) -> None:
    """Show the latest state of a session, or of the newest sessions."""
    check_csv_safe(csv_safe, "json" if as_json else form)
    with opened(url) as ledger:
        if session_id is None:
            sessions: Sequence[Session] = ledger.list_sessions(order_by=order_by, limit=limit)
        else:
            session_id = whole_id(ledger, session_id, any_id=True)
            session = ledger.get_session(session_id, messages=details)
            if session is None:
                raise SessionNotFound(
                    f"There is no session {session_id}. List the newest with: query_sessions.py", session_id=session_id
                )
            sessions = [session]
    if as_json or form == "json":
        print_json([session.to_dict() for session in sessions])
    elif form == "csv":
        _print_csv(sessions, csv_safe=csv_safe)
    else:
        from ledger.cli.output.render import session_page, sessions_table
        from ledger.cli.output.tables import emit

        if details or session_id is not None:
            for session in sessions:
                emit(session_page(session, session.messages if session.has_messages else None), "")
        else:
            emit(sessions_table(sessions, order_by))


def _print_csv(sessions: Sequence[Session], *, csv_safe: bool) -> None:
    """Print sessions as CSV with the columns of the view ``sessions``. Arrays and objects are JSON."""
    from ledger.model.session import COLUMNS, in_order

    rows = []
    for session in sessions:
        values = dict(session) | {"tool_call_results": in_order(session.tool_call_results or {}) or None}
        rows.append([values[column] for column in COLUMNS])
    print_csv(COLUMNS, rows, csv_safe=csv_safe)


@click.command("create_test_session", cls=OneLineErrors)
@click.argument("question")
@click.option("--user", help="Owner of the session.  [default: LEDGER_USER, else your login name]")
@with_json
@with_url
def create_test_session(question: str, user: str | None, as_json: bool, url: str | None) -> None:
    """Create a session with a question, and print its id."""
    with opened(url, create=True) as ledger:
        session_id = ledger.create_session(user or default_user(), question)
    if as_json:
        print_json({"session_id": session_id})
    else:
        click.echo(safe(session_id))
