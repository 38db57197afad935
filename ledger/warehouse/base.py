"""The interface of every warehouse; ``warehouse.duckdb`` and ``warehouse.bigquery`` implement it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

#: Named parameters of a statement: text, numbers, booleans, aware datetimes, or lists of one of these types.
Parameters = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """The rows of a query.

    Attributes:
        columns: Column names, in order.
        rows: One tuple per row. JSON values are decoded (JSON null and SQL NULL are both None); timestamps are aware
            datetimes in UTC.
    """

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


class Warehouse(Protocol):
    """A database that answers the ledger's GoogleSQL."""

    def create(self) -> None:
        """Create the tables, views and functions of ``sql/`` that are missing or outdated; rows are kept.

        Raises:
            StoreUnavailable: The warehouse cannot be reached or is in use; call again later.
        """
        ...

    def query(self, sql: str, parameters: Parameters | None = None, *, operation: str = "query") -> Answer:
        """Answer one GoogleSQL SELECT; it cannot change anything.

        Args:
            sql: One statement. Unqualified names are the ledger's objects; so are `${project}.${dataset}.name` in
                backticks.
            parameters: Values of its ``@name`` parameters.
            operation: The job label, in a warehouse that labels jobs.

        Raises:
            InvalidInput: The statement is not one SELECT, or does not match the tables; the message says where.
            StoreUnavailable: The warehouse cannot answer now.
        """
        ...

    def change(self, name: str, parameters: Parameters) -> None:
        """Run one of the ledger's own statements that change rows: all of its steps, or none.

        Args:
            name: The file in ``sql/statements/`` without its suffix; running it twice has the same effect as once.
            parameters: Values of its ``@name`` parameters.

        Raises:
            StoreUnavailable: The statement may or may not have run; run it again.
        """
        ...

    def close(self) -> None:
        """Release all resources; a second call does nothing."""
        ...
