"""A check of the lock row that serialises scripts in BigQuery; see ``sql/tables/session_locks.sql``."""

from __future__ import annotations

from typing import Any

from ledger.errors import ConfigurationError


def require_lock(outcome: Any) -> str:
    """Return the outcome of a script as text, after a check that it is not ``unlocked``.

    Raises:
        ConfigurationError: The outcome is ``unlocked``: the lock row is missing, so the script wrote nothing.
    """
    if outcome == "unlocked":
        raise ConfigurationError(
            "The table session_locks has no row, so appends cannot be checked; nothing was written. "
            "Run create_sessions_table.py (or `ledger init`), which inserts it."
        )
    return str(outcome)
