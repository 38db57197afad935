"""Every environment variable that the ledger reads: its name, default and meaning.

``docs/settings.md`` is generated from this module. To add a setting, define a ``Setting`` in this module, and read its
value with a method of the setting, as in ``LEDGER_URL.text()``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

#: Headings of the tables in docs/settings.md, in the order of the page.
LEDGER, BIGQUERY, TERMINAL, SEEDS = "Ledger", "BigQuery", "Terminal", "Former session stores"


@dataclass(frozen=True, slots=True)
class Setting:
    """An environment variable.

    Attributes:
        name: Name of the variable.
        group: Heading of the table in ``docs/settings.md`` that lists the variable.
        meaning: Purpose of the variable, in one line.
        default: Text for the documentation that says which value applies if the variable is not set.
        shown: True if ``ledger doctor`` lists the variable with its value. Other ``LEDGER_`` variables may hold
            secrets. For those, the doctor says only that they are set.
        seed_name: The variable's name in a former session store that ``ledger.compat`` replaces, or an empty string.
            ``seed_text`` reads the variable with this name if the one with the name ``name`` has no value.
    """

    name: str
    group: str
    meaning: str
    default: str = ""
    shown: bool = False
    seed_name: str = ""

    def text(self, environment: Mapping[str, str] | None = None) -> str | None:
        """Return the variable's value; None if the variable is not set or is empty.

        Args:
            environment: Environment variables; None for those of this process.
        """
        return _variables(environment).get(self.name) or None

    def seed_text(self, environment: Mapping[str, str] | None = None) -> str | None:
        """Return the value of the variable ``name``, or else of ``seed_name``. None if both are unset or empty."""
        return self.text(environment) or _variables(environment).get(self.seed_name) or None

    def is_set(self, environment: Mapping[str, str] | None = None) -> bool:
        """Return True if the variable is set, even to an empty value."""
        return self.name in _variables(environment)

    def is_on(self, environment: Mapping[str, str] | None = None) -> bool:
        """Return True if the variable's value is 1, true, yes or on in any case, and False for any other value."""
        return (self.text(environment) or "").lower() in ("1", "true", "yes", "on")


def process_environment() -> Mapping[str, str]:
    """Return a copy of the current environment variables of this process."""
    return dict(os.environ)


def _variables(environment: Mapping[str, str] | None) -> Mapping[str, str]:
    return os.environ if environment is None else environment


LEDGER_URL = Setting(
    "LEDGER_URL",
    LEDGER,
    "URL of the ledger: `sqlite:///file.db`, `sqlite:////absolute/file.db` or `bigquery://PROJECT/DATASET`; or a path.",
    default="sqlite:///ledger.db",
    shown=True,
)
LEDGER_WAREHOUSE = Setting(
    "LEDGER_WAREHOUSE",
    LEDGER,
    "URL of the warehouse that a SQLite ledger ships to: `bigquery://PROJECT/DATASET` or `duckdb:///file.duckdb`.",
)
LEDGER_RELAY = Setting(
    "LEDGER_RELAY",
    LEDGER,
    "`background`: a program that opens the ledger through the SDK runs a relay as well. Commands do not.",
    default="off",
)
LEDGER_SESSION_DEFAULT_TTL_HOURS = Setting(
    "LEDGER_SESSION_DEFAULT_TTL_HOURS",
    LEDGER,
    "Default TTL of a session, in hours, or `none`: it never expires.",
    default="none; 24 for analysis sessions",
    seed_name="SESSION_DEFAULT_TTL_HOURS",
)
LEDGER_SESSION_MAX_TTL_HOURS = Setting(
    "LEDGER_SESSION_MAX_TTL_HOURS",
    LEDGER,
    "Maximum TTL of a session, in hours, or `none`. With a maximum every session expires.",
    default="none; 168 for analysis sessions",
    seed_name="SESSION_MAX_TTL_HOURS",
)

GOOGLE_CLOUD_PROJECT = Setting(
    "GOOGLE_CLOUD_PROJECT",
    BIGQUERY,
    "The project of a URL without one: `bigquery:///DATASET`.",
    default="the credentials' project",
    shown=True,
)
BIGQUERY_EMULATOR_HOST = Setting(
    "BIGQUERY_EMULATOR_HOST",
    BIGQUERY,
    "REST address of an emulator, `host:port`, which replaces the service.",
    shown=True,
)
BIGQUERY_EMULATOR_GRPC_HOST = Setting(
    "BIGQUERY_EMULATOR_GRPC_HOST",
    BIGQUERY,
    "gRPC address of the emulator, `host:port`.",
    default="the emulator's host, port 9060",
    shown=True,
)
GOOGLE_APPLICATION_CREDENTIALS = Setting(
    "GOOGLE_APPLICATION_CREDENTIALS",
    BIGQUERY,
    "Path of a key file, read by Google's libraries; `ledger doctor` checks that it exists.",
    default="Google's default credentials",
)
CLOUDSDK_CONFIG = Setting(
    "CLOUDSDK_CONFIG",
    BIGQUERY,
    "Folder of gcloud's configuration, in which `ledger doctor` looks for default credentials.",
    default="`~/.config/gcloud`",
)

LEDGER_USER = Setting(
    "LEDGER_USER",
    TERMINAL,
    "Owner of new sessions; the option `--user` overrides it.",
    default="the login name",
    shown=True,
)
LEDGER_IMPORT_FROM = Setting(
    "LEDGER_IMPORT_FROM",
    TERMINAL,
    "Path or URL (with password) of the database that `ledger import-store` reads.",
)
TERMINAL_COLUMNS = Setting(
    "COLUMNS", TERMINAL, "Width of tables, in characters.", default="the terminal's width; no limit in a pipe"
)
HOME = Setting("HOME", TERMINAL, "The home folder, in which `ledger doctor` looks for `.config/gcloud`.", default="`/`")

SESSION_CLEANUP_INTERVAL_MINUTES = Setting(
    "LEDGER_SESSION_CLEANUP_INTERVAL_MINUTES",
    SEEDS,
    "Interval of the cleanup of analysis sessions, in minutes.",
    default="60",
    seed_name="SESSION_CLEANUP_INTERVAL_MINUTES",
)
SESSION_RETENTION_DAYS = Setting(
    "LEDGER_SESSION_RETENTION_DAYS",
    SEEDS,
    "Days for which ended analysis sessions are kept.",
    default="30",
    seed_name="SESSION_RETENTION_DAYS",
)
SESSION_MAX_QUERIES_PER_SESSION = Setting(
    "LEDGER_SESSION_MAX_QUERIES_PER_SESSION",
    SEEDS,
    "Maximum number of queries in an analysis session.",
    default="1000",
    seed_name="SESSION_MAX_QUERIES_PER_SESSION",
)
SESSION_ENABLE_ANALYTICS = Setting(
    "LEDGER_SESSION_ENABLE_ANALYTICS",
    SEEDS,
    "`true`: metrics of analysis sessions are recorded.",
    default="true",
    seed_name="SESSION_ENABLE_ANALYTICS",
)
DEBUG_SESSION_STATES = Setting(
    "DEBUG_SESSION_STATES", SEEDS, "`1`: the module `session_states` logs each recorded change, without its value."
)
POSTGRES_HOST = Setting("POSTGRES_HOST", SEEDS, "Host of the session_states database to import.")
POSTGRES_DB = Setting("POSTGRES_DB", SEEDS, "Name of that database.")
POSTGRES_USER = Setting("POSTGRES_USER", SEEDS, "User of that database.")
POSTGRES_PASSWORD = Setting("POSTGRES_PASSWORD", SEEDS, "Password of that user.")
POSTGRES_PORT = Setting("POSTGRES_PORT", SEEDS, "Port of that database.")

#: All settings, in the order of the documentation.
SETTINGS: tuple[Setting, ...] = tuple(each for each in list(globals().values()) if isinstance(each, Setting))
#: Maps fields of ``SessionSettings`` (in ``ledger.compat.analysis_sessions``) to the settings that set them. These are
#: the settings with a ``seed_name``, and the name of the field is the ``seed_name`` in lower case.
ANALYSIS_SESSIONS: Mapping[str, Setting] = {each.seed_name.lower(): each for each in SETTINGS if each.seed_name}
