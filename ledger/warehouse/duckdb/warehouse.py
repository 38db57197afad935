"""A local warehouse, which answers the ledger's GoogleSQL from a DuckDB file.

Only one process at a time can have the file open for writing. The warehouse therefore opens the file only for one call
or for one block of ``kept_open``; see ``ledger.warehouse.duckdb.file``.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledger.errors import InvalidInput, StoreError, StoreRejected, StoreUnavailable
from ledger.extras import require_extra
from ledger.warehouse import catalog
from ledger.warehouse.answer import Answer
from ledger.warehouse.base import Parameters
from ledger.warehouse.duckdb.connection import Connection
from ledger.warehouse.duckdb.creation import absence
from ledger.warehouse.duckdb.file import Cancellation, file_at, is_damage
from ledger.warehouse.schema import missing_columns

if TYPE_CHECKING:
    import pyarrow

#: Tables that are not in the catalog: ``relay_batches`` holds the last batch of each store, and ``catalog_state`` the
#: digest of the catalog from which the file's objects were created.
_INTERNAL_TABLES = """
CREATE TABLE IF NOT EXISTS relay_batches (store_id TEXT PRIMARY KEY, seq BIGINT NOT NULL, digest TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS catalog_state (digest TEXT NOT NULL);
"""
_COLUMNS_OF = "SELECT column_name FROM duckdb_columns() WHERE table_name = ?"
#: A number to increase with each change of the translation to DuckDB's SQL. The objects of existing files are then
#: created again.
_TRANSLATION_VERSION = 5


class DuckDBWarehouse:
    """The warehouse in a DuckDB file. It is thread-safe.

    Args:
        path: The file; it is created by the first call that uses it.
        retry_timeout: Maximum seconds to wait for another process to close the file.
        pause: Called between two attempts, with the seconds to sleep; tests replace it.
        check_lost: Called before a missing file is created, with what happened to it. It raises an error if the file
            had rows that are nowhere else.
        like: A file whose group and mode a new file gets, such as the ledger; None to let only the owner read it.
    """

    indexes_every_session = True

    def __init__(
        self,
        path: str | Path,
        *,
        retry_timeout: float = 5.0,
        pause: Callable[[float], None] = time.sleep,
        check_lost: Callable[[str], object] = lambda found: None,
        like: Path | None = None,
    ) -> None:
        self.path = Path(path)
        self._retry_timeout = retry_timeout
        self._pause = pause
        self.check_lost = check_lost
        self._file = file_at(self.path)
        if like is not None:
            self._file.like = like
        self._ready = False

    def kept_open(self) -> AbstractContextManager[None]:
        """Context manager that keeps the file open for writing until its block ends.

        Blocks may be nested and may overlap between threads.
        """
        return self._file.writer(self._retry_timeout, self._pause)

    def add_missing(self) -> None:
        """Create missing objects; the same as ``create``, because a file is in nobody's dataset."""
        self.create()

    def has_dropped(self, created_at: datetime, now: datetime) -> bool:
        """Return False, because a file keeps the rows of every day."""
        return False

    def cancellable(self) -> AbstractContextManager[Cancellation]:
        """Context manager in whose block another thread can cancel the calls of this thread."""
        return self._file.cancellable()

    def create(self) -> None:
        """Create missing objects, add missing columns, and replace views and functions of another release."""
        found = absence(self.path)
        if found is not None:
            self.check_lost(found)
        self._file.create(self._create_missing)
        self._ready = True

    def _create_missing(self) -> None:
        with self.writing() as connection:
            connection.execute(_INTERNAL_TABLES)
            digest = _catalog_digest()
            if connection.execute("SELECT digest FROM catalog_state").rows != [(digest,)]:
                _create_objects(connection)
                connection.execute("DELETE FROM catalog_state")
                connection.execute("INSERT INTO catalog_state VALUES (?)", [digest])

    def query(self, sql: str, parameters: Parameters | None = None, *, operation: str = "query") -> Answer:
        """Run one GoogleSQL SELECT and return its rows; see ``Warehouse.query``.

        Args:
            sql: One statement; unqualified names are the ledger's objects.
            parameters: Values of the statement's ``@name`` parameters.
            operation: ``query`` for a statement that a user wrote. DuckDB has no job labels.

        Raises:
            InvalidInput: The statement is not a single SELECT, or does not fit the tables.
            StoreUnavailable: Another process has the file open.
            MissingExtra: DuckDB or SQLGlot is not installed.
        """
        require_extra("analytics", "duckdb", "sqlglot")
        from ledger.warehouse.duckdb import grammar, instants
        from ledger.warehouse.duckdb.dialect import query_to_duckdb
        from ledger.warehouse.statement import prepare

        user = operation == "query"
        if user:
            written = sql
            sql, parameters = prepare(sql, parameters)
            if sql != written:  # SQLGlot wrote it again, in GoogleSQL
                grammar.check(written)
        zoned = frozenset(name for name, value in (parameters or {}).items() if user and instants.has_zone(value))
        translated = query_to_duckdb(sql, user=user, zoned=zoned)
        values = {name: _to_duckdb(value) for name, value in (parameters or {}).items()}
        with self.reading() as connection:
            return _run_query(connection, translated, values, sql, user=user)

    def change(self, name: str, parameters: Parameters) -> None:
        """Run one of the ledger's own statements that change rows; see ``Warehouse.change``."""
        require_extra("analytics", "duckdb", "sqlglot")
        from ledger.warehouse.duckdb.dialect import changes_to_duckdb

        steps = changes_to_duckdb(catalog.query(name))
        values = {key: _to_duckdb(value) for key, value in parameters.items()}
        self.ensure_created()
        with self.writing() as connection:
            for step in steps:
                connection.execute(step, {key: value for key, value in values.items() if f"${key}" in step})

    def run_scheduled(self, name: str, parameters: Parameters) -> None:
        """Run one of the ledger's scheduled statements in one transaction; see ``Warehouse.run_scheduled``."""
        require_extra("analytics", "duckdb", "sqlglot")
        from ledger.warehouse.duckdb.dialect import script_to_duckdb

        steps = script_to_duckdb(catalog.scheduled(name))
        values = {key: _to_duckdb(value) for key, value in parameters.items()}
        self.ensure_created()
        with self.writing() as connection:
            _run_steps(connection, steps, values)

    def count_rows(self) -> int:
        """Return the number of rows of events in the file. Nothing is created or changed.

        Raises:
            StoreUnavailable: Another process has the file open.
            ConfigurationError: The file does not exist, or cannot be opened as a DuckDB file.
            MissingExtra: DuckDB is not installed.
        """
        with self._reader() as connection:
            if not connection.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = 'session_events'").rows:
                return 0
            return int(connection.execute("SELECT COUNT(*) FROM session_events").rows[0][0])

    def close(self) -> None:
        """Do nothing: no connection is open between calls."""

    def ensure_created(self) -> None:
        """Create or replace the ledger's tables, views and functions if the file lacks those of this release."""
        if not self._ready or absence(self.path) is not None:  # another process may have moved the file
            self._ready = self._is_current()
            if not self._ready:
                self.create()

    def _is_current(self) -> bool:
        """Return True if the file has the objects of this release."""
        if absence(self.path) is not None:
            return False
        with self._reader() as connection:
            if not connection.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = 'catalog_state'").rows:
                return False
            return connection.execute("SELECT digest FROM catalog_state").rows == [(_catalog_digest(),)]

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Context manager that opens a connection for its block. If need be, it first creates the ledger's objects."""
        self.ensure_created()
        with self._reader() as connection:
            yield connection

    def _reader(self) -> AbstractContextManager[Connection]:
        return self._file.reader(self._retry_timeout, self._pause)

    @contextmanager
    def writing(self, batch: pyarrow.Table | None = None) -> Iterator[Connection]:
        """Context manager that runs its block in one transaction. The block's SQL can use ``batch`` as a table.

        Raises:
            StoreRejected: DuckDB refuses the values or the statement; nothing was written.
            StoreUnavailable: Writing failed; nothing was written.
            MissingExtra: DuckDB or SQLGlot is not installed.
        """
        require_extra("analytics", "duckdb", "sqlglot")
        import duckdb

        with self.kept_open(), self._reader() as connection:
            if batch is not None:
                connection.register("batch", batch)
            connection.execute("BEGIN")
            try:
                yield connection
                connection.execute("COMMIT")
            except (duckdb.DataError, duckdb.IntegrityError, duckdb.ProgrammingError) as error:
                _roll_back(connection)
                raise StoreRejected(f"{self.path} refused the transaction; nothing was written: {error}") from error
            except duckdb.Error as error:
                _roll_back(connection)
                if is_damage(error):  # the connection's context manager says what to do
                    raise
                raise StoreUnavailable(f"{self.path} could not be written; nothing was written: {error}") from error
            except BaseException:
                _roll_back(connection)
                raise


def _catalog_digest() -> str:
    """Return a text that changes with every change of the catalog or of ``_TRANSLATION_VERSION``."""
    text = "".join(item.source for item in catalog.objects())
    return f"{_TRANSLATION_VERSION}:{hashlib.sha256(text.encode()).hexdigest()}"


def _run_steps(connection: Connection, steps: Iterable[tuple[str | None, str]], values: dict[str, Any]) -> None:
    """Run the statements of a script; a variable is added to the values when its SELECT has run."""
    for variable, step in steps:
        used = set(re.findall(r"\$(\w+)", step))
        rows = connection.execute(step, {key: value for key, value in values.items() if key in used}).rows
        if variable is not None:
            values[variable] = rows[0][0]


def _create_objects(connection: Connection) -> None:
    """Create missing tables and columns, and replace views and functions."""
    from ledger.warehouse.duckdb.dialect import changes_to_duckdb, statement_to_duckdb

    for item in catalog.objects():
        connection.execute(statement_to_duckdb(item))
        if item.kind == "table":
            present = (name for (name,) in connection.execute(_COLUMNS_OF, [item.name]).rows)
            for adding in missing_columns(item, present).values():
                for statement in changes_to_duckdb(adding):
                    connection.execute(statement)


def _run_query(connection: Connection, sql: str, values: dict[str, Any], source: str, *, user: bool) -> Answer:
    import duckdb

    from ledger.warehouse.duckdb.decode import decode_rows, googlesql_type
    from ledger.warehouse.duckdb.scopes import UNNAMED

    try:
        rows, description = connection.execute(sql, values)
    except (duckdb.ProgrammingError, duckdb.DataError, duckdb.NotSupportedError, duckdb.PermissionException) as error:
        from ledger.warehouse.duckdb.names import describe
        from ledger.warehouse.statement import check_query

        raise describe(error, check_query(source)) from error
    except duckdb.InterruptException:  # the connection's context manager says why, and what to do about damage
        raise
    except duckdb.Error as error:
        if is_damage(error):
            raise
        raise StoreError(f"DuckDB could not answer the query: {error}") from error
    numbers = itertools.count()
    columns = tuple(f"f{next(numbers)}_" if it[0].startswith(UNNAMED) else it[0] for it in description)
    duplicates = sorted({name for name in columns if columns.count(name) > 1})
    if duplicates:
        raise InvalidInput(f"The answer has several columns named {', '.join(duplicates)}; give each a name with AS.")
    types = [googlesql_type(column[1]) for column in description]
    civil: frozenset[int] = frozenset()
    if user and "TIMESTAMP" in types:
        from ledger.warehouse.duckdb.datetimes import datetime_columns

        civil = frozenset(it for it in datetime_columns(source, columns) if types[it] == "TIMESTAMP")
        types = ["DATETIME" if place in civil else kind for place, kind in enumerate(types)]
    return Answer(columns, decode_rows(rows, description, civil), tuple(types))


def _to_duckdb(value: Any) -> Any:
    """Convert a parameter's value for DuckDB. A datetime becomes UTC without a time zone, as in the tables."""
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise InvalidInput(f"The parameter {value.isoformat()} has no time zone; add one.")
        return value.astimezone(UTC).replace(tzinfo=None)
    return [_to_duckdb(item) for item in value] if isinstance(value, list) else value


def _roll_back(connection: Connection) -> None:
    import duckdb

    try:
        connection.execute("ROLLBACK")
    except duckdb.Error:
        # The transaction has already ended, as after a failed COMMIT; the caller reports the first error.
        return
