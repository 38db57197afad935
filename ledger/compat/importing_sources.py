"""Tables of an older session store, SQLite or Postgres, read through SQLAlchemy at one moment and never written."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledger.errors import ConfigurationError, InvalidInput, MissingExtra, StoreUnavailable
from ledger.model.instants import from_micros, to_micros

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, TableClause

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


class Source:
    """The tables of a database, within one transaction that only reads."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def table(self, name: str, *required: str) -> TableClause:
        """A table with all columns that it has.

        Raises:
            ConfigurationError: There is no such table, or it lacks a column that is required.
        """
        from sqlalchemy import column, inspect, table

        inspector = inspect(self._connection)
        if not inspector.has_table(name):
            raise ConfigurationError(f"The database has no table {name}; check that it is the older store's.")
        names = [each["name"] for each in inspector.get_columns(name)]
        if missing := [each for each in required if each not in names]:
            raise ConfigurationError(f"The table {name} has no column {', '.join(missing)}; it has {', '.join(names)}.")
        return table(name, *(column(each) for each in names))

    def rows(self, table: TableClause, *order: str, **equal: Any) -> Iterator[dict[str, Any]]:
        """The rows whose columns equal what is given, in order, as the driver gives them."""
        from sqlalchemy import select

        statement = select(table).order_by(*(table.c[name] for name in order))
        for name, value in equal.items():
            statement = statement.where(table.c[name] == value)
        yield from self._fetched(statement)

    def strays(self, table: TableClause, within: TableClause, by: str) -> Iterator[dict[str, Any]]:
        """The rows of a table that belong to no row of another, by a column that both have."""
        from sqlalchemy import exists, select

        statement = select(table).where(~exists().where(within.c[by] == table.c[by]))
        yield from self._fetched(statement)

    def _fetched(self, statement: Any) -> Iterator[dict[str, Any]]:
        options = {"stream_results": True, "yield_per": _FETCHED}
        with self._connection.execute(statement, execution_options=options) as result:
            for row in result.mappings():
                yield dict(row)


@contextmanager
def open_source(place: Engine | str | Path | None) -> Iterator[Source]:
    """The database at a place: an engine of yours, a URL, the path of a SQLite file, or None for ``POSTGRES_*``.

    Raises:
        MissingExtra: SQLAlchemy, or the database's driver, is not installed.
        ConfigurationError: There is no such file, the URL is none, or a setting is missing.
        StoreUnavailable: The database does not answer.
    """
    try:
        from sqlalchemy import Engine, NullPool, create_engine, exc
    except ImportError as error:
        raise _missing("SQLAlchemy") from error
    try:
        own = not isinstance(place, Engine)
        engine = place if isinstance(place, Engine) else create_engine(_url(place), poolclass=NullPool)
    except ImportError as error:
        raise _missing(f"the driver {error.name}") from error
    except (exc.ArgumentError, ValueError) as error:  # what they say may quote a password
        raise ConfigurationError("The URL of the older store is none that SQLAlchemy understands.") from error
    where = engine.url.render_as_string(hide_password=True)
    try:
        with engine.connect() as connection:
            if engine.dialect.name == "postgresql":
                connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
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
    if not isinstance(value, str | bytes):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{name} is text that is no JSON: {error}") from error


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


def _missing(what: str) -> MissingExtra:
    return MissingExtra(f"Reading an older store needs {what}: pip install 'session-ledger[migrate]'.")


def _first_line(error: BaseException) -> str:
    cause = getattr(error, "orig", None) or error
    lines = str(cause).strip().splitlines()
    return f"{lines[0] if lines else type(cause).__name__} ({type(cause).__name__})."
