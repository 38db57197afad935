"""The ledger's dataset in BigQuery, as operators see it: what stands in it, making it, and telling what was done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ledger.cli.output.shapes import print_json
from ledger.errors import StoreRejected, StoreUnavailable
from ledger.warehouse import catalog

if TYPE_CHECKING:
    from ledger.sdk.ledger import SessionLedger
    from ledger.warehouse.bigquery.tables import ObjectChange, TableOptions
    from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse

T = TypeVar("T")
#: Seconds for a look that is not tried again.
SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class DatasetState:
    """What stands in a dataset.

    Attributes:
        location: Where it is; None where that is not told, as by an emulator.
        missing: The ledger's objects that are not there.
        label: What the dataset says of the release that made its views and functions; None where it says nothing.
    """

    location: str | None
    missing: tuple[catalog.SqlObject, ...]
    label: str | None


def once(doing: str, call: Callable[[], T]) -> T:
    """What a call of Google's client returns that may be made again, with its errors as the ledger's.

    Raises:
        LedgerError: It failed; the cause is chained.
    """
    from ledger.warehouse.bigquery.errors import OutcomeLost, translate

    try:
        return call()
    except Exception as error:
        found = translate(error, doing)
        raise (StoreUnavailable(str(found)) if isinstance(found, OutcomeLost) else found) from error


def look(warehouse: BigQueryWarehouse, dataset: Any) -> DatasetState:
    """What stands in a dataset; reads names and labels only.

    Args:
        dataset: As the client gave it.

    Raises:
        LedgerError: It cannot be looked at.
    """
    from ledger.warehouse.bigquery.clients import ONCE
    from ledger.warehouse.bigquery.tables import CATALOG_LABEL

    rest, name = warehouse.clients.rest, warehouse.dataset.name
    tables = once("Listing tables", lambda: list(rest.list_tables(name, retry=ONCE, timeout=SECONDS)))
    functions = once("Listing functions", lambda: list(rest.list_routines(name, retry=ONCE, timeout=SECONDS)))
    kinds = {table.table_id: "view" if table.table_type == "VIEW" else "table" for table in tables}
    kinds |= {routine.reference.routine_id: "function" for routine in functions}
    missing = tuple(item for item in catalog.objects() if kinds.get(item.name) != item.kind)
    return DatasetState(dataset.location, missing, dataset.labels.get(CATALOG_LABEL))


def try_views(warehouse: BigQueryWarehouse) -> None:
    """Have BigQuery resolve a query over every view, without running it: it reads nothing and costs nothing.

    Raises:
        LedgerError: The query would fail: an object or a permission is missing.
    """
    from google.cloud import bigquery

    from ledger.warehouse.bigquery.clients import ONCE

    views = [item.name for item in catalog.objects() if item.kind == "view"]
    day = "created_at >= TIMESTAMP '2026-01-01' AND created_at < TIMESTAMP '2026-01-02'"
    sql = " UNION ALL ".join(f"SELECT created_at FROM `${{project}}.${{dataset}}.{view}` WHERE {day}" for view in views)  # noqa: S608 - names of files
    clients, place = warehouse.clients, warehouse.dataset
    bound = catalog.bind(sql, clients.project, place.name)
    config = bigquery.QueryJobConfig(dry_run=True, use_query_cache=False)
    once(
        "A query over the views",
        lambda: clients.rest.query(
            bound, job_config=config, location=place.location, retry=ONCE, job_retry=ONCE, timeout=SECONDS
        ),
    )


def create(warehouse: BigQueryWarehouse, options: TableOptions | None = None) -> list[ObjectChange]:
    """Create what is missing, bring the rest up to date, and look whether all of it is there and can be read.

    Raises:
        ConfigurationError: The dataset holds something else under the ledger's names, or is elsewhere.
        StoreRejected: Something is missing all the same.
        LedgerError: BigQuery cannot be reached, or does not permit it.
    """
    from ledger.warehouse.bigquery.clients import ONCE
    from ledger.warehouse.bigquery.tables import create

    changes = create(warehouse, options)
    rest, name = warehouse.clients.rest, warehouse.dataset.name
    dataset = once("Looking up the dataset", lambda: rest.get_dataset(name, retry=ONCE, timeout=SECONDS))
    if missing := look(warehouse, dataset).missing:
        raise StoreRejected(
            f"Everything was created in {warehouse.dataset.url}, and now {', '.join(item.name for item in missing)} is "
            "missing: something else drops it. Run this again."
        )
    try_views(warehouse)
    return changes


def drop(warehouse: BigQueryWarehouse) -> None:
    """Drop a dataset with all that is in it; one that is not there is done.

    Raises:
        LedgerError: It may still be there.
    """
    from ledger.warehouse.bigquery.clients import ONCE

    rest, name = warehouse.clients.rest, warehouse.dataset.name
    once(
        f"Dropping {warehouse.dataset.url}",
        lambda: rest.delete_dataset(name, delete_contents=True, not_found_ok=True, retry=ONCE, timeout=SECONDS),
    )


def report(changes: Sequence[ObjectChange], ledger: SessionLedger, *, as_json: bool) -> None:
    """Say what creating did: a line for each object, and how many were created and updated."""
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
    from ledger.cli.output.render import changes_table, emit

    emit(changes_table([(change.what, change.name, change.done, change.detail) for change in changes]))
    click.echo(
        f"{done['created']} created, {done['updated']} updated."
        if done["created"] or done["updated"]
        else "Nothing to change."
    )
