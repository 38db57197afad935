"""Check that a script in BigQuery found the row that it must lock; see ``sql/tables/session_locks.sql``."""

from __future__ import annotations

from typing import Any

from ledger.errors import ConfigurationError


def require_lock(outcome: Any) -> str:
    """Check that a script found its lock row, and return the script's outcome as text.

    Raises:
        ConfigurationError: The outcome is ``unlocked``. The lock row is missing, so the script wrote nothing.
    """
    if outcome == "unlocked":
        raise ConfigurationError(
            "The table session_locks has no row, so appends cannot be checked; nothing was written. "
            "Run create_sessions_table.py (or `ledger init`), which inserts it."
        )
    return str(outcome)
