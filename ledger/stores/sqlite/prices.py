"""The price list of the embedded store: prices of language models, from which views work out what calls cost.

The list is kept in the file, since a warehouse beside it may be deleted and filled again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from datetime import date
from pathlib import Path
from typing import Any

from ledger.clock import Clock
from ledger.errors import InvalidInput
from ledger.model.instants import to_micros
from ledger.model.prices import ModelPrice, merged
from ledger.stores.sqlite import write
from ledger.stores.sqlite.connections import Read
from ledger.stores.sqlite.errors import damaged

_COLUMNS = "model, provider, valid_from, input_usd_per_million, output_usd_per_million, cached_input_usd_per_million"
_SELECT = f"SELECT {_COLUMNS} FROM model_prices ORDER BY model, provider, valid_from"  # noqa: S608
_INSERT = f"INSERT INTO model_prices ({_COLUMNS}, imported_at) VALUES (?, ?, ?, ?, ?, ?, ?)"  # noqa: S608


class SqlitePrices:
    """The part of ``SqliteStore`` that keeps the price list; see ``LocalTier``."""

    path: Path
    _clock: Clock
    _max_bytes: int | None
    _run: Callable[[Callable[[sqlite3.Connection], Any]], Any]
    _read: Read

    def model_prices(self) -> list[ModelPrice]:
        """Return the price list, sorted by model, provider and first day."""
        return self._read(_prices)

    def import_model_prices(self, prices: Iterable[ModelPrice], *, replace: bool = False) -> None:
        """Add prices to the list, all or none; see ``LocalTier.import_model_prices``."""
        added = merged((), prices)
        now = to_micros(self._clock())

        def work(connection: sqlite3.Connection) -> None:
            write.check_room(connection, self._max_bytes, self.path)
            with write.all_or_none(connection):
                whole = merged(() if replace else _prices(connection), added)
                connection.execute("DELETE FROM model_prices")
                connection.executemany(_INSERT, [(*_row(price), now) for price in whole])

        self._run(work)


def _prices(connection: sqlite3.Connection) -> list[ModelPrice]:
    rows = connection.execute(_SELECT).fetchall()
    try:
        return [
            ModelPrice(model, date.fromisoformat(valid_from), of_input, of_output, of_cached, provider)
            for model, provider, valid_from, of_input, of_output, of_cached in rows
        ]
    except (InvalidInput, TypeError, ValueError) as error:
        raise damaged("model_prices", "", str(error)) from error


def _row(price: ModelPrice) -> tuple[Any, ...]:
    return (
        *(price.model, price.provider, price.valid_from.isoformat()),
        *(price.input_usd_per_million, price.output_usd_per_million, price.cached_input_usd_per_million),
    )
