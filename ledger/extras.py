"""The optional packages: which extra brings each of them, and the one error where one is not installed."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.util import find_spec

from ledger.errors import MissingExtra

#: Extra to the modules that the ledger imports from it, each with the distribution that holds it.
EXTRAS: Mapping[str, Mapping[str, str]] = {
    "analytics": {"duckdb": "duckdb", "pandas": "pandas", "pyarrow": "pyarrow", "sqlglot": "sqlglot"},
    "bigquery": {
        "google.cloud.bigquery": "google-cloud-bigquery",
        "google.cloud.bigquery_storage": "google-cloud-bigquery-storage",
        "pyarrow": "pyarrow",
        "sqlglot": "sqlglot",
    },
    "migrate": {"psycopg": "psycopg", "sqlalchemy": "sqlalchemy"},
    "telemetry": {"opentelemetry.trace": "opentelemetry-api"},
    "testing": {"hypothesis": "hypothesis", "pytest": "pytest"},
}


def require_extra(extra: str, *modules: str) -> None:
    """Raise MissingExtra where modules of an extra are not installed; none of them is imported.

    It is called before they are imported. An error of an installed package is left to its import.

    Args:
        extra: The extra.
        modules: Those that are needed; all of the extra's where none is named.
    """
    if names := missing(extra, *modules):
        raise MissingExtra(f"Not installed: {', '.join(names)}. Type: {install_line(extra)}")


def missing(extra: str, *modules: str) -> list[str]:
    """The distributions of an extra that are not installed, or those of some of its modules."""
    known = EXTRAS[extra]
    return [known[module] for module in modules or known if not _is_installed(module)]


def install_line(extra: str) -> str:
    """What to type to install an extra."""
    return f'pip install "session-ledger[{extra}]"'


def _is_installed(module: str) -> bool:
    if sys.modules.get(module) is not None:
        return True
    try:
        spec = find_spec(module)
    except ModuleNotFoundError as error:
        # A package that the module is in is not installed, or it is and fails to import something else.
        if error.name is not None and f"{module}.".startswith(f"{error.name}."):
            return False
        raise
    # A folder that happens to have the name, such as one for data, is a package without an origin.
    return spec is not None and spec.origin is not None
