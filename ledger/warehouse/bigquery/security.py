"""Row access policies, and a dataset of views for readers: who may read the sessions of which users.

Nothing is granted but what ``Access`` names, and nothing is removed. The table ``session_readers`` lists which account
may read the sessions of which users. It works in two ways, each for readers of its own:

- Policies on the ledger's tables. Readers query the ledger's dataset and see their rows.
- A second dataset with the ledger's views and functions over authorized views of its tables. Readers see that dataset
  only.

Source: https://docs.cloud.google.com/bigquery/docs/row-level-security-intro,
https://docs.cloud.google.com/bigquery/docs/authorized-views
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from ledger.errors import ConfigurationError
from ledger.warehouse import catalog
from ledger.warehouse.bigquery.clients import ONCE
from ledger.warehouse.bigquery.jobs import Jobs
from ledger.warehouse.bigquery.tables import ObjectChange, is_filtered, without_partition_filters
from ledger.warehouse.schema import table_columns

#: The table that lists readers.
READERS = "session_readers"
#: What GRANT TO takes, without the characters that would end the literal. allUsers is no member: it is anybody.
_MEMBER = re.compile(
    r"(user|group|serviceAccount):[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+"
    r"|domain:[A-Za-z0-9.-]+"
    r"|principal(Set)?://iam\.googleapis\.com/[A-Za-z0-9._~%@:+/-]+"
)


@dataclass(frozen=True, slots=True)
class Access:
    """Who is to see which rows.

    Attributes:
        full_access: Members who see all rows: whoever appends, ships, deletes and administers.
        readers: Members who see the sessions that ``session_readers`` lists for them. Without members of full access
            they are refused, since the ledger itself would see no row.
        views: A dataset of the same project to create readers' views in, or None.
    """

    full_access: tuple[str, ...] = ()
    readers: tuple[str, ...] = ()
    views: str | None = None

    def __post_init__(self) -> None:
        for member in (*self.full_access, *self.readers):
            if not _MEMBER.fullmatch(member):
                raise ConfigurationError(
                    f"{member!r} is not a member; write one like user:ana@example.com, group:analysts@example.com, "
                    "serviceAccount:NAME@PROJECT.iam.gserviceaccount.com or domain:example.com."
                )
        if self.readers and not self.full_access:
            raise ConfigurationError(
                "There are readers, and nobody with full access. Once a table has a policy, an account that no policy "
                "names sees no row: also name the accounts that append, ship, delete and administer."
            )


class Step(NamedTuple):
    """A statement, and the object that it creates or replaces; ``detail`` are the members of a policy."""

    what: str
    name: str
    sql: str
    detail: str = ""


def statements(project: str, dataset: str, access: Access, location: str | None = None) -> Iterator[str]:
    """Yield the statements of ``apply``, each terminated by a semicolon, and comments, in order, without running them.

    Views are authorized by a request and not by a statement; a comment at the end says which ones.

    Args:
        project: Project of both datasets.
        dataset: Dataset of the ledger.
        access: Who is to see which rows.
        location: Location of the ledger's dataset, or None if it is not known.

    Raises:
        ConfigurationError: A name is wrong, or the views would be created among the ledger's own objects.
    """
    catalog.check_names(project, dataset)
    _check_views(project, dataset, access)
    for step in _policies(access):
        yield catalog.bind(step.sql, project, dataset)
    if access.views is not None:
        yield f"-- In the location of {project}.{dataset}:\n"
        options = f" OPTIONS (location = '{location}')" if location else ""
        yield f"CREATE SCHEMA IF NOT EXISTS `{project}.{access.views}`{options};\n"
        for step in _views(project, access.views):
            yield catalog.bind(step.sql, project, dataset)
        names = ", ".join(f"{project}.{access.views}.{name}" for name in _tables_of_views())
        yield f"-- Then authorize these views in the dataset {project}.{dataset}: {names}\n"


def apply(warehouse: Jobs, access: Access) -> list[ObjectChange]:
    """Create the table of readers, and the policies and views that ``access`` names.

    The call is idempotent, and completes an interrupted run. The policies of full access come first, so that the
    ledger's own accounts lose sight of no row. Members whom ``access`` no longer names lose their access, if it names
    others; policies are not removed.

    Returns:
        One entry for each object, in order. A policy is ``updated`` also if it is new.

    Raises:
        ConfigurationError: The ledger's dataset or one of its tables is missing, a permission is missing, or the
            dataset for views has other objects; nothing was changed.
        StoreUnavailable: BigQuery could not be reached, or failed before the end; call again.
    """
    return _Run(warehouse, access).run()


class _Run:
    """One run of ``apply``."""

    def __init__(self, warehouse: Jobs, access: Access) -> None:
        self._warehouse = warehouse
        self._access = access
        self._rest = warehouse.clients.rest
        self._project = warehouse.clients.project
        self._dataset = warehouse.dataset.name
        self._place = f"{self._project}.{self._dataset}"

    def run(self) -> list[ObjectChange]:
        _check_views(self._project, self._dataset, self._access)
        dataset = self._warehouse.describe()
        tables = {name: self._warehouse.table(name) for name in (*_tables_of_users(), *_tables_of_views())}
        missing = sorted(name for name, table in tables.items() if table is None)
        if dataset is None or missing:
            what = f"has no {', '.join(missing)}" if dataset is not None else "does not exist"
            raise ConfigurationError(f"{self._place} {what}. Create the ledger there first, with `ledger init`.")
        views = self._access.views
        beside = None if views is None else self._find_dataset(views, dataset.location)
        present = {} if beside is None or views is None else self._present(views)
        had_readers = self._warehouse.table(READERS) is not None
        changes = []
        for step in _policies(self._access):
            self._warehouse.ask("secure", step.sql)
            done = "updated" if step.what == "policy" else "unchanged" if had_readers else "created"
            changes.append(ObjectChange(step.what, step.name, done, step.detail))
        if views is None:
            return changes
        changes.append(self._make_dataset(views, beside, dataset.location))
        filtered = [name for name in _tables_of_views() if is_filtered(tables[name])]
        with without_partition_filters(filtered, lambda sql: self._warehouse.ask("secure", sql)):
            for step in _views(self._project, views):
                self._warehouse.ask("secure", step.sql)
                done = "updated" if step.name in present else "created"
                changes.append(ObjectChange(step.what, f"{views}.{step.name}", done))
        return changes + [self._authorize(views, name) for name in _tables_of_views()]

    def _present(self, views: str) -> Mapping[str, str]:
        """Return the kinds of the objects in the dataset for views, by name.

        Raises:
            ConfigurationError: The dataset has objects under the ledger's names that an earlier run did not create.
        """
        name = f"{self._project}.{views}"

        def listed() -> dict[str, str]:
            tables = {table.table_id: table.table_type for table in self._rest.list_tables(name, retry=ONCE)}
            routines = [it.reference.routine_id for it in self._rest.list_routines(name, retry=ONCE)]
            return tables | dict.fromkeys(routines, "FUNCTION")

        found = self._warehouse.request("Listing the dataset for views", listed)
        ours = {step.name for step in _views(self._project, views)}
        if any(found.get(table) != "VIEW" for table in _tables_of_views()) and (foreign := sorted(ours & found.keys())):
            raise ConfigurationError(
                f"{name} has {', '.join(foreign)}, which would be replaced, and is not a dataset of readers' views. "
                "Nothing was changed; choose another dataset."
            )
        return found

    def _find_dataset(self, views: str, location: str | None) -> Any:
        """Return BigQuery's description of the dataset for views; None if it does not exist.

        Raises:
            ConfigurationError: It is in another location than the ledger's tables, which its views then cannot read.
        """
        from google.api_core.exceptions import NotFound

        name = f"{self._project}.{views}"

        def find() -> Any:
            try:
                return self._rest.get_dataset(name, retry=ONCE)
            except NotFound:
                return None

        found = self._warehouse.request("Looking up the dataset for views", find)
        if found is not None and location and found.location and found.location.upper() != location.upper():
            raise ConfigurationError(
                f"{name} is in {found.location}, and {self._place} in {location}; views can only read tables of their "
                "own location. Nothing was changed; choose another dataset."
            )
        return found

    def _make_dataset(self, views: str, found: Any, location: str | None) -> ObjectChange:
        from google.cloud import bigquery

        name = f"{self._project}.{views}"
        if found is not None:
            return ObjectChange("dataset", name, "unchanged", found.location or "")
        made = bigquery.Dataset(name)
        made.location = location
        self._warehouse.request(
            "Creating the dataset for views", lambda: self._rest.create_dataset(made, exists_ok=True, retry=ONCE)
        )
        return ObjectChange("dataset", name, "created", location or "")

    def _authorize(self, views: str, table: str) -> ObjectChange:
        """Let a view read the ledger's dataset on behalf of accounts that may not."""
        from google.cloud import bigquery

        view = {"projectId": self._project, "datasetId": views, "tableId": table}

        def add() -> bool:
            dataset = self._rest.get_dataset(self._place, retry=ONCE)
            entries = list(dataset.access_entries)
            if any(entry.entity_type == "view" and entry.entity_id == view for entry in entries):
                return False
            dataset.access_entries = [*entries, bigquery.AccessEntry(None, "view", view)]
            self._rest.update_dataset(dataset, ["access_entries"], retry=ONCE)  # fails if the entries changed meanwhile
            return True

        added = self._warehouse.request(f"Authorizing the view {views}.{table}", add)
        return ObjectChange("authorization", f"{views}.{table}", "created" if added else "unchanged", self._place)


def _check_views(project: str, dataset: str, access: Access) -> None:
    if access.views is not None:
        catalog.check_names(project, access.views)
        if access.views.lower() == dataset.lower():
            raise ConfigurationError(
                f"{dataset} is the dataset of the ledger; views for readers need one of their own, since whoever may "
                "read a dataset may read its tables."
            )


def _policies(access: Access) -> Iterator[Step]:
    """Yield the statements in the ledger's dataset: first full access to each table, then the readers'."""
    yield Step("table", READERS, _file(READERS))
    for name, members in (("full_access", access.full_access), ("reader_access", access.readers)):
        for table in _tables_of_users() if members else ():
            listed = ", ".join(f"'{member}'" for member in members)
            sql = _file(name).replace("${table}", table).replace("${members}", listed)
            yield Step("policy", f"{name} on {table}", sql, ", ".join(members))


def _views(project: str, views: str) -> Iterator[Step]:
    """Yield the statements in the dataset for views, in order of dependency."""
    users = _tables_of_users()
    for table in _tables_of_views():
        sql = _file("readable_rows" if table in users else "shared_rows")
        yield Step("view", table, sql.replace("${views}", f"{project}.{views}").replace("${table}", table))
    for item in catalog.objects():
        if item.kind != "table":
            yield Step(item.kind, item.name, catalog.bind(catalog.statement(item), project, views))


@cache
def _tables_of_users() -> Sequence[str]:
    """Return the ledger's tables whose rows belong to users."""
    return tuple(
        item.name
        for item in catalog.objects()
        if item.kind == "table" and any(column.name == "user_id" for column in table_columns(item))
    )


@cache
def _tables_of_views() -> Sequence[str]:
    """Return the ledger's tables that its views and functions read."""
    read = set().union(*(item.references for item in catalog.objects() if item.kind != "table"))
    return tuple(item.name for item in catalog.objects() if item.kind == "table" and item.name in read)


@cache
def _file(name: str) -> str:
    """Return the statement in a file of ``sql/security/``, without its header comment."""
    source = (catalog.sql_folder() / "security" / f"{name}.sql").read_text(encoding="utf-8")
    return re.sub(r"\A(--[^\n]*\n)+", "", source)
