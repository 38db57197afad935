"""The migrations of the embedded store's file, in the order in which ``schema.migrate`` applies them.

A released migration never changes; new ones are added at the end. All migrations that a file lacks run in one
transaction. ``PRAGMA user_version`` is the number of the last migration applied, and the table ``migrations`` records
when each was applied.
"""

from __future__ import annotations

import sqlite3
import unicodedata
from collections.abc import Callable, Collection
from typing import NamedTuple

from ledger.model.values import canonical
from ledger.stores.sqlite import tombstones, views
from ledger.stores.sqlite.verify_errors import is_damage


class Migration(NamedTuple):
    """A step from one schema to the next.

    Attributes:
        name: The migration's number and its subject, for example ``001_events``.
        statements: The SQL statements, which are executed one by one.
        fill: Function that is called after the statements, and computes what SQL cannot; None if there is no such.
        takes: Names that the file's views have from here on. A view of the user's own that has such a name is renamed.
    """

    name: str
    statements: tuple[str, ...]
    fill: Callable[[sqlite3.Connection], None] | None = None
    takes: Collection[str] = ()


EVENTS = Migration(
    "001_events",
    (
        "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
        # The log and the outbox. AUTOINCREMENT never reuses a ``seq``: a new row below a relay's checkpoint would never
        # be shipped.
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
        # Event ids grow with time, so new ones of all sessions share a page.
        "CREATE INDEX session_events_by_id ON session_events (event_id)",
        # One row per session, for compare-and-append.
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
        # The latest state, updated by each append. A message's value is in its event row (event_seq) only.
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

# Lists by attribute or tag read only the sessions that have it.
LOOKUPS = Migration(
    "002_lookups",
    ("CREATE INDEX session_state_lookups ON session_state (field, key, value) WHERE field IN ('attribute', 'tag')",),
)

# The checkpoint of the relay to each warehouse, and dead letters. ``place`` is ``RelayCheckpoint.sink_state``,
# ``unsure_upto`` its ``in_doubt_upto``; times are microseconds.
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
        # By row and not by event: if a warehouse has part of an event, only the missing rows are sent again.
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

# Lists of the sessions shared with a user read only those.
GRANTS = Migration(
    "004_grants",
    ("CREATE INDEX session_state_grants ON session_state (key) WHERE field = 'grant'",),
)

# Tombstones of archived sessions whose rows are only in a warehouse: digests of the session and of its events. The head
# (with an empty store_id) and the listed registers stay in their tables. The ``digest`` of an event covers its type,
# its content and ``salt``. ``seq`` is the position of its first row and ``rows`` their number: a restore uses both.
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
        # Purged sessions that a warehouse must still delete.
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

# The texts that the search has indexed. Their words are in an FTS5 table, which the first search creates, since SQLite
# may lack FTS5 (see ``search_index.py``). ``meta`` holds the last indexed ``seq``.
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
        # Sessions to index again: their rows were restored, or their state was folded again.
        "CREATE TABLE search_again (session_id TEXT PRIMARY KEY) WITHOUT ROWID",
        "INSERT INTO meta VALUES ('search_upto', '0'), ('search_turn', '0')",
    ),
)

# Each migration and when it was applied, in microseconds; NULL if an older release, without this table, applied it.
MIGRATIONS_TABLE = Migration(
    "007_migrations",
    ("CREATE TABLE migrations (name TEXT PRIMARY KEY, applied_at INTEGER) WITHOUT ROWID",),
)

# Events that other stores recorded, as runs of versions; every other event is of this store. ``chained`` is 1 if the
# events of the run came with hashes. ``verify`` compares the columns ``store_id`` and ``event_hash`` with it. The key's
# columns come first: SQLite 3.40 finds NULLs in another order of them that are not there.
FOREIGN_EVENTS = Migration(
    "008_foreign_events",
    (
        """
CREATE TABLE foreign_events (
  session_id TEXT NOT NULL,
  first_version INTEGER NOT NULL,
  store_id TEXT NOT NULL,
  chained INTEGER NOT NULL,
  last_version INTEGER NOT NULL,
  PRIMARY KEY (session_id, first_version, store_id, chained)
) WITHOUT ROWID""",
        """
INSERT INTO foreign_events
SELECT session_id, MIN(version), store_id, chained, MAX(version) FROM (
  SELECT session_id, version, store_id, chained,
    version - ROW_NUMBER() OVER (PARTITION BY session_id, store_id, chained ORDER BY version) AS run
  FROM (
    SELECT DISTINCT session_id, version, store_id, event_hash IS NOT NULL AS chained FROM session_events
    WHERE store_id <> (SELECT value FROM meta WHERE name = 'store_id')
  )
)
GROUP BY session_id, store_id, chained, run""",
    ),
)

# Seals, and their leaves. A leaf is kept only if it differs from that of the seal before: the leaf of a session in a
# seal is the session's row with the highest ``seal`` up to it. Version 0 says that the session is not in the seal.
SEALS = Migration(
    "009_seals",
    (
        # ``root`` is NULL until it is computed; such a seal was never finished and does not count.
        """
CREATE TABLE seals (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  seal_id TEXT NOT NULL UNIQUE,
  made_at INTEGER NOT NULL,
  sessions INTEGER NOT NULL,
  events INTEGER NOT NULL,
  last_seq INTEGER NOT NULL,
  previous_root TEXT,
  root TEXT
)""",
        """
CREATE TABLE sealed_heads (
  session_id TEXT NOT NULL,
  seal INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  version INTEGER NOT NULL,
  event_hash TEXT,
  PRIMARY KEY (session_id, seal)
) WITHOUT ROWID""",
        # Purged sessions: without a record, a sealed one would look like a removed one, and a restored backup would
        # bring one back. Earlier releases recorded only sealed ones.
        """
CREATE TABLE purged_sessions (
  session_id TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  version INTEGER NOT NULL,
  purged_at INTEGER NOT NULL,
  PRIMARY KEY (session_id, created_at)
) WITHOUT ROWID""",
    ),
)

# Texts of which the index has nothing and would now have the words: the next search indexes their sessions again.
LARGE_TEXTS = Migration(
    "010_large_texts",
    (
        "INSERT OR IGNORE INTO search_again SELECT DISTINCT session_id FROM search_slots WHERE kept = 'nothing'",
        "DELETE FROM search_slots WHERE kept = 'nothing'",
        "UPDATE meta SET value = CAST(value AS INTEGER) + 1 WHERE name = 'search_turn'",
    ),
)

# A digest of what the store keeps of an archived session: its head, its listed registers and its tombstones.
# ``verify`` compares it. It is NULL only until the migration has computed it.
KEPT_DIGEST = Migration(
    "011_kept_digest",
    ("ALTER TABLE archived_sessions ADD COLUMN kept TEXT",),
    tombstones.bind_all,
)


def _reindex_other_forms(connection: sqlite3.Connection) -> None:
    """Let the next search index each text again whose words the search index has in another form than NFC.

    FTS5 may be missing, so no entry is deleted. With a version that no register has, an entry is passed over by
    searches, and the next search replaces it.
    """
    # FTS5 keeps the words as they were given in this table of its own.
    if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'search_words_content'").fetchone() is None:
        return
    try:
        found = [
            number
            for number, words in connection.execute("SELECT id, c0 FROM search_words_content")
            if isinstance(words, str) and not unicodedata.is_normalized("NFC", words)
        ]
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        return  # `ledger verify` reports the damage, and --rebuild builds the whole index again
    chosen = (canonical(found),)
    entries = "id IN (SELECT value FROM json_each(?))"
    connection.execute(
        f"INSERT OR IGNORE INTO search_again SELECT DISTINCT session_id FROM search_slots WHERE {entries}",  # noqa: S608
        chosen,
    )
    connection.execute(f"UPDATE search_slots SET version = 0 WHERE {entries}", chosen)  # noqa: S608
    connection.execute("UPDATE meta SET value = CAST(value AS INTEGER) + 1 WHERE name = 'search_turn'")


# Words in another normal form than NFC, which searches compare: the next search indexes their texts again.
NORMAL_FORM = Migration("012_normal_form", (), _reindex_other_forms)

# Views for people's own tools. A change of a view is a new migration, which drops the view and creates it again.
VIEWS = Migration("013_views", views.creating(views.VIEWS_OF_013), takes=views.VIEWS_OF_013)

# When a session was purged that a warehouse must still delete; NULL if an earlier release purged it.
PURGED_AT = Migration("014_purged_at", ("ALTER TABLE deleted_sessions ADD COLUMN purged_at INTEGER",))

# Two more states of dead letters: ``expired``, if the warehouse has dropped the session's day, and ``dismissed``. The
# rows are copied to and fro, as RENAME fails if any view or trigger of the file is broken, or names a dropped table.
DEAD_LETTER_STATES = Migration(
    "015_dead_letter_states",
    (
        "CREATE TABLE relay_aside_before_015 AS SELECT warehouse, seq, reason, put_at, state FROM relay_aside",
        "DROP TABLE relay_aside",
        # The quotation marks are in the files whose table got its name by RENAME, and ``verify`` compares the text.
        """
CREATE TABLE "relay_aside" (
  warehouse TEXT NOT NULL,
  seq INTEGER NOT NULL,
  reason TEXT NOT NULL,
  put_at INTEGER NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('refused', 'expired', 'dismissed', 'asked', 'sending')),
  PRIMARY KEY (warehouse, seq)
) WITHOUT ROWID""",
        """
INSERT INTO relay_aside (warehouse, seq, reason, put_at, state)
SELECT warehouse, seq, reason, put_at, state FROM relay_aside_before_015""",
        "DROP TABLE relay_aside_before_015",
    ),
)

# The key that the caller gave as event_id, if event_id was made from it; NULL in rows of earlier releases.
IDEMPOTENCY_KEY = Migration(
    "016_idempotency_key",
    (
        "ALTER TABLE session_events ADD COLUMN idempotency_key TEXT",
        *views.creating({"session_history": views.VIEWS["session_history"]}),
    ),
)

# Times and retries of tool calls, the day of messages, and the calls of language models.
TIMES_AND_MODEL_CALLS = Migration(
    "017_times_and_model_calls",
    views.creating({name: views.VIEWS[name] for name in ("tool_calls", "messages", "model_calls")}),
    takes=("model_calls",),
)

# Which warehouses have the rows of an archived session. A release before this one recorded none: if the file has known
# one warehouse only, the rows are in that.
ARCHIVED_IN = Migration(
    "018_archived_in",
    (
        """
CREATE TABLE archived_in (
  session_id TEXT NOT NULL,
  warehouse TEXT NOT NULL,
  PRIMARY KEY (session_id, warehouse)
) WITHOUT ROWID""",
        """
INSERT INTO archived_in SELECT session_id, (SELECT warehouse FROM relays) FROM archived_sessions
WHERE (SELECT COUNT(*) FROM relays) = 1""",
    ),
)

# The price list, and a price in ``model_calls`` where a call brought none.
MODEL_PRICES = Migration(
    "019_model_prices",
    (
        """
CREATE TABLE model_prices (
  model TEXT NOT NULL,
  provider TEXT NOT NULL,
  valid_from TEXT NOT NULL,
  input_usd_per_million REAL NOT NULL,
  output_usd_per_million REAL NOT NULL,
  cached_input_usd_per_million REAL,
  imported_at INTEGER NOT NULL,
  PRIMARY KEY (model, provider, valid_from)
) WITHOUT ROWID""",
        *views.creating({"model_calls": views.VIEWS["model_calls"]}),
    ),
)

# Which messages and model calls a fork copied, and times of tool calls that do not count what a rewind wrote.
COPIES_AND_REWINDS = Migration(
    "020_copies_and_rewinds",
    views.creating({name: views.VIEWS[name] for name in ("tool_calls", "messages", "model_calls")}),
)

MIGRATIONS = (
    *(EVENTS, LOOKUPS, RELAYS, GRANTS, ARCHIVE, SEARCH, MIGRATIONS_TABLE, FOREIGN_EVENTS, SEALS, LARGE_TEXTS),
    *(KEPT_DIGEST, NORMAL_FORM, VIEWS, PURGED_AT, DEAD_LETTER_STATES, IDEMPOTENCY_KEY, TIMES_AND_MODEL_CALLS),
    *(ARCHIVED_IN, MODEL_PRICES, COPIES_AND_REWINDS),
)
