"""Every environment variable that the ledger reads: its name, default and meaning, and the one place that reads it.

``docs/settings.md`` is this module's table; ``ledger doctor`` shows the values of those that are ``shown``. A new
setting is one entry here, and its reader asks it: ``LEDGER_URL.text()``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

#: The tables of docs/settings.md, in order.
LEDGER, BIGQUERY, TERMINAL, SEEDS = "Ledger", "BigQuery", "Terminal", "Former session stores"


@dataclass(frozen=True, slots=True)
class Setting:
    """An environment variable.

    Attributes:
        name: Name of the variable.
        group: The table that documents it.
        meaning: What it sets, in one line.
        default: What holds while it is not set, as documentation says it.
        shown: Whether ``ledger doctor`` shows its value; of others only that they are set, as they may hold a secret.
        seed_name: Its name in the session store that ``ledger.compat`` replaces, read there if the first is not set.
    """

    name: str
    group: str
    meaning: str
    default: str = ""
    shown: bool = False
    seed_name: str = ""

    def text(self, environment: Mapping[str, str] | None = None) -> str | None:
        """Its value; None if it is not set, or empty.

        Args:
            environment: Where to look; None for the variables of this process.
        """
        return _given(environment).get(self.name) or None

    def seed_text(self, environment: Mapping[str, str] | None = None) -> str | None:
        """Its value, by its own name or else by ``seed_name``; None if neither is set."""
        return self.text(environment) or _given(environment).get(self.seed_name) or None

    def is_set(self, environment: Mapping[str, str] | None = None) -> bool:
        """Whether it is set, if only to nothing."""
        return self.name in _given(environment)

    def is_on(self, environment: Mapping[str, str] | None = None) -> bool:
        """Whether it says 1, true, yes or on."""
        return (self.text(environment) or "").lower() in ("1", "true", "yes", "on")


def process_environment() -> Mapping[str, str]:
    """The variables of this process, as they are now."""
    return dict(os.environ)


def _given(environment: Mapping[str, str] | None) -> Mapping[str, str]:
    return os.environ if environment is None else environment


LEDGER_URL = Setting(
    "LEDGER_URL",
    LEDGER,
    "Where the ledger is: `sqlite:///file.db`, `sqlite:////absolute/file.db` or `bigquery://PROJECT/DATASET`.",
    default="sqlite:///ledger.db",
    shown=True,
)
LEDGER_WAREHOUSE = Setting(
    "LEDGER_WAREHOUSE",
    LEDGER,
    "Where the rows of a file are shipped: `bigquery://PROJECT/DATASET` or `duckdb:///file.duckdb`.",
)
LEDGER_RELAY = Setting(
    "LEDGER_RELAY",
    LEDGER,
    "`background`: a program that opens the ledger ships what is appended; `off`: it does not.",
    default="off",
)
LEDGER_SESSION_DEFAULT_TTL_HOURS = Setting(
    "LEDGER_SESSION_DEFAULT_TTL_HOURS",
    LEDGER,
    "Default TTL of a session, in hours, or `none`.",
    default="24",
    seed_name="SESSION_DEFAULT_TTL_HOURS",
)
LEDGER_SESSION_MAX_TTL_HOURS = Setting(
    "LEDGER_SESSION_MAX_TTL_HOURS",
    LEDGER,
    "Maximum TTL of a session, in hours, or `none`.",
    default="168",
    seed_name="SESSION_MAX_TTL_HOURS",
)

GOOGLE_CLOUD_PROJECT = Setting(
    "GOOGLE_CLOUD_PROJECT",
    BIGQUERY,
    "The project, if the URL names none: `bigquery:///DATASET`.",
    default="the credentials' project",
    shown=True,
)
BIGQUERY_EMULATOR_HOST = Setting(
    "BIGQUERY_EMULATOR_HOST", BIGQUERY, "An emulator's REST address, `host:port`, in place of the service.", shown=True
)
BIGQUERY_EMULATOR_GRPC_HOST = Setting(
    "BIGQUERY_EMULATOR_GRPC_HOST",
    BIGQUERY,
    "An emulator's gRPC address, `host:port`.",
    default="the emulator's host, port 9060",
    shown=True,
)
GOOGLE_APPLICATION_CREDENTIALS = Setting(
    "GOOGLE_APPLICATION_CREDENTIALS",
    BIGQUERY,
    "A key file, which Google's libraries read; `ledger doctor` looks whether it exists.",
    default="Google's default credentials",
)
CLOUDSDK_CONFIG = Setting(
    "CLOUDSDK_CONFIG",
    BIGQUERY,
    "Folder of gcloud's configuration, where `ledger doctor` looks for default credentials.",
    default="`~/.config/gcloud`",
)

LEDGER_USER = Setting(
    "LEDGER_USER", TERMINAL, "The owner of a new session, if `--user` is not given.", default="the login", shown=True
)
LEDGER_IMPORT_FROM = Setting(
    "LEDGER_IMPORT_FROM", TERMINAL, "The database that `ledger import-store` reads, as a path or URL with its password."
)
TERMINAL_COLUMNS = Setting(
    "COLUMNS", TERMINAL, "Width of tables, in characters.", default="the terminal's width, or 120 in a pipe"
)
HOME = Setting("HOME", TERMINAL, "The user's folder, where `ledger doctor` looks for `.config/gcloud`.", default="`/`")

SESSION_CLEANUP_INTERVAL_MINUTES = Setting(
    "LEDGER_SESSION_CLEANUP_INTERVAL_MINUTES",
    SEEDS,
    "Minutes between two runs of the cleanup of analysis sessions.",
    default="60",
    seed_name="SESSION_CLEANUP_INTERVAL_MINUTES",
)
SESSION_RETENTION_DAYS = Setting(
    "LEDGER_SESSION_RETENTION_DAYS",
    SEEDS,
    "Days for which analysis sessions that are over are kept.",
    default="30",
    seed_name="SESSION_RETENTION_DAYS",
)
SESSION_MAX_QUERIES_PER_SESSION = Setting(
    "LEDGER_SESSION_MAX_QUERIES_PER_SESSION",
    SEEDS,
    "Queries that one analysis session takes.",
    default="1000",
    seed_name="SESSION_MAX_QUERIES_PER_SESSION",
)
SESSION_ENABLE_ANALYTICS = Setting(
    "LEDGER_SESSION_ENABLE_ANALYTICS",
    SEEDS,
    "Whether metrics of analysis sessions are recorded.",
    default="true",
    seed_name="SESSION_ENABLE_ANALYTICS",
)
DEBUG_SESSION_STATES = Setting(
    "DEBUG_SESSION_STATES", SEEDS, "`1`: the module `session_states` logs what it records, without values."
)
POSTGRES_HOST = Setting("POSTGRES_HOST", SEEDS, "Host of the session_states database that is imported.")
POSTGRES_DB = Setting("POSTGRES_DB", SEEDS, "Name of that database.")
POSTGRES_USER = Setting("POSTGRES_USER", SEEDS, "User of that database.")
POSTGRES_PASSWORD = Setting("POSTGRES_PASSWORD", SEEDS, "Password of that user.")
POSTGRES_PORT = Setting("POSTGRES_PORT", SEEDS, "Port of that database.")

#: Every setting, in the order in which they are documented.
SETTINGS: tuple[Setting, ...] = tuple(each for each in list(globals().values()) if isinstance(each, Setting))
#: The settings of analysis sessions, by the names of their fields in ``ledger.compat.analysis_sessions``.
ANALYSIS_SESSIONS: Mapping[str, Setting] = {each.seed_name.lower(): each for each in SETTINGS if each.seed_name}
