"""What every warehouse does. ``ledger.warehouse.duckdb`` is the one on a laptop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
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

    def close(self) -> None:
        """Let go of the warehouse; calling it again does nothing."""
        ...


class RelayedWarehouse(Warehouse, Protocol):
    """A warehouse that a relay feeds, and a context manager that keeps what connection it has while entered."""

    def __enter__(self) -> object: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def checkpoint(self, store_id: str) -> int:
        """The last ``seq`` of a store whose row is here; 0 where none is."""
        ...

    def ingest(self, store_id: str, rows: Sequence[tuple[Any, ...]], *, after: int) -> int:
        """Add a store's next rows and move its checkpoint, both or neither.

        Args:
            store_id: The store that the rows come from.
            rows: At least one; ``(seq, *row)`` in the order of ``seq``, where ``row`` has the columns of
                ``sql/tables/session_events.sql``, times in microseconds since 1970, values as JSON text.
            after: The checkpoint that the rows follow.

        Returns:
            The checkpoint now.

        Raises:
            StoreRejected: The checkpoint is elsewhere, because another relay moved it, or a row is unfit;
                nothing was added.
            CorruptEvent: A row is not of the form above; nothing was added.
            StoreUnavailable: The warehouse cannot take rows now; nothing was added.
        """
        ...
