"""The interface of every warehouse; ``warehouse.duckdb`` and ``warehouse.bigquery`` implement it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

from ledger.warehouse.answer import Answer

#: Parameters of a statement, by name. A value is text, a number, a boolean, bytes, a Decimal, a date, a time, a
#: timezone-aware datetime, None, or a list whose items all have one of these types; or a value of numpy, pandas or
#: pyarrow that stands for one of them, as a Series for a list.
Parameters = Mapping[str, Any]


class Warehouse(Protocol):
    """A database that holds the ledger's tables and answers GoogleSQL.

    Attributes:
        indexes_every_session: True if ``session_index`` has a row for every session, False if it has rows only for
            sessions whose ids do not contain their creation times.
    """

    indexes_every_session: bool

    def create(self) -> None:
        """Create missing tables, views and functions of ``sql/``, and update outdated ones. No row is lost.

        Raises:
            StoreUnavailable: The warehouse cannot be reached, or another process uses it; call again later.
        """
        ...

    def add_missing(self) -> None:
        """Create what a warehouse lacks that exists already: as ``create``, but no dataset is created.

        Raises:
            ConfigurationError: The dataset does not exist.
            StoreUnavailable: As for ``create``.
        """
        ...

    def query(self, sql: str, parameters: Parameters | None = None, *, operation: str = "query") -> Answer:
        """Run one GoogleSQL SELECT and return its rows. Other statements are refused, so nothing can be changed.

        Args:
            sql: One statement. It names an object of the ledger without qualifiers, or in backticks as
                `${project}.${dataset}.name`.
            parameters: Values of the statement's ``@name`` parameters.
            operation: ``query`` for a statement that a user wrote, whose names and parameters are then checked.
                Otherwise the name of one of the ledger's own statements, which labels its job where jobs have labels.

        Raises:
            InvalidInput: The statement is not a single SELECT, or does not fit the tables: for example, it names an
                unknown column. The message says what is wrong.
            StoreUnavailable: The warehouse cannot answer now.
        """
        ...

    def change(self, name: str, parameters: Parameters) -> None:
        """Run one of the ledger's own scripts that change rows. If it fails, some of its steps may have taken effect.

        Args:
            name: Name of the script's file in ``sql/statements/``, without suffix. Running the script twice must have
                the same effect as running it once.
            parameters: Values of the script's ``@name`` parameters.

        Raises:
            StoreUnavailable: The script may or may not have run; run it again.
        """
        ...

    def run_scheduled(self, name: str, parameters: Parameters) -> None:
        """Run one of the ledger's scheduled statements; see ``ledger.warehouse.scheduled``.

        Args:
            name: Name of the file in ``sql/scheduled/``, without suffix. Running it twice with the same parameters has
                the same effect as running it once.
            parameters: Values of the statement's ``@name`` parameters.

        Raises:
            StoreUnavailable: The statement may or may not have run; run it again.
        """
        ...

    def has_dropped(self, created_at: datetime, now: datetime) -> bool:
        """Return True if the warehouse drops the rows of sessions created then, because their day has expired.

        Raises:
            StoreUnavailable: The warehouse cannot say it now.
        """
        ...

    def close(self) -> None:
        """Release all resources; a second call does nothing."""
        ...
