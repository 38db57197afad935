"""What every warehouse does. ``ledger.warehouse.duckdb.warehouse`` is the one on a laptop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

#: What a statement may take as a named parameter: text, numbers, booleans, aware datetimes, and lists of one of them.
Parameters = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """The rows of a query.

    Attributes:
        columns: Names, in order.
        rows: One tuple per row. JSON values come decoded (JSON null and SQL NULL are both None), timestamps as aware
            datetimes in UTC.
    """

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


class Warehouse(Protocol):
    """What answers the ledger's GoogleSQL."""

    def create(self) -> None:
        """Create the tables, views and functions of ``sql/`` where they are missing or old; rows are kept.

        Raises:
            StoreUnavailable: Another process holds the warehouse; nothing was changed.
        """
        ...

    def query(self, sql: str, parameters: Parameters | None = None, *, operation: str = "query") -> Answer:
        """Answer one GoogleSQL SELECT; nothing can be changed by it.

        Args:
            sql: One statement. Bare names are the ledger's objects; so are `${project}.${dataset}.name` in backticks.
            parameters: Values of its ``@name`` parameters.
            operation: What it is asked for, in a warehouse that keeps accounts of its jobs.

        Raises:
            InvalidInput: It is not one SELECT, or does not fit the tables; the message says where.
            StoreUnavailable: The warehouse cannot answer now.
        """
        ...

    def change(self, name: str, parameters: Parameters) -> None:
        """Carry out one of the ledger's own statements that change rows: all of its steps, or none.

        Args:
            name: Of the file in ``sql/statements/``; carried out twice it does what it does once.
            parameters: Values of its ``@name`` parameters.

        Raises:
            StoreUnavailable: It may be carried out or not; do it again.
        """
        ...

    def close(self) -> None:
        """Let go of the warehouse; calling it again does nothing."""
        ...
