"""Tables of an older session store, SQLite or Postgres, read through SQLAlchemy at one moment and never written."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledger.errors import ConfigurationError, InvalidInput, StoreUnavailable
from ledger.extras import require_extra
from ledger.model.instants import from_micros, to_micros
from ledger.model.values import check_text

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection, Engine, TableClause

#: The older store's own settings, with what they are called in a URL.
POSTGRES = {
    "POSTGRES_HOST": "host",
    "POSTGRES_DB": "database",
    "POSTGRES_USER": "username",
    "POSTGRES_PASSWORD": "password",
    "POSTGRES_PORT": "port",
}
#: Rows that are fetched together.
_FETCHED = 500
#: Words for true and false in columns of text, as databases write them.
_TRUE, _FALSE = ("1", "t", "true", "y", "yes", "on"), ("0", "f", "false", "n", "no", "off")


class Decoded(str):
    """A string out of a JSON column, which the driver has decoded: no JSON text to be decoded again."""

    __slots__ = ()


class Source:
    """The tables of a database, within one transaction that only reads."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._dialect = connection.dialect.name
        self._types: dict[str, dict[str, Any]] = {}

    def table(self, name: str, *required: str) -> TableClause:
        """A table with all columns that it has.

        Raises:
            ConfigurationError: There is no such table, or it lacks a column that is required.
        """
        from sqlalchemy import column, inspect, table

        inspector = inspect(self._connection)
        if not inspector.has_table(name):
            raise ConfigurationError(f"The database has no table {name}; check that it is the older store's.")
        self._types[name] = {each["name"]: each["type"] for each in inspector.get_columns(name)}
        names = list(self._types[name])
        if missing := [each for each in required if each not in names]:
            raise ConfigurationError(f"The table {name} has no column {', '.join(missing)}; it has {', '.join(names)}.")
        return table(name, *(column(each) for each in names))

    def rows(self, table: TableClause, *order: str, **equal: Any) -> Iterator[dict[str, Any]]:
        """The rows whose columns equal what is given, in order, as the driver gives them."""
        from sqlalchemy import literal_column, select

        by = [table.c[name] if name in table.c else literal_column(name) for name in order]
        statement = select(*self._columns(table)).order_by(*by)
        for name, value in equal.items():
            statement = statement.where(self._equals(table, name, value))
        yield from self._fetched(statement, table)

    def inserted(self, table: TableClause, *names: str) -> str:
        """By what rows stand in the order of their insertion: the first of these columns that counts, else SQLite's
        rowid, else the first column there is.
        """
        from sqlalchemy import Integer, text

        types = self._types[table.name]
        if numbered := [name for name in names if isinstance(types.get(name), Integer)]:
            return numbered[0]
        if self._dialect == "sqlite":
            made = text("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = :name")
            sql = self._connection.execute(made, {"name": table.name}).scalar()
            if sql is not None and "WITHOUT ROWID" not in sql.upper():
                return "rowid"
        return next(name for name in names if name in table.c)

    def strays(self, table: TableClause, within: TableClause, by: str) -> Iterator[dict[str, Any]]:
        """The rows of a table that belong to no row of another, by a column that both have."""
        from sqlalchemy import String, Text, cast, exists, select

        outer, inner = table.c[by], within.c[by]
        texts = {isinstance(self._types[each.name][by], String) for each in (table, within)}
        # A cast keeps a database from its index: only for what could not be compared.
        casts = self._dialect == "postgresql" and len(texts) > 1
        same = cast(inner, Text) == cast(outer, Text) if casts else inner == outer
        yield from self._fetched(select(*self._columns(table)).where(~exists().where(same)), table)

    def _columns(self, table: TableClause) -> list[ColumnElement[Any]]:
        """The columns as they are read: times of Postgres as text, since it has some that Python has not."""
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
        """A comparison that Postgres takes, whose tables may have a UUID here and text there."""
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
                    with suppress(TypeError, ValueError):  # NULL, or what instant() refuses by name
                        found[name] = kind.fromisoformat(found[name])
                for name in decoded:
                    if isinstance(found[name], str):
                        found[name] = Decoded(found[name])
                yield found


@contextmanager
def open_source(place: Engine | str | Path | None) -> Iterator[Source]:
    """The database at a place: an engine of yours, a URL, the path of a SQLite file, or None for ``POSTGRES_*``.

    Raises:
        MissingExtra: SQLAlchemy, or the database's driver, is not installed.
        ConfigurationError: There is no such file, the URL is none, or a setting is missing.
        StoreUnavailable: The database does not answer.
    """
    require_extra("migrate", "sqlalchemy")
    from sqlalchemy import Engine, NullPool, create_engine, exc

    try:
        own = not isinstance(place, Engine)
        engine = place if isinstance(place, Engine) else create_engine(_url(place), poolclass=NullPool)
    except ImportError as error:
        require_extra("migrate")  # which brings the driver of Postgres
        raise ConfigurationError(f"The older store's driver cannot be imported: {_first_line(error)}") from error
    except (exc.ArgumentError, ValueError):
        # Not chained: what they say may quote a password.
        raise ConfigurationError("The URL of the older store is none that SQLAlchemy understands.") from None
    where = engine.url.set(query={}).render_as_string(hide_password=True)
    try:
        with engine.connect() as connection:
            if engine.dialect.name == "postgresql":
                connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
                connection.exec_driver_sql("SET LOCAL datestyle = 'ISO'")
            elif engine.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN")  # else each statement would see a moment of its own
            yield Source(connection)
    except exc.SQLAlchemyError as error:
        raise StoreUnavailable(f"The older store {where} cannot be read: {_first_line(error)}") from error
    finally:
        if own:
            engine.dispose()


def instant(value: Any, name: str) -> datetime:
    """A time as a driver gives it, or as SQLite keeps it; without a zone it is UTC.

    Raises:
        InvalidInput: It is none.
    """
    found = value
    if isinstance(value, str):
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            raise InvalidInput(f"{name} {value[:70]!r} is no time such as 2025-03-11 10:00:00") from None
    if not isinstance(found, datetime):
        raise InvalidInput(f"{name} must be a time, not {'NULL' if value is None else type(value).__name__}")
    return from_micros(to_micros(found if found.tzinfo else found.replace(tzinfo=UTC), name))


def json_value(value: Any, name: str) -> Any:
    """JSON that a driver has decoded, or its text.

    Raises:
        InvalidInput: The text is no JSON.
    """
    if isinstance(value, Decoded):
        return str(value)
    if not isinstance(value, str | bytes):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{name} is text that is no JSON: {error}") from error


def id_text(value: Any, name: str) -> str:
    """An id as text: numbers and UUIDs as people write them.

    Raises:
        InvalidInput: It is NULL, or none that the ledger takes.
    """
    return check_text(None if value is None else str(value), name)


def truth(value: Any, name: str) -> bool | None:
    """True or false as a driver gives it, or as a column of numbers or text has it; None for NULL.

    Raises:
        InvalidInput: It is neither.
    """
    word = str(value).strip().lower()
    if value is None or word in (*_TRUE, *_FALSE):
        return None if value is None else word in _TRUE
    raise InvalidInput(f"{name} must be true or false, not {str(value)[:70]!r}")


def number(value: Any) -> Any:
    """A number as JSON has it, of a NUMERIC column as well; what is none is left to whoever checks it."""
    if not isinstance(value, Decimal):
        return value
    return int(value) if value == value.to_integral_value() else float(value)


def value_of(row: Mapping[str, Any], *names: str) -> Any:
    """What a row has under the first of these names that is not NULL."""
    return next((row[name] for name in names if row.get(name) is not None), None)


def first_of(columns: Sequence[str] | Mapping[str, Any], *names: str) -> str | None:
    """The first of these names that there is."""
    return next((name for name in names if name in columns), None)


def _url(place: str | Path | None) -> Any:
    from sqlalchemy import make_url

    if place is None:
        return _postgres()
    if isinstance(place, Path) or "://" not in place:
        return _file(Path(place))
    url = make_url(place)
    if url.drivername in ("postgres", "postgresql"):
        return url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() == "sqlite" and url.database and not url.query:
        return _file(Path(url.database))
    return url


def _file(path: Path) -> Any:
    """A SQLite file, read only: opening one that is not there would make it."""
    from sqlalchemy import make_url

    if not path.is_file():
        raise ConfigurationError(f"There is no file {path}.")
    return make_url(f"sqlite:///{path.absolute().as_uri()}?mode=ro&uri=true")


def _postgres() -> Any:
    from sqlalchemy import URL

    if missing := [name for name in POSTGRES if not os.environ.get(name)]:
        raise ConfigurationError(f"Set {', '.join(missing)}, or give the URL of the older store.")
    given = {part: os.environ[name] for name, part in POSTGRES.items()}
    return URL.create("postgresql+psycopg", **{**given, "port": int(given["port"])})  # type: ignore[arg-type]


def _first_line(error: BaseException) -> str:
    cause = getattr(error, "orig", None) or error
    lines = str(cause).strip().splitlines()
    return f"{lines[0] if lines else type(cause).__name__} ({type(cause).__name__})."
