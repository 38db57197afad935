"""The source database of an import. SQLite and Postgres are read through SQLAlchemy, in one transaction."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledger.errors import ConfigurationError, InvalidInput, StoreUnavailable
from ledger.extras import require_extra
from ledger.formats.times import in_utc, read_text
from ledger.model.values import check_text
from ledger.settings import POSTGRES_DB, POSTGRES_HOST, POSTGRES_PASSWORD, POSTGRES_PORT, POSTGRES_USER

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection, Engine, TableClause

#: Settings that name a Postgres source database, each with the part of the URL that it holds.
POSTGRES = {
    POSTGRES_HOST: "host",
    POSTGRES_DB: "database",
    POSTGRES_USER: "username",
    POSTGRES_PASSWORD: "password",
    POSTGRES_PORT: "port",
}
#: Rows fetched per round trip.
_FETCHED = 500
#: Spellings of true and false in text columns.
_TRUE, _FALSE = ("1", "t", "true", "y", "yes", "on"), ("0", "f", "false", "n", "no", "off")


class Decoded(str):
    """A string that the driver has already decoded from a JSON column, so that it must not be decoded again."""

    __slots__ = ()


class Source:
    """The tables of a source database, all read in one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._dialect = connection.dialect.name
        self._types: dict[str, dict[str, Any]] = {}

    def table(self, name: str, *required: str) -> TableClause:
        """Return a table with all its columns, to be passed to the other methods.

        Raises:
            ConfigurationError: The table does not exist, or lacks a required column.
        """
        from sqlalchemy import column, inspect, table

        inspector = inspect(self._connection)
        if not inspector.has_table(name):
            raise ConfigurationError(f"The database has no table {name}; check that it is the database to import.")
        self._types[name] = {each["name"]: each["type"] for each in inspector.get_columns(name)}
        names = list(self._types[name])
        if missing := [each for each in required if each not in names]:
            raise ConfigurationError(f"The table {name} has no column {', '.join(missing)}; it has {', '.join(names)}.")
        return table(name, *(column(each) for each in names))

    def rows(self, table: TableClause, *order: str, **equal: Any) -> Iterator[dict[str, Any]]:
        """Yield rows of a table as dicts of column to value.

        Args:
            table: The table to read, as the method ``table()`` returned it.
            order: Columns to order by.
            equal: Values by column name. Only rows with these values are yielded.
        """
        from sqlalchemy import literal_column, select

        by = [table.c[name] if name in table.c else literal_column(name) for name in order]
        statement = select(*self._columns(table)).order_by(*by)
        for name, value in equal.items():
            statement = statement.where(self._equals(table, name, value))
        yield from self._fetched(statement, table)

    def insertion_column(self, table: TableClause, *names: str) -> str:
        """Return the name of a column by which to order rows in the order of their insertion.

        This is the first of ``names`` that is an integer column of the table. If there is none, it is ``rowid`` in
        SQLite, or else the first of ``names`` that is a column.
        """
        from sqlalchemy import Integer, text

        types = self._types[table.name]
        if numbered := [name for name in names if isinstance(types.get(name), Integer)]:
            return numbered[0]
        if self._dialect == "sqlite":
            query = text("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = :name")
            sql = self._connection.execute(query, {"name": table.name}).scalar()
            if sql is not None and "WITHOUT ROWID" not in sql.upper():
                return "rowid"
        return next(name for name in names if name in table.c)

    def orphans(self, table: TableClause, within: TableClause, by: str) -> Iterator[dict[str, Any]]:
        """Yield the rows of ``table`` whose value in the column ``by`` does not occur in that column of ``within``."""
        from sqlalchemy import String, Text, cast, exists, select

        outer, inner = table.c[by], within.c[by]
        texts = {isinstance(self._types[each.name][by], String) for each in (table, within)}
        # A cast prevents the use of an index, so cast only types that cannot be compared.
        casts = self._dialect == "postgresql" and len(texts) > 1
        same = cast(inner, Text) == cast(outer, Text) if casts else inner == outer
        yield from self._fetched(select(*self._columns(table)).where(~exists().where(same)), table)

    def _columns(self, table: TableClause) -> list[ColumnElement[Any]]:
        """Return the columns to select. Postgres times are cast to text, since Python cannot represent all of them."""
        from sqlalchemy import Text, cast

        times = self._times(table)
        return [cast(column, Text).label(column.name) if column.name in times else column for column in table.c]

    def _times(self, table: TableClause) -> dict[str, type[date]]:
        from sqlalchemy import Date, DateTime

        if self._dialect != "postgresql":
            return {}
        kinds = self._types[table.name].items()
        return {
            name: datetime if isinstance(kind, DateTime) else date
            for name, kind in kinds
            if isinstance(kind, DateTime | Date)
        }

    def _equals(self, table: TableClause, name: str, value: Any) -> ColumnElement[bool]:
        """Return the condition that a column equals a value. In Postgres, a UUID equals its text."""
        from sqlalchemy import String, Text, cast

        column = table.c[name]
        if isinstance(self._types[table.name][name], String):
            return column == str(value)
        return (
            cast(column, Text) == value if self._dialect == "postgresql" and isinstance(value, str) else column == value
        )

    def _fetched(self, statement: Any, table: TableClause) -> Iterator[dict[str, Any]]:
        from sqlalchemy import JSON

        times = self._times(table)
        kinds = self._types[table.name].items() if self._dialect == "postgresql" else ()
        decoded = {name for name, kind in kinds if isinstance(kind, JSON)}
        options = {"stream_results": True, "yield_per": _FETCHED}
        with self._connection.execute(statement, execution_options=options) as result:
            for row in result.mappings():
                found = dict(row)
                for name, kind in times.items():
                    with suppress(TypeError, ValueError):  # NULL, or a value that instant() refuses
                        found[name] = kind.fromisoformat(found[name])
                for name in decoded:
                    if isinstance(found[name], str):
                        found[name] = Decoded(found[name])
                yield found


@contextmanager
def open_source(database: Engine | str | Path | None) -> Iterator[Source]:
    """Context manager that opens a source database, and closes it at the end of the block.

    Args:
        database: An SQLAlchemy engine, a URL, the path of a SQLite file, or None for the database that the
            ``POSTGRES_*`` variables name.

    Raises:
        MissingExtra: SQLAlchemy, or the database's driver, is not installed.
        ConfigurationError: The file does not exist, the URL is invalid, or a setting is missing.
        StoreUnavailable: The database cannot be opened, or a statement in the block fails.
    """
    require_extra("migrate", "sqlalchemy")
    from sqlalchemy import Engine, NullPool, create_engine, exc

    try:
        own = not isinstance(database, Engine)
        engine = database if isinstance(database, Engine) else create_engine(_url(database), poolclass=NullPool)
    except ImportError as error:
        require_extra("migrate")  # which includes the Postgres driver
        raise ConfigurationError(
            f"The driver of the source database cannot be imported: {_first_line(error)}"
        ) from error
    except (exc.ArgumentError, ValueError):
        # Not chained: the original error may contain a password.
        raise ConfigurationError("The URL of the source database is not a valid SQLAlchemy URL.") from None
    where = engine.url.set(query={}).render_as_string(hide_password=True)
    try:
        with engine.connect() as connection:
            if engine.dialect.name == "postgresql":
                connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
                connection.exec_driver_sql("SET LOCAL datestyle = 'ISO'")
            elif engine.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN")  # otherwise each statement reads its own snapshot
            yield Source(connection)
    except exc.SQLAlchemyError as error:
        raise StoreUnavailable(f"The source database {where} cannot be read: {_first_line(error)}") from error
    finally:
        if own:
            engine.dispose()


def instant(value: Any, name: str) -> datetime:
    """Return a time in UTC from a datetime or its text. A time without a time zone is taken as UTC.

    Raises:
        InvalidInput: The value is not a time.
    """
    found = value
    if isinstance(value, str):
        found = read_text(value)
        if found is None:
            raise InvalidInput(f"{name} {value[:70]!r} is not a time such as 2025-03-11 10:00:00")
    if not isinstance(found, datetime):
        raise InvalidInput(f"{name} must be a time, not {'NULL' if value is None else type(value).__name__}")
    return in_utc(found, name)


def json_value(value: Any, name: str) -> Any:
    """Return the value of a JSON column. Text is decoded, unless the driver has decoded the column already.

    Raises:
        InvalidInput: The text is not valid JSON.
    """
    if isinstance(value, Decoded):
        return str(value)
    if not isinstance(value, str | bytes):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{name} is not valid JSON text: {error}") from error


def id_text(value: Any, name: str) -> str:
    """Return an id as text. Numbers and UUIDs are converted to their usual text.

    Raises:
        InvalidInput: The value is NULL, or not a valid id.
    """
    return check_text(None if value is None else str(value), name)


def boolean_of(value: Any, name: str) -> bool | None:
    """Convert a column's value to a boolean, and NULL to None. Accepted are booleans, 1, 0 and words such as ``yes``.

    Raises:
        InvalidInput: The value means neither true nor false.
    """
    word = str(value).strip().lower()
    if value is None or word in (*_TRUE, *_FALSE):
        return None if value is None else word in _TRUE
    raise InvalidInput(f"{name} must be true or false, not {str(value)[:70]!r}")


def number(value: Any) -> Any:
    """Return a Decimal as an int or float. Other values are returned unchanged, for the caller to check."""
    if not isinstance(value, Decimal):
        return value
    return int(value) if value == value.to_integral_value() else float(value)


def value_of(row: Mapping[str, Any], *names: str) -> Any:
    """Look up ``names`` in a row, in order. Return the first value that is not NULL; None if there is none."""
    return next((row[name] for name in names if row.get(name) is not None), None)


def first_of(columns: Sequence[str] | Mapping[str, Any], *names: str) -> str | None:
    """Return the first of ``names`` that is in ``columns``; None if none of them is."""
    return next((name for name in names if name in columns), None)


def _url(database: str | Path | None) -> Any:
    from sqlalchemy import make_url

    if database is None:
        return _postgres()
    if isinstance(database, Path) or "://" not in database:
        return _file(Path(database))
    url = make_url(database)
    if url.drivername in ("postgres", "postgresql"):
        return url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() == "sqlite" and url.database and not url.query:
        return _file(Path(url.database))
    return url


def _file(path: Path) -> Any:
    """Return a URL that opens a SQLite file read-only. A plain URL would create a missing file."""
    from sqlalchemy import make_url

    if not path.is_file():
        raise ConfigurationError(f"There is no file {path}; check the path.")
    return make_url(f"sqlite:///{path.absolute().as_uri()}?mode=ro&uri=true")


def _postgres() -> Any:
    from sqlalchemy import URL

    if missing := [setting.name for setting in POSTGRES if setting.text() is None]:
        raise ConfigurationError(f"Set {', '.join(missing)}, or pass the URL of the source database.")
    given = {part: setting.text() or "" for setting, part in POSTGRES.items()}
    return URL.create("postgresql+psycopg", **{**given, "port": int(given["port"])})  # type: ignore[arg-type]


def _first_line(error: BaseException) -> str:
    cause = getattr(error, "orig", None) or error
    lines = str(cause).strip().splitlines()
    return f"{lines[0] if lines else type(cause).__name__} ({type(cause).__name__})."
