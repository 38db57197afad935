"""Creation, update and validation of the ledger's tables, views and functions in a dataset; nothing is ever dropped."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from ledger.errors import ConfigurationError
from ledger.warehouse import catalog
from ledger.warehouse.bigquery.clients import ONCE
from ledger.warehouse.bigquery.expiration import check_outlives
from ledger.warehouse.bigquery.jobs import Jobs
from ledger.warehouse.bigquery.settings import check_location, labels_of
from ledger.warehouse.schema import missing_columns, table_columns

#: Name of a label of the dataset. Its value is the ``digest`` of the release that created the views and functions.
CATALOG_LABEL = "session_ledger_catalog"
_TYPES = {"INT64": "INTEGER", "BOOL": "BOOLEAN", "FLOAT64": "FLOAT"}


@dataclass(frozen=True, slots=True)
class TableOptions:
    """Options of the dataset and its tables.

    Attributes:
        location: Location of a new dataset, such as EU or europe-west3. None means the location in the dataset's URL,
            or US if the URL has none.
        partition_expiration_days: Days after which BigQuery drops a partition; None for never. It must be longer than
            ``max_ttl_hours``.
        max_ttl_hours: The longest time that a session lives, in hours; None if sessions may have no end.
        kms_key_name: A Cloud KMS key that encrypts dataset and tables: ``projects/.../cryptoKeys/...``.
        require_partition_filter: True if statements over the tables must filter by created_at.
        labels: Labels of dataset and tables.
    """

    location: str | None = None
    partition_expiration_days: int | None = None
    max_ttl_hours: float | None = field(default=None, kw_only=True)
    kms_key_name: str | None = None
    require_partition_filter: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.partition_expiration_days is not None:
            check_outlives(self.partition_expiration_days, self.max_ttl_hours)
        check_location(self.location)
        labels_of(f"{name}={value}" for name, value in self.labels.items())
        key = self.kms_key_name
        if key is not None and not (key.startswith("projects/") and "/cryptoKeys/" in key and "'" not in key):
            raise ConfigurationError(
                f"{key!r} is not a key; write one like projects/P/locations/L/keyRings/R/cryptoKeys/K."
            )


@dataclass(frozen=True, slots=True)
class ObjectChange:
    """The result of ``create`` for one object.

    Attributes:
        what: Kind of the object: ``dataset``, ``table``, ``view`` or ``function``.
        name: Its name.
        done: ``created``, ``updated`` or ``unchanged``.
        detail: What was added or set; for a dataset also its location.
    """

    what: str
    name: str
    done: str
    detail: str = ""


def create(warehouse: Jobs, options: TableOptions | None = None, *, dry_run: bool = False) -> list[ObjectChange]:
    """Create missing objects, add missing columns, and bring views and functions up to date.

    The call is idempotent and completes an interrupted run. All checks precede the first change.

    Args:
        warehouse: A client of the dataset.
        options: Options of the dataset and its tables.
        dry_run: True to check and to return what would be done, and change nothing.

    Returns:
        One entry for the dataset and each object, in order of creation.

    Raises:
        ConfigurationError: The dataset is in another location, or a table has other columns, partitions or clusters
            than the ledger's; nothing was changed.
        StoreUnavailable: BigQuery could not be reached, or failed before the end; call again.
    """
    return _Creation(warehouse, options or TableOptions(), dry_run=dry_run).run()


def statements(project: str | None, dataset: str | None, options: TableOptions) -> Iterator[str]:
    """Yield the statements that create all objects, each terminated by a semicolon, in order of dependency.

    The dataset is labelled with the release, as ``create`` does.
    """
    if project is not None and dataset is not None:
        catalog.check_names(project, dataset)
        settings = [f"location = '{options.location}'"] if options.location else []
        if options.kms_key_name:
            settings.append(f"default_kms_key_name = '{options.kms_key_name}'")
        settings.append(_labels_option({**options.labels, CATALOG_LABEL: digest()}))
        yield f"CREATE SCHEMA IF NOT EXISTS `{project}.{dataset}` OPTIONS ({', '.join(settings)});\n"
    objects = catalog.objects()
    for item in objects:
        yield catalog.bind(catalog.statement(item), project, dataset)
        if options.require_partition_filter and item.kind == "table" and "PARTITION BY" in item.source:
            # BigQuery creates no view over a table that requires the filter, as it does after an earlier run.
            yield catalog.bind(_alter_table(item.name, "require_partition_filter = FALSE") + ";\n", project, dataset)
    yield catalog.bind(catalog.query("create_lock"), project, dataset)
    for item in objects:
        if settings := _table_settings(item, options):
            yield catalog.bind(_alter_table(item.name, *settings) + ";\n", project, dataset)


def digest() -> str:
    """Return a hash of the CREATE statements of this release's objects."""
    text = "".join(catalog.statement(item) for item in catalog.objects())
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _alter_table(name: str, *settings: str) -> str:
    return f"ALTER TABLE `${{project}}.${{dataset}}.{name}` SET OPTIONS ({', '.join(settings)})"


def _table_settings(item: catalog.SqlObject, options: TableOptions) -> list[str]:
    if item.kind != "table":
        return []
    partitioned = "PARTITION BY" in item.source
    settings = []
    if partitioned and options.partition_expiration_days is not None:
        settings.append(f"partition_expiration_days = {options.partition_expiration_days}")
    if partitioned and options.require_partition_filter:
        settings.append("require_partition_filter = TRUE")
    if options.kms_key_name is not None:
        settings.append(f"kms_key_name = '{options.kms_key_name}'")
    if options.labels:
        settings.append(_labels_option(options.labels))
    return settings


def _labels_option(labels: Mapping[str, str]) -> str:
    pairs = ", ".join(f"('{name}', '{value}')" for name, value in sorted(labels.items()))
    return f"labels = [{pairs}]"


@contextmanager
def without_partition_filters(names: Sequence[str], execute: Callable[[str], object]) -> Iterator[None]:
    """Context manager in whose block statements over the tables ``names`` need not filter by created_at.

    Views are created in the block, because BigQuery creates none over a table that requires the filter.

    Args:
        names: Names of the ledger's tables.
        execute: Function that runs a statement.
    """
    try:
        for name in names:
            execute(_alter_table(name, "require_partition_filter = FALSE"))
        yield
    finally:
        for name in names:
            execute(_alter_table(name, "require_partition_filter = TRUE"))


class _Creation:
    """One run of ``create`` over a dataset."""

    def __init__(self, warehouse: Jobs, options: TableOptions, *, dry_run: bool = False) -> None:
        self._dry_run = dry_run
        self._warehouse = warehouse
        self._options = options
        self._rest = warehouse.clients.rest
        self._project = warehouse.clients.project
        self._dataset = warehouse.dataset.name

    def run(self) -> list[ObjectChange]:
        dataset = self._warehouse.describe()
        self._check_location(dataset)
        tables = {} if dataset is None else self._tables()
        plans = [(item, tables.get(item.name)) for item in catalog.objects()]
        # Views are replaced, so they must be the ledger's: the dataset then has its table of events as well.
        foreign = "session_events" not in tables and not (dataset is not None and CATALOG_LABEL in dataset.labels)
        for item, table in plans:
            if table is not None:
                self._check_kind(item, table)
                if foreign and item.kind != "table":
                    raise ConfigurationError(
                        f"{self._project}.{self._dataset} has a {item.kind} {item.name} that is not the ledger's and "
                        "would be replaced. Nothing was changed; choose another dataset."
                    )
                if item.kind == "table":
                    self._check_table(item, table)
        changes = [self._make_dataset(dataset)]
        dataset = self._warehouse.describe()
        current = dataset is not None and dataset.labels.get(CATALOG_LABEL) == digest()
        routines = set() if dataset is None else self._routines()
        exists = {item.name for item, table in plans if table is not None or item.name in routines}
        stale = not current or any(item.name not in exists for item, _ in plans)
        filtered = [item.name for item, table in plans if stale and is_filtered(table)]
        with without_partition_filters(filtered, self._execute):
            for item, table in plans:
                changes.append(self._make(item, table, item.name in exists, current and item.name in exists))
        self._execute(catalog.query("create_lock"))
        for number, (item, table) in enumerate(plans, start=1):
            if (settings := _table_settings(item, self._options)) and not self._has_options(item, table):
                self._execute(_alter_table(item.name, *settings))
                changes[number] = _with_details(changes[number], *settings)
        if not self._dry_run and self._label(dataset):
            changes[0] = _with_details(changes[0], *(f"{name}={value}" for name, value in self._options.labels.items()))
        return changes

    def _make_dataset(self, dataset: Any) -> ObjectChange:
        from google.cloud import bigquery

        if dataset is not None:
            return ObjectChange("dataset", f"{self._project}.{self._dataset}", "unchanged", dataset.location or "")
        made = bigquery.Dataset(f"{self._project}.{self._dataset}")
        made.location = self._options.location or self._warehouse.dataset.location
        if self._options.kms_key_name is not None:
            made.default_encryption_configuration = bigquery.EncryptionConfiguration(self._options.kms_key_name)
        if not self._dry_run:
            self._warehouse.request(
                "Creating the dataset", lambda: self._rest.create_dataset(made, exists_ok=True, retry=ONCE)
            )
        return ObjectChange("dataset", f"{self._project}.{self._dataset}", "created", made.location or "")

    def _make(self, item: catalog.SqlObject, table: Any, exists: bool, current: bool) -> ObjectChange:
        if item.kind == "table" and exists:
            missing = missing_columns(item, (column.name for column in table.schema))
            for statement in missing.values():
                self._execute(statement)
            names = ", ".join(missing)
            return ObjectChange("table", item.name, "updated" if missing else "unchanged", names and f"added {names}")
        if current:
            return ObjectChange(item.kind, item.name, "unchanged")
        self._execute(catalog.statement(item))
        return ObjectChange(item.kind, item.name, "updated" if exists else "created")

    def _check_location(self, dataset: Any) -> None:
        wanted = self._options.location or self._warehouse.dataset.location
        if dataset is not None and wanted and dataset.location and dataset.location.upper() != wanted.upper():
            raise ConfigurationError(
                f"The dataset {self._project}.{self._dataset} is in {dataset.location}, not in {wanted}; a dataset "
                "cannot move. Omit the location, or choose another dataset."
            )

    def _check_kind(self, item: catalog.SqlObject, table: Any) -> None:
        """Raise ConfigurationError if the dataset has a table where the ledger needs a view, or the reverse."""
        if table.table_type != item.kind.upper():
            name = f"{self._project}.{self._dataset}.{item.name}"
            raise ConfigurationError(
                f"{name} is a {table.table_type}, but the ledger needs a {item.kind} of that name. "
                "Nothing was changed; choose another dataset."
            )

    def _check_table(self, item: catalog.SqlObject, table: Any) -> None:
        """Raise ConfigurationError if a table's columns, partitions or clusters differ from the ledger's."""
        name = f"{self._project}.{self._dataset}.{item.name}"
        present = {column.name: column for column in table.schema}
        problems = [
            f"{column.name} is {present[column.name].field_type}, not {column.type}"
            for column in table_columns(item)
            if column.name in present and present[column.name].field_type not in (column.type, _TYPES.get(column.type))
        ]
        ours = {column.name for column in table_columns(item)}
        problems += [
            f"{column.name} is a list" for column in table.schema if column.mode == "REPEATED" and column.name in ours
        ]
        problems += [
            f"{column.name} is required, but not a column of the ledger's"
            for column in table.schema
            if column.mode == "REQUIRED" and column.name not in ours
        ]
        partition = _partition_of(table)
        if partition != ("the DAY of created_at" if "PARTITION BY" in item.source else "nothing"):
            problems.append(f"it is partitioned by {partition}")
        clusters = ["session_id"] if "CLUSTER BY" in item.source else None
        if (table.clustering_fields or None) != clusters:
            problems.append(f"it is clustered by {', '.join(table.clustering_fields or []) or 'nothing'}")
        if problems:
            raise ConfigurationError(
                f"The table {name} is not the ledger's: {'; '.join(problems)}. "
                "Nothing was changed; choose another dataset."
            )

    def _has_options(self, item: catalog.SqlObject, table: Any) -> bool:
        """Return True if a table already has the options of this run."""
        options = self._options
        if table is None:
            return False
        days = options.partition_expiration_days
        partition = table.time_partitioning
        expiration = partition.expiration_ms if partition else None
        return (
            (days is None or partition is None or expiration == days * 86_400_000)
            and (not options.require_partition_filter or partition is None or bool(table.require_partition_filter))
            and (options.kms_key_name is None or _key(table) == options.kms_key_name)
            and all(table.labels.get(name) == value for name, value in options.labels.items())
        )

    def _label(self, dataset: Any) -> bool:
        """Label the dataset with the digest of its views and functions, so that the next run need not replace them.

        Returns:
            True if labels in the options were added or changed.
        """
        from google.cloud import bigquery

        labels = {**self._options.labels, CATALOG_LABEL: digest()}
        if dataset is None or labels.items() <= dataset.labels.items():
            return False
        # A dataset without an etag: BigQuery merges the labels instead of refusing a concurrent change.
        labelled = bigquery.Dataset(dataset.reference)
        labelled.labels = labels
        try:
            self._warehouse.request(
                "Labelling the dataset", lambda: self._rest.update_dataset(labelled, ["labels"], retry=ONCE)
            )
        except ConfigurationError:  # labelling requires the owner role on the dataset
            if self._options.labels:
                raise
            return False  # without the ledger's own label the next run only replaces more
        return any(dataset.labels.get(name) != value for name, value in self._options.labels.items())

    def _tables(self) -> dict[str, Any]:
        names = sorted(item.name for item in catalog.objects() if item.kind != "function")
        tables = {name: self._warehouse.table(name) for name in names}
        return {name: table for name, table in tables.items() if table is not None}

    def _routines(self) -> set[str]:
        listed = self._warehouse.request(
            "Listing functions", lambda: list(self._rest.list_routines(self._dataset, retry=ONCE))
        )
        return {routine.reference.routine_id for routine in listed}

    def _execute(self, sql: str) -> None:
        if not self._dry_run:
            self._warehouse.ask("create", sql)


def _partition_of(table: Any) -> str:
    """Return a description of a table's partitioning, for messages."""
    if table.range_partitioning:
        return f"ranges of {table.range_partitioning.field}"
    if table.time_partitioning:
        return f"the {table.time_partitioning.type_} of {table.time_partitioning.field or 'its ingestion'}"
    return "nothing"


def is_filtered(table: Any) -> bool:
    """Return True if statements over a table must filter by created_at."""
    return table is not None and bool(table.require_partition_filter)


def _with_details(change: ObjectChange, *details: str) -> ObjectChange:
    """Return a copy of a change with further details. If the change was ``unchanged``, the copy is ``updated``."""
    done = "updated" if change.done == "unchanged" else change.done
    return replace(change, done=done, detail="; ".join(filter(None, (change.detail, *details))))


def _key(table: Any) -> str | None:
    encryption = table.encryption_configuration
    return None if encryption is None else encryption.kms_key_name
