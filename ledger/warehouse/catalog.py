"""The SQL objects of the ledger: found on disk, bound to a project and dataset, in the order they can be created.

``sql/`` holds one object per file, named as the file, in GoogleSQL. A file names the ledger's own objects as
`${project}.${dataset}.name` in backticks, and nothing else in it is substituted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

from ledger.errors import ConfigurationError

#: The folders that hold objects of the catalog, and the kind of object in each.
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
        name: As in SQL; the file is named the same.
        source: The whole file, header comment and placeholders included.
        references: Names of the objects that it reads.
    """

    kind: str
    name: str
    source: str
    references: frozenset[str]


def sql_folder() -> Path:
    """Where the SQL files lie: inside an installed package, else beside it in a checkout.

    Raises:
        ConfigurationError: They are in neither place.
    """
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "sql", package.parent / "sql"):
        if folder.is_dir():
            return folder
    raise ConfigurationError(f"The SQL files are missing beside {package}; install session-ledger again.")


@cache
def objects() -> tuple[SqlObject, ...]:
    """The ledger's own objects, each after those it reads.

    Raises:
        ConfigurationError: The files are missing or do not fit together.
    """
    return load(sql_folder())


def load(folder: Path) -> tuple[SqlObject, ...]:
    """Read a folder of SQL files and put the objects in an order in which they can be created.

    Args:
        folder: Holds ``tables/``, ``views/`` and ``functions/``.

    Raises:
        ConfigurationError: A file creates something else than its name and folder say, reads an object that is not
            there, or reads itself by way of others.
    """
    files = sorted(path for part in KINDS for path in (folder / part).glob("*.sql"))
    return _ordered([_read(path) for path in files])


def named(name: str) -> SqlObject:
    """The object of this name.

    Raises:
        ConfigurationError: There is none.
    """
    for item in objects():
        if item.name == name:
            return item
    raise ConfigurationError(f"The ledger has no SQL object {name!r}.")


def bind(sql: str, project: str | None = None, dataset: str | None = None) -> str:
    """Put real names in place of `${project}.${dataset}.name`.

    Args:
        sql: GoogleSQL with placeholders.
        project: Where the ledger's objects are; None for bare names, as in a database of the ledger's own.
        dataset: Given along with ``project``.

    Returns:
        The SQL with every name still in backticks.

    Raises:
        ConfigurationError: A name is not one that BigQuery takes, so it is not put into a statement.
    """
    if project is None or dataset is None:
        return _NAME.sub(r"`\1`", sql)
    check_names(project, dataset)
    return _NAME.sub(lambda match: f"`{project}.{dataset}.{match[1]}`", sql)


def check_names(project: str, dataset: str) -> None:
    """Raise ConfigurationError unless these are names that BigQuery gives projects and datasets."""
    if not _PROJECT.fullmatch(project):
        raise ConfigurationError(f"{project!r} is no project id: lower-case letters, digits and hyphens, 6 to 30.")
    if not _DATASET.fullmatch(dataset):
        raise ConfigurationError(f"{dataset!r} is no dataset id: letters, digits and underscores.")


@cache
def query(name: str) -> str:
    """A statement of ``sql/statements/``, which takes parameters and creates nothing; its header comment left out."""
    source = (sql_folder() / "statements" / f"{name}.sql").read_text(encoding="utf-8")
    return re.sub(r"\A(--[^\n]*\n)+", "", source)


def statement(item: SqlObject) -> str:
    """The object's statement without its header comment, so that what a warehouse stores begins with the code."""
    match = _STATEMENT.search(item.source)
    return item.source[match.start() :] if match else item.source


def _read(path: Path) -> SqlObject:
    source = path.read_text(encoding="utf-8")
    kind = KINDS[path.parent.name]
    match = _STATEMENT.search(source)
    created = _NAME.fullmatch(match[2]) if match else None
    if match is None or created is None or _CREATES[match[1]] != kind or created[1] != path.stem:
        raise ConfigurationError(f"{path} must create the {kind} {path.stem}, under its placeholder name.")
    code = re.sub(r"--[^\n]*", "", source)
    return SqlObject(kind, path.stem, source, frozenset(_NAME.findall(code)) - {path.stem})


def _ordered(items: Iterable[SqlObject]) -> tuple[SqlObject, ...]:
    by_name = {item.name: item for item in items}
    for item in by_name.values():
        if missing := sorted(item.references - by_name.keys()):
            raise ConfigurationError(f"The {item.kind} {item.name} reads {', '.join(missing)}, which no file creates.")
    sorter = TopologicalSorter({name: sorted(item.references) for name, item in by_name.items()})
    try:
        return tuple(by_name[name] for name in sorter.static_order())
    except ValueError as error:
        raise ConfigurationError(f"SQL objects read each other in a circle: {error.args[1]}.") from error
