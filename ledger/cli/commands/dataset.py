"""Functions that inspect, create and drop the ledger's dataset in BigQuery, and print the changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click

from ledger.cli.output.shapes import print_json
from ledger.errors import StoreRejected
from ledger.warehouse import catalog
from ledger.warehouse.schema import schema

if TYPE_CHECKING:
    from ledger.sdk.ledger import SessionLedger
    from ledger.warehouse.bigquery.tables import ObjectChange, TableOptions
    from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse

#: Timeout, in seconds, of a call to Google's client that is not retried.
SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class DatasetState:
    """The state of a dataset.

    Attributes:
        location: Location of the dataset, or None if it is unknown. An emulator may not know it.
        missing: The ledger's tables, views and functions that the dataset does not have.
        label: Value of the label that tells which release created the dataset's views and functions, or None if the
            dataset has no such label.
    """

    location: str | None
    missing: tuple[catalog.SqlObject, ...]
    label: str | None


def look(warehouse: BigQueryWarehouse, dataset: Any) -> DatasetState:
    """Return the state of a dataset. This reads metadata and no rows.

    Args:
        warehouse: A warehouse on the dataset.
        dataset: The dataset as Google's client returned it.

    Raises:
        LedgerError: The dataset cannot be read.
    """
    from ledger.warehouse.bigquery.clients import ONCE
    from ledger.warehouse.bigquery.errors import once
    from ledger.warehouse.bigquery.tables import CATALOG_LABEL

    rest, name, place = warehouse.clients.rest, warehouse.dataset.name, warehouse.clients.place
    tables = once("Listing tables", lambda: list(rest.list_tables(name, retry=ONCE, timeout=SECONDS)), place=place)
    functions = once(
        "Listing functions", lambda: list(rest.list_routines(name, retry=ONCE, timeout=SECONDS)), place=place
    )
    kinds = {table.table_id: "view" if table.table_type == "VIEW" else "table" for table in tables}
    kinds |= {routine.reference.routine_id: "function" for routine in functions}
    missing = tuple(item for item in catalog.objects() if kinds.get(item.name) != item.kind)
    return DatasetState(dataset.location, missing, dataset.labels.get(CATALOG_LABEL))


def try_views(warehouse: BigQueryWarehouse) -> None:
    """Check that every view can be queried. The query is a dry run, which reads no rows and costs nothing.

    Raises:
        LedgerError: An object or a permission is missing.
    """
    # The view of prices has no days, and those of calls read it.
    views = [it.name for it in schema() if it.kind == "view" and any(each.name == "created_at" for each in it.columns)]
    day = "created_at >= TIMESTAMP '2026-01-01' AND created_at < TIMESTAMP '2026-01-02'"
    sql = " UNION ALL ".join(f"SELECT created_at FROM `${{project}}.${{dataset}}.{view}` WHERE {day}" for view in views)  # noqa: S608 - names of SQL files
    warehouse.dry_run("check_of_views", sql, timeout=SECONDS)


def create(warehouse: BigQueryWarehouse, options: TableOptions | None = None) -> list[ObjectChange]:
    """Create or update a dataset and the ledger's tables, views and functions in it, then check all of them.

    The check looks up every object, and does a dry run of a query over every view.

    Returns:
        One entry per object; an object may be unchanged.

    Raises:
        ConfigurationError: The dataset is in another location, or has other objects under the ledger's names.
        StoreRejected: An object is missing after it was created.
        LedgerError: BigQuery cannot be reached, or denies permission.
    """
    from ledger.warehouse.bigquery.clients import ONCE
    from ledger.warehouse.bigquery.errors import once
    from ledger.warehouse.bigquery.tables import create

    changes = create(warehouse, options)
    rest, name = warehouse.clients.rest, warehouse.dataset.name
    dataset = once(
        "Looking up the dataset",
        lambda: rest.get_dataset(name, retry=ONCE, timeout=SECONDS),
        place=warehouse.clients.place,
    )
    if missing := look(warehouse, dataset).missing:
        raise StoreRejected(
            f"{', '.join(item.name for item in missing)} is missing from {warehouse.dataset.url} after it was created: "
            "another process dropped it. Run the command again."
        )
    try_views(warehouse)
    return changes


def drop(warehouse: BigQueryWarehouse) -> None:
    """Drop a dataset and its contents. Do nothing if the dataset does not exist.

    Raises:
        LedgerError: The call failed. The dataset may still exist.
    """
    from ledger.warehouse.bigquery.clients import ONCE
    from ledger.warehouse.bigquery.errors import once

    rest, name = warehouse.clients.rest, warehouse.dataset.name
    once(
        f"Dropping {warehouse.dataset.url}",
        lambda: rest.delete_dataset(name, delete_contents=True, not_found_ok=True, retry=ONCE, timeout=SECONDS),
    )


def report(changes: Sequence[ObjectChange], ledger: SessionLedger, *, as_json: bool) -> None:
    """Print what ``create`` returned: one line per object, then how many objects were created and updated."""
    done = Counter(change.done for change in changes)
    if as_json:
        print_json(
            {
                "url": ledger.url,
                "store_id": ledger.store.store_id,
                "changes": [asdict(change) for change in changes],
                "created": done["created"],
                "updated": done["updated"],
            }
        )
        return
    from ledger.cli.output.render import changes_table
    from ledger.cli.output.tables import emit

    emit(changes_table([(change.what, change.name, change.done, change.detail) for change in changes]))
    click.echo(
        f"{done['created']} created, {done['updated']} updated."
        if done["created"] or done["updated"]
        else "Nothing to change."
    )
