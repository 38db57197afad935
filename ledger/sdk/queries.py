"""GoogleSQL over the whole ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from ledger.errors import CapabilityMissing, ConfigurationError, StoreRejected
from ledger.extras import require_extra
from ledger.sdk.command_base import CommandBase
from ledger.settings import LEDGER_WAREHOUSE
from ledger.stores.base import outbox_store, warehouse_store
from ledger.stores.user_view import UserView
from ledger.warehouse.answer import Answer, Estimate
from ledger.warehouse.base import Parameters, Warehouse
from ledger.warehouse.urls import duckdb_url, file_beside, parse_warehouse_url

if TYPE_CHECKING:
    from ledger.tiers.attached import AttachedWarehouse
    from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse
    from ledger.warehouse.schema import SchemaObject

#: Function that takes the number of rows to ship and returns a context manager. The context manager yields a function,
#: which is called after each batch with the number of rows in the batch.
Shipping = Callable[[int], AbstractContextManager[Callable[[int], None]]]


def no_progress(waiting: int) -> AbstractContextManager[Callable[[int], None]]:
    """Show nothing of shipping; the default of what takes a ``Shipping``."""
    return nullcontext(lambda rows: None)


class Queries(CommandBase):
    """Mixin class: statements in GoogleSQL."""

    def sql(self, statement: str, parameters: Parameters | None = None) -> Answer:
        """Run one GoogleSQL SELECT over the ledger and return its rows.

        The statement sees all appends that returned before the call. A ledger in BigQuery runs the statement there. A
        file with a warehouse ships its waiting rows to the warehouse, which runs the statement; in BigQuery, the bytes
        that the statement reads are billed. A file without a warehouse ships its rows to a DuckDB file beside it
        (ledger.duckdb for ledger.db), which runs the statement.

        Args:
            statement: One SELECT over the ledger's views and tables by their names, such as ``sessions``;
                ``schema`` lists them.
            parameters: Mapping of name to the value of ``@name``: text, a number, a boolean, bytes, a Decimal, a date,
                a time, a timezone-aware datetime, None, or a list of one of these types. None is NULL of any type. A
                number, Timestamp, Series or array of numpy, pandas and pyarrow is the value that it stands for.

        Returns:
            The answer: ``rows`` are tuples, iterating yields dictionaries, and ``to_frame`` and ``to_arrow`` convert
            it.

        Raises:
            InvalidInput: The statement is not a single SELECT, or does not fit the tables or the parameters.
            PermissionDenied: The ledger was returned by ``for_user``.
            MissingExtra: A package for the warehouse is not installed.
            StoreRejected: The statement would read more bytes than ``maximum_bytes_billed`` in the ledger's URL.
            StoreUnavailable: The warehouse cannot be reached or is in use by another process.
            ConfigurationError: The DuckDB file has rows of another ledger.
        """
        with warehouse_of(self) as warehouse:
            return warehouse.query(statement, parameters)

    def estimate_sql(self, statement: str, parameters: Parameters | None = None) -> Estimate:
        """Return how many bytes BigQuery would read for a statement, and their price. Nothing is run or shipped.

        The statement and its parameters are checked. Rows that were just appended are not counted, and neither are
        rows of a file that wait to be shipped.

        Args:
            statement: One SELECT, as for ``sql``.
            parameters: As for ``sql``.

        Raises:
            InvalidInput: The statement is not a single SELECT, or does not fit the tables or the parameters.
            PermissionDenied: The ledger was returned by ``for_user``.
            StoreUnavailable: BigQuery cannot be reached.
        """
        if isinstance(self.store, UserView):
            raise self.store.everybodys("estimate_sql")
        warehouse = bigquery_warehouse_of(self)
        return Estimate(None if warehouse is None else warehouse.estimate_query(statement, parameters))

    def schema(self, name: str | None = None) -> tuple[SchemaObject, ...]:
        """Return the views, tables and functions that ``sql`` can name, with their columns, types and descriptions.

        The answer is the same for every ledger; no row is read.

        Args:
            name: Return only the view, table or function of this name.

        Raises:
            InvalidInput: There is no object of this name; the message suggests similar names.
        """
        from ledger.warehouse.schema import schema

        return schema(name)


@contextmanager
def warehouse_of(ledger: Queries, shipping: Shipping = no_progress) -> Iterator[Warehouse]:
    """Open the warehouse of a ledger for the block of a ``with`` statement, after shipping all rows to it.

    A ledger in BigQuery is its own warehouse. The warehouse of a SQLite ledger is the one that the ledger was opened
    with or, if there is none, the ledger's DuckDB file.

    Args:
        ledger: The ledger.
        shipping: Shows the progress of shipping.

    Raises:
        PermissionDenied: The ledger is the view of one user.
        ConfigurationError: The DuckDB file beside the ledger has rows of another ledger.
        StoreRejected: The ledger is read-only.
        LeaseHeld: Another process ships to the warehouse, and had not shipped all rows after a minute.
    """
    if isinstance(ledger.store, UserView):
        raise ledger.store.everybodys("sql")
    own = own_warehouse(ledger)
    if own is not None:
        yield own
        return
    if ledger._is_read_only:
        raise StoreRejected(
            f"The ledger {ledger.url} is read-only, and SQL ships its rows to a warehouse first; nothing was opened. "
            "Make a copy with `ledger backup FILE`, and query that."
        )
    attached = ledger._warehouse
    if attached is not None:
        _catch_up(ledger, attached, shipping)
        yield attached.opened
        return
    beside = beside_of(ledger)
    try:
        _check_other_rows(ledger, beside)
        _catch_up(ledger, beside, shipping)
        yield beside.opened
    finally:
        beside.close(0)


def own_warehouse(ledger: Queries) -> BigQueryWarehouse | None:
    """Return the warehouse of a ledger in BigQuery. For any other ledger, return None."""
    store = warehouse_store(ledger.store)
    if store is None:
        return None
    from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse

    assert isinstance(store.warehouse, BigQueryWarehouse)  # noqa: S101 - there is no other such store
    return store.warehouse


def bigquery_warehouse_of(ledger: Queries) -> BigQueryWarehouse | None:
    """Return the warehouse that bills a ledger's queries: its own, or the one that it was opened with; None if none."""
    attached = ledger._warehouse
    if attached is None or not attached.url.startswith("bigquery:"):
        return own_warehouse(ledger)
    from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse

    assert isinstance(attached.opened, BigQueryWarehouse)  # noqa: S101 - implied by the scheme
    return attached.opened


def beside_of(ledger: Queries) -> AttachedWarehouse:
    """Return the DuckDB file of a SQLite ledger as an attached warehouse.

    Raises:
        CapabilityMissing, ConfigurationError: As for ``warehouse_path``.
        MissingExtra: A package for a DuckDB file is not installed.
    """
    require_extra("analytics", "duckdb", "sqlglot", "pyarrow")
    from ledger.tiers.attached import AttachedWarehouse

    return AttachedWarehouse(ledger.store, duckdb_url(warehouse_path(ledger)))


def warehouse_path(ledger: Queries) -> Path:
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
    beside = file_beside(store.path)
    if beside is None:
        raise ConfigurationError(
            f"{store.path} is the ledger itself, so its DuckDB file cannot have that name. Give the ledger a name that "
            "ends with .db."
        )
    return beside


def _catch_up(ledger: Queries, attached: AttachedWarehouse, shipping: Shipping) -> None:
    """Ship the waiting rows. If there are none, open no relay to BigQuery, since that runs billed statements."""
    from ledger.tiers import elsewhere
    from ledger.tiers.opening import require_outbox

    elsewhere.warn(require_outbox(ledger.store), attached.outbox.warehouse)
    waiting = attached.status().waiting_rows
    if waiting or attached.url.startswith("duckdb:"):
        with shipping(waiting) as progress:
            attached.sync(progress=progress)
    if attached.url.startswith("duckdb:"):
        _bring_prices(ledger, attached)


def _bring_prices(ledger: Queries, attached: AttachedWarehouse) -> None:
    """Copy the price list of a ledger to its DuckDB file, if the file has another one, as after it was created anew."""
    from ledger.tiers.local import price_list_of
    from ledger.warehouse.prices import bring

    store = price_list_of(ledger.store)
    prices = [] if store is None else store.model_prices()
    if prices:
        bring(attached.opened, prices, ledger._clock())


def _check_other_rows(ledger: Queries, beside: AttachedWarehouse) -> None:
    """Raise ConfigurationError if the DuckDB file beside the ledger has rows of another ledger."""
    sql = "SELECT store_id FROM relay_batches WHERE store_id != @own LIMIT 1"
    if beside.opened.query(sql, {"own": ledger.store.store_id}, operation="relay_batches").rows:
        raise ConfigurationError(
            f"{warehouse_path(ledger)} has rows of another ledger, not only of {ledger.url}. Move the file away; the "
            "next query creates it again from the ledger."
        )
