"""A warehouse on this machine: the ledger's GoogleSQL over a DuckDB file.

One process may hold the file for writing, so it is opened for short moments: for one call, or for the length of a
``with`` block; see ``ledger.warehouse.duckdb.file``.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledger.errors import InvalidInput, StoreError, StoreRejected, StoreUnavailable
from ledger.extras import require_extra
from ledger.warehouse import catalog
from ledger.warehouse.base import Answer, Parameters
from ledger.warehouse.duckdb.file import file_at

if TYPE_CHECKING:
    from types import TracebackType

    import duckdb
    import pyarrow

#: What DuckDB itself keeps beside the catalog: the last batch of each store's relay, and which catalog the file holds.
_OWN_TABLES = """
CREATE TABLE IF NOT EXISTS relay_batches (store_id TEXT PRIMARY KEY, seq BIGINT NOT NULL, digest TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS catalog_state (digest TEXT NOT NULL);
"""
#: Changes with the translation, so that files made by an older one are created again.
_TRANSLATION = 4


class DuckDBWarehouse:
    """The warehouse in a DuckDB file, which is made when it is first created or queried. For any number of threads.

    Args:
        path: The file.
        retry_timeout: Seconds to wait for another process to let go of it.
        pause: Waits between two tries; given in tests.
    """

    def __init__(
        self, path: str | Path, *, retry_timeout: float = 5.0, pause: Callable[[float], None] = time.sleep
    ) -> None:
        self.path = Path(path)
        self._retry_timeout = retry_timeout
        self._pause = pause
        self._file = file_at(self.path)
        self._ready = False

    def __enter__(self) -> DuckDBWarehouse:
        """Keep the file open for writing until the block ends; blocks may be nested, also those of several threads."""
        self._file.hold(self._retry_timeout, self._pause)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.let_go()

    def create(self) -> None:
        """Create what is missing or was made by another release; rows are kept."""
        with self._file.making, self.writing() as connection:
            connection.execute(_OWN_TABLES)
            digest = _digest()
            if _rows(connection, "SELECT digest FROM catalog_state") != [(digest,)]:
                from ledger.warehouse.duckdb.dialect import statement_to_duckdb

                for item in catalog.objects():
                    connection.execute(statement_to_duckdb(item))
                connection.execute("DELETE FROM catalog_state")
                connection.execute("INSERT INTO catalog_state VALUES (?)", [digest])
        self._ready = True

    def query(self, sql: str, parameters: Parameters | None = None, *, operation: str = "query") -> Answer:
        """Answer one GoogleSQL SELECT.

        Args:
            sql: One statement; bare names are the ledger's objects.
            parameters: Values of its ``@name`` parameters.
            operation: Not looked at; DuckDB keeps no accounts.

        Raises:
            InvalidInput: It is not one SELECT, or does not fit the tables.
            StoreUnavailable: Another process holds the file.
            MissingExtra: DuckDB or SQLGlot is not installed.
        """
        require_extra("analytics", "duckdb", "sqlglot")
        from ledger.warehouse.duckdb.dialect import query_to_duckdb

        translated = query_to_duckdb(sql)
        values = {name: _bindable(value) for name, value in (parameters or {}).items()}
        with self.reading() as connection:
            return _answer(connection, translated, values)

    def change(self, name: str, parameters: Parameters) -> None:
        """Carry out one of the ledger's own statements that change rows; see ``Warehouse.change``."""
        require_extra("analytics", "duckdb", "sqlglot")
        from ledger.warehouse.duckdb.dialect import changes_to_duckdb

        steps = changes_to_duckdb(catalog.query(name))
        values = {key: _bindable(value) for key, value in parameters.items()}
        self.create_once()
        with self.writing() as connection:
            for step in steps:
                connection.execute(step, {key: value for key, value in values.items() if f"${key}" in step})

    def close(self) -> None:
        """Nothing stays open between calls; there is nothing to let go of."""

    def create_once(self) -> None:
        """Create the objects unless this instance, or an earlier process, already did."""
        if not self._ready or not self.path.exists():  # it may be moved away at any time
            self._ready = self._is_current()
            if not self._ready:
                self.create()

    def _is_current(self) -> bool:
        if not self.path.exists():
            return False
        with self._looking() as connection:
            known = _rows(connection, "SELECT 1 FROM duckdb_tables() WHERE table_name = 'catalog_state'")
            return bool(known) and _rows(connection, "SELECT digest FROM catalog_state") == [(_digest(),)]

    @contextmanager
    def reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection of the caller's own that sees the ledger's objects."""
        self.create_once()
        with self._looking() as connection:
            yield connection

    def _looking(self) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        return self._file.looking(self._retry_timeout, self._pause)

    @contextmanager
    def writing(self, batch: pyarrow.Table | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
        """A transaction, in which ``batch`` can be read under that name: all of the block is kept, or nothing.

        Raises:
            StoreRejected: What was given is unfit; nothing was kept.
            StoreUnavailable: Nothing could be written, and nothing was kept.
            MissingExtra: DuckDB or SQLGlot is not installed.
        """
        require_extra("analytics", "duckdb", "sqlglot")
        import duckdb

        with self, self._looking() as connection:
            if batch is not None:
                connection.register("batch", batch)
            connection.execute("BEGIN")
            try:
                yield connection
                connection.execute("COMMIT")
            except (duckdb.DataError, duckdb.IntegrityError, duckdb.ProgrammingError) as error:
                _roll_back(connection)
                raise StoreRejected(f"{self.path} refused what it was given, and kept nothing: {error}") from error
            except duckdb.Error as error:
                _roll_back(connection)
                raise StoreUnavailable(f"{self.path} could not write, and kept nothing: {error}") from error
            except BaseException:
                _roll_back(connection)
                raise


def _digest() -> str:
    """What tells one catalog, in one translation, from another."""
    text = "".join(item.source for item in catalog.objects())
    return f"{_TRANSLATION}:{hashlib.sha256(text.encode()).hexdigest()}"


def _rows(connection: duckdb.DuckDBPyConnection, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    """All rows at once: since DuckDB 2.0 a connection does nothing else while a result is half read."""
    return connection.execute(sql, list(values)).fetchall()


def _answer(connection: duckdb.DuckDBPyConnection, sql: str, values: dict[str, Any]) -> Answer:
    import duckdb

    from ledger.warehouse.duckdb.decode import decoded, decoders

    try:
        result = connection.execute(sql, values) if values else connection.execute(sql)
        description = result.description or []
        rows = result.fetchall()
    except (duckdb.ProgrammingError, duckdb.DataError, duckdb.NotSupportedError, duckdb.PermissionException) as error:
        raise InvalidInput(f"The statement cannot be answered: {error}") from error
    except duckdb.Error as error:
        raise StoreError(f"DuckDB could not answer: {error}") from error
    columns = tuple(column[0] for column in description)
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise InvalidInput(f"The answer has several columns named {', '.join(twice)}; give each a name with AS.")
    return Answer(columns, decoded(rows, decoders(description)))


def _bindable(value: Any) -> Any:
    """A parameter as DuckDB takes it: instants as naive UTC, like the columns they are compared with."""
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise InvalidInput(f"The parameter {value.isoformat()} has no time zone; add one.")
        return value.astimezone(UTC).replace(tzinfo=None)
    return value


def _roll_back(connection: duckdb.DuckDBPyConnection) -> None:
    import duckdb

    try:
        connection.execute("ROLLBACK")
    except duckdb.Error:
        # The transaction is gone already, as after a failed COMMIT; the first error is the one to report.
        return
