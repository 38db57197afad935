"""The embedded store's tables, as numbered migrations.

``PRAGMA user_version`` holds the number of the last migration run, ``PRAGMA application_id`` marks the file as ours. A
migration, once released, never changes; the next one goes to the end.
"""

from __future__ import annotations

import sqlite3

from ledger.errors import ConfigurationError
from ledger.model.events import SCHEMA_VERSION

#: "LEDG" in ASCII.
APPLICATION_ID = 0x4C454447

_LEDGER = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

-- The log and the outbox. AUTOINCREMENT: a rowid used again below a relay's checkpoint would never ship.
CREATE TABLE session_events (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  session_id TEXT NOT NULL,
  version INTEGER NOT NULL,
  event_id TEXT NOT NULL,
  event_type TEXT NOT NULL,
  field TEXT NOT NULL,
  key TEXT NOT NULL,
  value TEXT,
  removed INTEGER NOT NULL,
  user_id TEXT NOT NULL,
  actor TEXT,
  occurred_at INTEGER NOT NULL,
  recorded_at INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  schema_version INTEGER NOT NULL,
  store_id TEXT NOT NULL,
  value_hash TEXT,
  value_salt TEXT,
  prev_hash TEXT,
  event_hash TEXT
);
CREATE INDEX session_events_by_version ON session_events (session_id, version);
-- Ids of events are in the order of time, so new ones share a page whatever their session.
CREATE INDEX session_events_by_id ON session_events (event_id);

-- One row a session: compare-and-append looks here.
CREATE TABLE session_heads (
  session_id TEXT PRIMARY KEY,
  user_id TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  version INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  event_hash TEXT,
  store_id TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX session_heads_by_time ON session_heads (created_at, session_id);
CREATE INDEX session_heads_by_user ON session_heads (user_id, created_at, session_id);

-- The fold, kept up with each append. A message's value stays in its event row (event_seq), not here.
CREATE TABLE session_state (
  session_id TEXT NOT NULL,
  field TEXT NOT NULL,
  key TEXT NOT NULL,
  version INTEGER NOT NULL,
  event_id TEXT NOT NULL,
  event_seq INTEGER NOT NULL,
  value TEXT,
  PRIMARY KEY (session_id, field, key)
) WITHOUT ROWID;
CREATE INDEX session_state_messages ON session_state (session_id, version, key, event_seq) WHERE field = 'message';
"""

# Lists by attribute or tag start at the few sessions that have it instead of walking all of them.
_LOOKUPS = """
CREATE INDEX session_state_lookups ON session_state (field, key, value) WHERE field IN ('attribute', 'tag');
"""

# Where the relay to each warehouse stands, and the rows that a warehouse refused. ``place`` and ``batch`` are what
# ``ledger.outbox.contract`` says; times are microseconds.
_RELAYS = """
CREATE TABLE relays (
  warehouse TEXT PRIMARY KEY,
  epoch INTEGER NOT NULL DEFAULT 0,
  holder TEXT,
  lease_until INTEGER NOT NULL DEFAULT 0,
  checkpoint INTEGER NOT NULL DEFAULT 0,
  unsure_upto INTEGER NOT NULL DEFAULT 0,
  place TEXT NOT NULL DEFAULT '',
  batch TEXT,
  shipped_rows INTEGER NOT NULL DEFAULT 0,
  shipped_at INTEGER,
  rate REAL,
  last_error TEXT,
  failed_at INTEGER
) WITHOUT ROWID;

-- By row and not by event: of an event that is there in part, only the missing rows are sent again.
CREATE TABLE relay_aside (
  warehouse TEXT NOT NULL,
  seq INTEGER NOT NULL,
  reason TEXT NOT NULL,
  put_at INTEGER NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('refused', 'asked', 'sending')),
  PRIMARY KEY (warehouse, seq)
) WITHOUT ROWID;
"""

# What is shared with a user is found by that user.
_GRANTS = """
CREATE INDEX session_state_grants ON session_state (key) WHERE field = 'grant';
"""

# What is left of an archived session whose rows are in a warehouse alone: its head, owned by nobody (its store_id is
# empty), the slots that lists show, and here what its rows amounted to and which events they were. The ``digest`` of an
# event is that of its content under ``salt``; ``seq`` and ``rows`` are where its rows were, and will be again.
_ARCHIVE = """
CREATE TABLE archived_sessions (
  session_id TEXT PRIMARY KEY,
  rows INTEGER NOT NULL,
  slots INTEGER NOT NULL,
  digest TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE archived_events (
  session_id TEXT NOT NULL,
  event_id TEXT NOT NULL,
  version INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  rows INTEGER NOT NULL,
  salt TEXT,
  digest TEXT,
  PRIMARY KEY (session_id, event_id)
) WITHOUT ROWID;
CREATE INDEX session_state_archived ON session_state (session_id)
WHERE field = 'status' AND value = '"archived"';

-- Sessions that were deleted for good here, and are still in a warehouse.
CREATE TABLE deleted_sessions (
  session_id TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  warehouse TEXT NOT NULL,
  version INTEGER NOT NULL,
  PRIMARY KEY (session_id, created_at, warehouse)
) WITHOUT ROWID;
"""

# What the search has taken up, but for the words themselves: those are in a table of SQLite's FTS5, which the first
# search makes, since SQLite may lack that (see ``search_index.py``). ``meta`` says up to which ``seq``.
_SEARCH = """
CREATE TABLE search_slots (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  session_id TEXT NOT NULL,
  field TEXT NOT NULL,
  key TEXT NOT NULL,
  version INTEGER NOT NULL,
  event_id TEXT NOT NULL,
  kept TEXT NOT NULL CHECK (kept IN ('text', 'words', 'nothing')),
  UNIQUE (session_id, field, key)
);
CREATE INDEX search_slots_large ON search_slots (kept) WHERE kept <> 'text';

-- Sessions to take up anew: their rows came back to where they were, or their state was folded anew.
CREATE TABLE search_again (session_id TEXT PRIMARY KEY) WITHOUT ROWID;
INSERT INTO meta VALUES ('search_upto', '0'), ('search_turn', '0');
"""

MIGRATIONS = (_LEDGER, _LOOKUPS, _RELAYS, _GRANTS, _ARCHIVE, _SEARCH)


def migrate(
    connection: sqlite3.Connection,
    path: str,
    *,
    new_store_id: str,
    state_schema: int = SCHEMA_VERSION,
    upto: int = len(MIGRATIONS),
) -> None:
    """Bring a database to the present schema, whole or not at all; an empty file becomes a ledger.

    Args:
        connection: In autocommit mode.
        path: For messages.
        new_store_id: The identity of the store, where this call makes one.
        state_schema: The schema_version of the events that ``session_state`` is folded from, in a new file.
        upto: Number of the last migration to run; tests of upgrades stop earlier.

    Raises:
        ConfigurationError: The file belongs to another program, or was written by a newer version of this one.
    """
    if is_ready(connection, path, upto):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        if not is_ready(connection, path, upto):  # another process may have done it while this one waited
            found = _pragma(connection, "user_version")
            for script in MIGRATIONS[found:upto]:
                for statement in script.split(";\n"):
                    connection.execute(statement)
            if found == 0:
                connection.execute("INSERT INTO meta VALUES ('store_id', ?), ('epoch', '1')", (new_store_id,))
                connection.execute("INSERT INTO meta VALUES ('state_schema', ?)", (str(state_schema),))
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {upto:d}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def is_ready(connection: sqlite3.Connection, path: str, upto: int = len(MIGRATIONS)) -> bool:
    """Whether a database has the schema; nothing is changed.

    Raises:
        ConfigurationError: The file belongs to another program, or was written by a newer version of this one.
    """
    # Looked at first: whoever sets up the file meanwhile writes the tables and the id at once, so that tables which are
    # there now are never found without their id.
    empty = connection.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone() == (0,)
    application, version = _pragma(connection, "application_id"), _pragma(connection, "user_version")
    if application != APPLICATION_ID and not (empty and application == 0):
        raise ConfigurationError(f"{path} is a SQLite database of another program; give the ledger a file of its own.")
    if version > len(MIGRATIONS):
        raise ConfigurationError(
            f"{path} has schema {version}, newer than this code's {len(MIGRATIONS)}; upgrade session-ledger."
        )
    return version >= upto


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])
