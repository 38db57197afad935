"""Ledgers in files of an older schema, with sessions in them."""

from __future__ import annotations

import sqlite3
from pathlib import Path


def copy_sessions(made: Path, connection: sqlite3.Connection) -> None:
    """Copy the sessions of a ledger of this release into one of an older schema, as that release recorded them."""
    connection.execute("ATTACH ? AS made", (str(made),))
    for table in ("session_events", "session_heads", "session_state"):
        names = [name for (name,) in connection.execute("SELECT name FROM main.pragma_table_info(?)", (table,))]
        connection.execute(f"INSERT INTO {table} SELECT {', '.join(names)} FROM made.{table}")
