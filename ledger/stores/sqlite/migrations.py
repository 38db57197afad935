"""The migrations of the embedded store's file, in the order in which ``schema.migrate`` applies them.

A migration, once released, never changes; the next one goes to the end. All that a file lacks run in one transaction.
``PRAGMA user_version`` is the number of the last one, and the table ``migrations`` says when each was applied.
"""

from __future__ import annotations

from typing import NamedTuple


class Migration(NamedTuple):
    """A step from one schema to the next.

    Attributes:
        name: Its number, from 1, and what it brings.
        statements: Each by itself.
    """

    name: str
    statements: tuple[str, ...]


EVENTS = Migration(
    "001_events",
    (
        "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
        # The log and the outbox. AUTOINCREMENT: a rowid used again below a relay's checkpoint would never ship.
        """
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
)""",
        "CREATE INDEX session_events_by_version ON session_events (session_id, version)",
        # Ids of events are in the order of time, so new ones share a page whatever their session.
        "CREATE INDEX session_events_by_id ON session_events (event_id)",
        # One row a session: compare-and-append looks here.
        """
CREATE TABLE session_heads (
  session_id TEXT PRIMARY KEY,
  user_id TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  version INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  event_hash TEXT,
  store_id TEXT NOT NULL
) WITHOUT ROWID""",
        "CREATE INDEX session_heads_by_time ON session_heads (created_at, session_id)",
        "CREATE INDEX session_heads_by_user ON session_heads (user_id, created_at, session_id)",
        # The fold, kept up with each append. A message's value stays in its event row (event_seq), not here.
        """
CREATE TABLE session_state (
  session_id TEXT NOT NULL,
  field TEXT NOT NULL,
  key TEXT NOT NULL,
  version INTEGER NOT NULL,
  event_id TEXT NOT NULL,
  event_seq INTEGER NOT NULL,
  value TEXT,
  PRIMARY KEY (session_id, field, key)
) WITHOUT ROWID""",
        """
CREATE INDEX session_state_messages ON session_state (session_id, version, key, event_seq) WHERE field = 'message'""",
    ),
)

# Lists by attribute or tag start at the few sessions that have it instead of walking all of them.
LOOKUPS = Migration(
    "002_lookups",
    ("CREATE INDEX session_state_lookups ON session_state (field, key, value) WHERE field IN ('attribute', 'tag')",),
)

# Where the relay to each warehouse stands, and the rows that a warehouse refused. ``place`` and ``batch`` are what
# ``ledger.outbox.contract`` says; times are microseconds.
RELAYS = Migration(
    "003_relays",
    (
        """
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
) WITHOUT ROWID""",
        # By row and not by event: of an event that is there in part, only the missing rows are sent again.
        """
CREATE TABLE relay_aside (
  warehouse TEXT NOT NULL,
  seq INTEGER NOT NULL,
  reason TEXT NOT NULL,
  put_at INTEGER NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('refused', 'asked', 'sending')),
  PRIMARY KEY (warehouse, seq)
) WITHOUT ROWID""",
    ),
)

# What is shared with a user is found by that user.
GRANTS = Migration(
    "004_grants",
    ("CREATE INDEX session_state_grants ON session_state (key) WHERE field = 'grant'",),
)

# What is left of an archived session whose rows are in a warehouse alone: its head, owned by nobody (its store_id is
# empty), the slots that lists show, and here what its rows amounted to and which events they were. The ``digest`` of an
# event is that of its content under ``salt``; ``seq`` and ``rows`` are where its rows were, and will be again.
ARCHIVE = Migration(
    "005_archive",
    (
        """
CREATE TABLE archived_sessions (
  session_id TEXT PRIMARY KEY,
  rows INTEGER NOT NULL,
  slots INTEGER NOT NULL,
  digest TEXT NOT NULL
) WITHOUT ROWID""",
        """
CREATE TABLE archived_events (
  session_id TEXT NOT NULL,
  event_id TEXT NOT NULL,
  version INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  rows INTEGER NOT NULL,
  salt TEXT,
  digest TEXT,
  PRIMARY KEY (session_id, event_id)
) WITHOUT ROWID""",
        """
CREATE INDEX session_state_archived ON session_state (session_id)
WHERE field = 'status' AND value = '"archived"'""",
        # Sessions that were deleted for good here, and are still in a warehouse.
        """
CREATE TABLE deleted_sessions (
  session_id TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  warehouse TEXT NOT NULL,
  version INTEGER NOT NULL,
  PRIMARY KEY (session_id, created_at, warehouse)
) WITHOUT ROWID""",
    ),
)

# What the search has taken up, but for the words themselves: those are in a table of SQLite's FTS5, which the first
# search makes, since SQLite may lack that (see ``search_index.py``). ``meta`` says up to which ``seq``.
SEARCH = Migration(
    "006_search",
    (
        """
CREATE TABLE search_slots (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  session_id TEXT NOT NULL,
  field TEXT NOT NULL,
  key TEXT NOT NULL,
  version INTEGER NOT NULL,
  event_id TEXT NOT NULL,
  kept TEXT NOT NULL CHECK (kept IN ('text', 'words', 'nothing')),
  UNIQUE (session_id, field, key)
)""",
        "CREATE INDEX search_slots_large ON search_slots (kept) WHERE kept <> 'text'",
        # Sessions to take up anew: their rows came back to where they were, or their state was folded anew.
        "CREATE TABLE search_again (session_id TEXT PRIMARY KEY) WITHOUT ROWID",
        "INSERT INTO meta VALUES ('search_upto', '0'), ('search_turn', '0')",
    ),
)

# Each migration and when it was applied, in microseconds; NULL where an older release did, which kept no note of it.
MIGRATIONS_TABLE = Migration(
    "007_migrations",
    ("CREATE TABLE migrations (name TEXT PRIMARY KEY, applied_at INTEGER) WITHOUT ROWID",),
)

MIGRATIONS = (EVENTS, LOOKUPS, RELAYS, GRANTS, ARCHIVE, SEARCH, MIGRATIONS_TABLE)
