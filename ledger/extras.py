"""The extras of this package, the optional packages that each extra installs, and checks that they are installed."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.util import find_spec

from ledger.errors import MissingExtra

#: For each extra, maps the modules that the ledger imports to the names of the packages that pip installs.
EXTRAS: Mapping[str, Mapping[str, str]] = {
    "analytics": {"duckdb": "duckdb", "pandas": "pandas", "pyarrow": "pyarrow", "sqlglot": "sqlglot"},
    "bigquery": {
        "google.cloud.bigquery": "google-cloud-bigquery",
        "google.cloud.bigquery_storage": "google-cloud-bigquery-storage",
        "pyarrow": "pyarrow",
        "sqlglot": "sqlglot",
    },
    "charts": {"altair": "altair", "vl_convert": "vl-convert-python"},
    "migrate": {"psycopg": "psycopg", "sqlalchemy": "sqlalchemy"},
    "schedules": {"google.cloud.bigquery_datatransfer": "google-cloud-bigquery-datatransfer"},
    "telemetry": {"opentelemetry.trace": "opentelemetry-api"},
    "testing": {"hypothesis": "hypothesis", "pytest": "pytest"},
}


def require_extra(extra: str, *modules: str) -> None:
    """Raise MissingExtra if a module of an extra is not installed. Call this function before importing the modules.

    The function does not import the modules. It therefore does not raise an error for a broken installation.

    Args:
        extra: Name of the extra.
        modules: Modules to check; by default all modules of the extra.
    """
    if names := missing(extra, *modules):
        raise MissingExtra(f"Not installed: {', '.join(names)}. Type {install_line(extra)}")


def missing(extra: str, *modules: str) -> list[str]:
    """Return the names of the packages of an extra that are not installed, as pip knows them.

    Args:
        extra: Name of the extra.
        modules: Modules to check; by default all modules of the extra.
    """
    known = EXTRAS[extra]
    return [known[module] for module in modules or known if not _is_installed(module)]


def install_line(extra: str) -> str:
    """Return the command line that installs an extra, and where to type it.

    The package is not on PyPI; the name ``session-ledger`` there is somebody else's.
    """
    return f'in the checkout: pip install ".[{extra}]"'


def _is_installed(module: str) -> bool:
    if sys.modules.get(module) is not None:
        return True
    try:
        spec = find_spec(module)
    except ModuleNotFoundError as error:
        # Either a parent package is not installed, or it is installed and fails to import another module.
        if error.name is not None and f"{module}.".startswith(f"{error.name}."):
            return False
        raise
    # A folder with that name, such as a data folder, is a namespace package, which has no origin.
    return spec is not None and spec.origin is not None
