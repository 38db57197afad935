"""The price list of language models in a warehouse, from which its views work out what calls cost."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

from ledger.errors import ConfigurationError
from ledger.model.prices import ModelPrice
from ledger.warehouse import catalog
from ledger.warehouse.base import Warehouse

#: Stands for an unknown price, since a NULL in a list of STRUCTs has no type.
_UNKNOWN = -1.0


def recorded(warehouse: Warehouse) -> list[ModelPrice]:
    """Return the price list of a warehouse, sorted by model, provider and first day.

    Source: sql/statements/read_model_prices.sql
    """
    rows = warehouse.query(catalog.query("read_model_prices"), operation="read_model_prices").rows
    return [ModelPrice(*row) for row in rows]


def send(warehouse: Warehouse, prices: Sequence[ModelPrice], imported_at: datetime, *, replace: bool) -> None:
    """Add prices to the list of a warehouse. If an earlier release created it, the table is created first.

    Args:
        warehouse: The warehouse.
        prices: The prices, no two with the same key. One of a known key replaces the known one.
        imported_at: The time of the import; of two imports of a key, the later one is valid.
        replace: True to remove all others.

    Raises:
        StoreUnavailable: The prices may or may not have been added; call again.

    Source: sql/statements/import_model_prices.sql
    """
    rows = [_row(price) for price in prices] or [_NONE]
    parameters = {"prices": rows, "replaces": replace, "imported_at": imported_at}
    try:
        recorded(warehouse)
    except ConfigurationError:
        warehouse.add_missing()
    warehouse.change("import_model_prices", parameters)


def bring(warehouse: Warehouse, prices: Sequence[ModelPrice], now: datetime) -> None:
    """Make the list of a warehouse the given one, if it differs."""
    if recorded(warehouse) != list(prices):
        send(warehouse, prices, now, replace=True)


def _row(price: ModelPrice) -> dict[str, Any]:
    cached = price.cached_input_usd_per_million
    return {
        "provider": price.provider,
        "model": price.model,
        "valid_from": price.valid_from,
        "input_usd_per_million": price.input_usd_per_million,
        "output_usd_per_million": price.output_usd_per_million,
        "cached_input_usd_per_million": _UNKNOWN if cached is None else cached,
    }


_NONE = {**dict.fromkeys(("provider", "model"), ""), "valid_from": date.min} | dict.fromkeys(
    ("input_usd_per_million", "output_usd_per_million", "cached_input_usd_per_million"), _UNKNOWN
)
