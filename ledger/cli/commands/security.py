"""The command that says who may read whose sessions in BigQuery."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from ledger.cli.app import command
from ledger.cli.output.shapes import print_json
from ledger.errors import ConfigurationError
from ledger.extras import require_extra

if TYPE_CHECKING:
    from ledger.warehouse.bigquery.security import Access
    from ledger.warehouse.bigquery.settings import Dataset

COMMANDS: dict[str, click.Command] = {}
_MEMBER = "user:ana@example.com, group:..., serviceAccount:... or domain:example.com"


@command(
    "security",
    "ledger -u bigquery://PROJECT/agents security --full-access serviceAccount:NAME@PROJECT.iam.gserviceaccount.com "
    "--readers group:analysts@example.com",
    "ledger -u bigquery://PROJECT/agents security --views agents_for_analysts --apply",
    into=COMMANDS,
)
@click.option(
    "--full-access",
    multiple=True,
    metavar="MEMBER",
    help="Member that sees all rows: each account that appends, ships, deletes or administers. May be repeated.",
)
@click.option(
    "--readers",
    multiple=True,
    metavar="MEMBER",
    help=f"Member that sees the sessions listed for it: {_MEMBER}. May be repeated.",
)
@click.option("--views", metavar="DATASET", help="Dataset for views that show each account the sessions listed for it.")
@click.option("--apply/--dry-run", "applied", help="Run the statements, or only print them.  [default: --dry-run]")
def security(
    as_json: bool,
    url: str | None,
    full_access: tuple[str, ...],
    readers: tuple[str, ...],
    views: str | None,
    applied: bool,
) -> None:
    """Limit who reads whose sessions in BigQuery, by row access policies or by a dataset of views.

    The table session_readers lists which account may read the sessions of which users; the command creates it empty.
    With --full-access and --readers, policies on the ledger's tables show each reader the sessions listed for it. With
    --views, a second dataset has the ledger's views over those sessions. See docs/security.md.

    Without --apply, the statements are printed, and BigQuery is not called. The command can be repeated; it removes
    nothing.
    """
    require_extra("bigquery")
    from ledger.sdk.opening import DEFAULT_URL
    from ledger.stores.urls import parse_url
    from ledger.warehouse.bigquery.security import Access
    from ledger.warehouse.bigquery.settings import Dataset

    dataset = parse_url(url or DEFAULT_URL)
    if not isinstance(dataset, Dataset):
        raise ConfigurationError(
            "Policies need a ledger or warehouse in BigQuery: name it with --url bigquery://PROJECT/DATASET. Who may "
            "read a SQLite or DuckDB file is said by the permissions of the file."
        )
    access = Access(full_access, readers, views)
    if applied:
        _apply(dataset, access, as_json=as_json)
    else:
        _print_statements(dataset, access, as_json=as_json)


def _print_statements(dataset: Dataset, access: Access, *, as_json: bool) -> None:
    from ledger.warehouse.bigquery.clients import Clients
    from ledger.warehouse.bigquery.security import statements

    bound = list(statements(dataset.project or Clients(dataset).project, dataset.name, access, dataset.location))
    if as_json:
        print_json({"statements": bound})
        return
    for statement in bound:
        click.echo(statement)


def _apply(dataset: Dataset, access: Access, *, as_json: bool) -> None:
    from contextlib import closing

    from ledger.cli.output.render import changes_table
    from ledger.cli.output.tables import emit
    from ledger.warehouse.bigquery.security import READERS, apply
    from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse

    with closing(BigQueryWarehouse(dataset)) as warehouse:
        changes = apply(warehouse, access)
    if as_json:
        print_json({"changes": [asdict(change) for change in changes]})
        return
    emit(changes_table([(change.what, change.name, change.done, change.detail) for change in changes]))
    click.echo(f"Who may read whose sessions: the rows of {READERS}. See docs/security.md.")
