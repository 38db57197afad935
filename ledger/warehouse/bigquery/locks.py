"""The lock row that serialises scripts in BigQuery: ``sql/tables/session_locks.sql``."""

from __future__ import annotations

from typing import Any

from ledger.errors import ConfigurationError


def require_lock(outcome: Any) -> str:
    """Return a script's outcome after checking that it held the lock row.

    Raises:
        ConfigurationError: The lock row is missing, so nothing serialises the script; nothing was written.
    """
    if outcome == "unlocked":
        raise ConfigurationError(
            "The table session_locks has lost its row, without which appends cannot be checked; nothing was written. "
            "Run create_sessions_table.py (or `ledger init`), which puts it back."
        )
    return str(outcome)
