"""The catalog of the ledger's SQL objects, read from ``sql/`` and sorted by dependency.

In ``sql/``, each table, view and function has its own file, named like the object. A file refers to the ledger's
objects in backticks as `${project}.${dataset}.name`. ``bind`` replaces the two placeholders; there are no others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

from ledger.errors import ConfigurationError

#: Maps the name of a folder in ``sql/`` to the kind of the objects in it.
KINDS: Mapping[str, str] = {"tables": "table", "views": "view", "functions": "function"}

_NAME = re.compile(r"`\$\{project\}\.\$\{dataset\}\.([a-z][a-z0-9_]*)`")
_PROJECT = re.compile(r"([a-z0-9.-]{1,63}:)?[a-z][a-z0-9-]{4,28}[a-z0-9]")
_DATASET = re.compile(r"[A-Za-z0-9_]{1,1024}")
_STATEMENT = re.compile(
    r"^CREATE (?:OR REPLACE )?(TABLE FUNCTION|TABLE|VIEW) (?:IF NOT EXISTS )?(`[^`]+`)", re.MULTILINE
)
_CREATES: Mapping[str, str] = {"TABLE": "table", "VIEW": "view", "TABLE FUNCTION": "function"}


@dataclass(frozen=True, slots=True)
class SqlObject:
    """A table, view or table function of the ledger.

    Attributes:
        kind: ``table``, ``view`` or ``function``.
        name: The object's name in SQL, which is also the file's name without suffix.
        source: Text of the whole file, including the header comment and the placeholders.
        references: Names of the ledger's objects that this one reads.
    """

    kind: str
    name: str
    source: str
    references: frozenset[str]


def sql_folder() -> Path:
    """Return the folder of the SQL files: inside the package if it is installed, beside the package in a checkout.

    Raises:
        ConfigurationError: The folder is in neither place.
    """
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "sql", package.parent / "sql"):
        if folder.is_dir():
            return folder
    raise ConfigurationError(f"The SQL files of {package} are missing; install session-ledger again.")


@cache
def objects() -> tuple[SqlObject, ...]:
    """Return the ledger's own objects, each after the objects that it reads.

    Raises:
        ConfigurationError: The files are missing or inconsistent.
    """
    return load(sql_folder())


def load(folder: Path) -> tuple[SqlObject, ...]:
    """Read a folder of SQL files; return its objects in an order in which they can be created.

    Args:
        folder: The parent of ``tables/``, ``views/`` and ``functions/``.

    Raises:
        ConfigurationError: A file creates another object than its folder and name say, reads an object that no file
            creates, or is part of a circle of references.
    """
    files = sorted(path for kind in KINDS for path in (folder / kind).glob("*.sql"))
    return _sort_by_references([_read(path) for path in files])


def named(name: str) -> SqlObject:
    """Return the object with this name.

    Raises:
        ConfigurationError: No object has this name.
    """
    for item in objects():
        if item.name == name:
            return item
    raise ConfigurationError(f"The ledger has no SQL object {name!r}.")


def bind(sql: str, project: str | None = None, dataset: str | None = None) -> str:
    """Replace `${project}.${dataset}.name` by real names.

    Args:
        sql: GoogleSQL with placeholders.
        project: Project of the ledger's objects; None for unqualified names, as in a DuckDB file.
        dataset: Dataset of the ledger's objects; None if ``project`` is None.

    Returns:
        The SQL, with every name in backticks.

    Raises:
        ConfigurationError: The project or the dataset is not a valid BigQuery identifier.
    """
    if project is None or dataset is None:
        return _NAME.sub(r"`\1`", sql)
    check_names(project, dataset)
    return _NAME.sub(lambda match: f"`{project}.{dataset}.{match[1]}`", sql)


def check_names(project: str, dataset: str) -> None:
    """Raise ConfigurationError unless ``project`` and ``dataset`` are valid BigQuery identifiers."""
    if not _PROJECT.fullmatch(project):
        raise ConfigurationError(f"{project!r} is not a project id: 6 to 30 lower-case letters, digits and hyphens.")
    if not _DATASET.fullmatch(dataset):
        raise ConfigurationError(f"{dataset!r} is not a dataset id: letters, digits and underscores.")


@cache
def query(name: str) -> str:
    """Return the parameterised statement in a file of ``sql/statements/``, without its header comment.

    Args:
        name: Name of the file without suffix.
    """
    return _code("statements", name)


@cache
def scheduled(name: str) -> str:
    """Return the parameterised script in a file of ``sql/scheduled/``, without its header comment.

    Args:
        name: Name of the file without suffix.
    """
    return _code("scheduled", name)


def statement(item: SqlObject) -> str:
    """Return the object's CREATE statement without the file's header comment, which a warehouse would store too."""
    match = _STATEMENT.search(item.source)
    return item.source[match.start() :] if match else item.source


def _code(folder: str, name: str) -> str:
    source = (sql_folder() / folder / f"{name}.sql").read_text(encoding="utf-8")
    return re.sub(r"\A(--[^\n]*\n)+", "", source)


def _read(path: Path) -> SqlObject:
    source = path.read_text(encoding="utf-8")
    kind = KINDS[path.parent.name]
    match = _STATEMENT.search(source)
    created = _NAME.fullmatch(match[2]) if match else None
    if match is None or created is None or _CREATES[match[1]] != kind or created[1] != path.stem:
        raise ConfigurationError(
            f"{path} must create the {kind} {path.stem}, named as `${{project}}.${{dataset}}.{path.stem}`."
        )
    code = re.sub(r"--[^\n]*", "", source)
    return SqlObject(kind, path.stem, source, frozenset(_NAME.findall(code)) - {path.stem})


def _sort_by_references(items: Iterable[SqlObject]) -> tuple[SqlObject, ...]:
    by_name = {item.name: item for item in items}
    for item in by_name.values():
        if missing := sorted(item.references - by_name.keys()):
            raise ConfigurationError(f"The {item.kind} {item.name} reads {', '.join(missing)}, which no file creates.")
    sorter = TopologicalSorter({name: sorted(item.references) for name, item in by_name.items()})
    try:
        return tuple(by_name[name] for name in sorter.static_order())
    except ValueError as error:
        raise ConfigurationError(f"SQL objects reference each other in a circle: {error.args[1]}.") from error
