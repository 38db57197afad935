"""Changes to a ledger's file by hand, and what verification finds of each."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple


def tamper(file: Path, sql: str) -> None:
    """Run a script over a file by hand."""
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(sql)


class Tampering(NamedTuple):
    """A change of the file that ``record`` in tests/stores/test_verify.py writes.

    Attributes:
        sql: The change, as a script. It may call ``hashed(salt, text)``; ``{rest}`` stands for all columns but ``seq``.
        found: The session, the version and the code of each finding.
    """

    sql: str
    found: set[tuple[str, int | None, str]]


TAMPERED = {
    "a value": Tampering(
        """
UPDATE session_events SET value = replace(value, 'bob', 'eve') WHERE session_id = 's2' AND version = 3""",
        {("s2", 3, "value")},
    ),
    "an actor": Tampering(
        """
UPDATE session_events SET actor = 'eve' WHERE session_id = 's2' AND version = 2""",
        {("s2", 2, "event")},
    ),
    "the user_id of an event": Tampering(
        """
UPDATE session_events SET user_id = 'eve' WHERE session_id = 's2' AND version = 2""",
        {("s2", 2, "event")},
    ),
    "occurred_at": Tampering(
        """
UPDATE session_events SET occurred_at = occurred_at - 1 WHERE session_id = 's2' AND version = 2""",
        {("s2", 2, "event")},
    ),
    "a column of one row of an event": Tampering(
        """
UPDATE session_events SET actor = 'eve' WHERE session_id = 's2' AND version = 1 AND field = 'status'""",
        {("s2", 1, "event")},
    ),
    "a value with its value_hash": Tampering(
        """
UPDATE session_events SET
value = '"x"', value_hash = hashed(value_salt, '"x"')
WHERE session_id = 's2' AND version = 2""",
        {("s2", 2, "event")},
    ),
    "an idempotency key": Tampering(
        """
UPDATE session_events SET idempotency_key = 'job-42' WHERE session_id = 's2' AND version = 2""",
        {("s2", 2, "event")},
    ),
    "an idempotency key that is no text": Tampering(
        """
UPDATE session_events SET idempotency_key = x'ff' WHERE session_id = 's2' AND version = 2""",
        {("s2", 2, "event")},
    ),
    "two events swapped": Tampering(
        """
UPDATE session_events SET version = 7 - version WHERE session_id = 's2' AND version IN (3, 4)""",
        {
            ("s2", 3, "event"),
            ("s2", 3, "state"),
            ("s2", 4, "event"),
            ("s2", 4, "seq"),
            ("s2", 4, "state"),
            ("s2", 5, "event"),
        },
    ),
    "an event in the middle deleted": Tampering(
        """
DELETE FROM session_events WHERE session_id = 's2' AND version = 2""",
        {("s2", 3, "event"), ("s2", 3, "gap")},
    ),
    "the first event deleted": Tampering(
        """
DELETE FROM session_events WHERE session_id = 's2' AND version = 1""",
        {("s2", 1, "state"), ("s2", 2, "event"), ("s2", 2, "gap")},
    ),
    "a row of an event deleted": Tampering(
        """
DELETE FROM session_events WHERE session_id = 's2' AND version = 1 AND field = 'status'""",
        {("s2", 1, "event"), ("s2", 1, "state")},
    ),
    "an event repeated": Tampering(
        """
INSERT INTO session_events SELECT 1000 + seq, {rest}
FROM session_events WHERE session_id = 's2' AND version = 5""",
        {("s2", 5, "event"), ("s2", 5, "seq"), ("s2", 6, "seq")},
    ),
    "all hashes of a session NULL": Tampering(
        """
UPDATE session_events SET value_hash = NULL, value_salt = NULL,
prev_hash = NULL, event_hash = NULL,
value = replace(value, 'bob', 'eve')
WHERE session_id = 's2';
UPDATE session_heads SET event_hash = NULL WHERE session_id = 's2'""",
        {("s2", version, "unhashed") for version in range(1, 7)},
    ),
    "a value erased with its salt": Tampering(
        """
UPDATE session_events SET value = NULL, value_salt = NULL WHERE session_id = 's2' AND version = 2""",
        {("s2", 2, "erased")},
    ),
    "a salt lost": Tampering(
        """
UPDATE session_events SET value_salt = NULL WHERE session_id = 's2' AND version = 2""",
        {("s2", 2, "value")},
    ),
    "a store_id": Tampering(
        """
UPDATE session_events SET store_id = 'eve' WHERE session_id = 's2' AND version = 2""",
        {("s2", 2, "store")},
    ),
    "a seq before that of another event": Tampering(
        """
UPDATE session_events SET seq = -seq WHERE session_id = 's2' AND version = 5""",
        {("s2", 5, "seq")},
    ),
    "a seq after the last": Tampering(
        """
UPDATE session_events SET seq = seq + 1000 WHERE session_id = 's2' AND version = 6""",
        {("s2", 6, "seq")},
    ),
    "a state row changed": Tampering(
        """
UPDATE session_state SET value = '"forged"' WHERE session_id = 's2' AND field = 'summary'""",
        {("s2", 4, "state"), ("s2", None, "search")},
    ),
    "the value of a message in the state": Tampering(
        """
UPDATE session_state SET value = '{}' WHERE session_id = 's2' AND field = 'message'""",
        {("s2", 3, "state"), ("s2", None, "search")},
    ),
    "a state row removed": Tampering(
        """
DELETE FROM session_state WHERE session_id = 's2' AND field = 'summary'""",
        {("s2", 4, "state")},
    ),
    "a state row added": Tampering(
        """
INSERT INTO session_state SELECT session_id, 'grant', 'eve', version, event_id, event_seq, '"write"'
FROM session_state
WHERE session_id = 's2' AND field = 'summary'""",
        {("s2", 4, "state")},
    ),
    "a state row of an earlier event": Tampering(
        """
UPDATE session_state
SET (version, event_id, event_seq, value) = (SELECT version, event_id, seq, value
FROM session_events WHERE session_id = 's2' AND version = 2)
WHERE session_id = 's2' AND field = 'summary'""",
        {("s2", 4, "state"), ("s2", None, "search")},
    ),
    "a removed register back in the state": Tampering(
        """
INSERT INTO session_state SELECT session_id, field, key, version, event_id, seq, value
FROM session_events WHERE session_id = 's2' AND version = 5""",
        {("s2", 6, "state")},
    ),
    "the state of a session that is not there": Tampering(
        """
INSERT INTO session_state SELECT 's9', field, key, version, event_id, event_seq, value
FROM session_state
WHERE session_id = 's2' AND field = 'summary'""",
        {("s9", None, "state")},
    ),
    "the head's user_id": Tampering(
        """
UPDATE session_heads SET user_id = 'eve' WHERE session_id = 's2'""",
        {("s2", None, "head")},
    ),
    "the head's version": Tampering(
        """
UPDATE session_heads SET version = 9 WHERE session_id = 's2'""",
        {("s2", None, "head")},
    ),
    "the head's hash": Tampering(
        """
UPDATE session_heads SET event_hash = 'x' WHERE session_id = 's2'""",
        {("s2", None, "head")},
    ),
    "the head's created_at": Tampering(
        """
UPDATE session_heads SET created_at = created_at - 1 WHERE session_id = 's2'""",
        {("s2", None, "head")},
    ),
    "the head's updated_at": Tampering(
        """
UPDATE session_heads SET updated_at = updated_at + 1 WHERE session_id = 's2'""",
        {("s2", None, "head")},
    ),
    "the head's store_id": Tampering(
        """
UPDATE session_heads SET store_id = '' WHERE session_id = 's2'""",
        {("s2", None, "head")},
    ),
    "the head deleted": Tampering(
        """
DELETE FROM session_heads WHERE session_id = 's2'""",
        {("s2", None, "head")},
    ),
    "the last event deleted": Tampering(
        """
DELETE FROM session_events WHERE session_id = 's2' AND version = 6""",
        {("s2", 5, "state"), ("s2", None, "missing")},
    ),
    "all events deleted": Tampering(
        """
DELETE FROM session_events WHERE session_id = 's2'""",
        {("s2", None, "missing")},
    ),
    "an event added behind the head": Tampering(
        """
UPDATE session_heads
SET (version, event_hash) = (SELECT version, event_hash
FROM session_events WHERE session_id = 's2' AND version = 4) WHERE session_id = 's2'""",
        {("s2", None, "missing")},
    ),
    "the entries of the search index": Tampering(
        """
DELETE FROM search_slots WHERE session_id = 's2' AND field = 'message'""",
        {("s2", None, "search")},
    ),
    "the words of the search index": Tampering(
        """
UPDATE search_words SET words = 'other words' WHERE rowid = (SELECT id FROM search_slots
WHERE session_id = 's2' AND field = 'message')""",
        {("s2", None, "search")},
    ),
    "the words of a session that is to be indexed again": Tampering(
        """
UPDATE search_words SET words = 'other words' WHERE rowid = (SELECT id FROM search_slots
WHERE session_id = 's2' AND field = 'message');
INSERT INTO search_again VALUES ('s2')""",
        {("s2", None, "search")},
    ),
    "the position of the search index": Tampering(
        """
UPDATE meta SET value = '999999' WHERE name = 'search_upto'""",
        {("", None, "search")},
    ),
    "sqlite_sequence": Tampering(
        """
UPDATE sqlite_sequence SET seq = seq - 1 WHERE name = 'session_events'""",
        {("", None, "search"), ("s3", 6, "seq")},
    ),
    "the checkpoint of a relay after the last row": Tampering(
        """
INSERT INTO relays (warehouse, checkpoint) VALUES ('duckdb:///w', 9999)""",
        {("", None, "relay")},
    ),
    "the checkpoint of a relay inside an event": Tampering(
        """
INSERT INTO relays (warehouse, checkpoint) VALUES ('duckdb:///w', 1)""",
        {("s1", 1, "relay")},
    ),
    "a batch that ends before the checkpoint": Tampering(
        """
INSERT INTO relays (warehouse, checkpoint, batch) VALUES ('w', 7, '{"last": 2, "rows": 2, "digest": ""}')""",
        {("", None, "relay")},
    ),
    "a batch of fewer than no rows": Tampering(
        """
INSERT INTO relays (warehouse, checkpoint, batch) VALUES ('w', 0, '{"last": 2, "rows": -1, "digest": ""}')""",
        {("", None, "relay")},
    ),
    "a dead letter without its row": Tampering(
        """
INSERT INTO relays (warehouse) VALUES ('w');
INSERT INTO relay_aside VALUES ('w', 999, 'no', 0, 'refused')""",
        {("", None, "relay")},
    ),
    "a tombstone without its head": Tampering(
        """
INSERT INTO archived_sessions VALUES ('s9', 1, 1, '', NULL)""",
        {("s9", None, "tombstone")},
    ),
    "a head that says that the rows are archived": Tampering(
        """
UPDATE session_heads SET store_id = '' WHERE session_id = 's2';
DELETE FROM session_events WHERE session_id = 's2'""",
        {("s2", None, "tombstone")},
    ),
    "an epoch": Tampering(
        """
DELETE FROM meta WHERE name = 'epoch'""",
        {("", None, "meta")},
    ),
    "the seq of a current value": Tampering(
        """
UPDATE session_events SET seq = seq + 1000 WHERE session_id = 's2' AND version = 4""",
        {("s2", 4, "seq"), ("s2", 4, "state"), ("s2", 5, "seq")},
    ),
    "hashes of one event NULL": Tampering(
        """
UPDATE session_events SET event_hash = NULL WHERE session_id = 's2' AND version = 6""",
        {("s2", 6, "unhashed"), ("s2", None, "head")},
    ),
    "an archived status": Tampering(
        """
UPDATE session_state SET value = '"archived"' WHERE session_id = 's2' AND field = 'status'""",
        {("s2", 1, "state")},
    ),
    "the owner in head and events": Tampering(
        """
UPDATE session_heads SET user_id = 'eve' WHERE session_id = 's2';
UPDATE session_events SET user_id = 'eve' WHERE session_id = 's2'""",
        {("s2", version, "event") for version in range(1, 7)},
    ),
    "text that is not UTF-8": Tampering(
        """
UPDATE session_events SET actor = CAST(x'ff61' AS TEXT) WHERE session_id = 's2' AND version = 2""",
        {("s2", 2, "event")},
    ),
    "a time that is text": Tampering(
        """
UPDATE session_events SET recorded_at = 'x' WHERE session_id = 's2' AND version = 2""",
        {("s2", 2, "event")},
    ),
    "a value that is no text": Tampering(
        """
UPDATE session_events SET value = x'00ff' WHERE session_id = 's2' AND version = 2""",
        {("s2", 2, "value")},
    ),
    "hashes removed, and a run of this store without hashes added": Tampering(
        """
UPDATE session_events SET value_hash = NULL, value_salt = NULL, prev_hash = NULL, event_hash = NULL
WHERE session_id = 's2';
UPDATE session_heads SET event_hash = NULL WHERE session_id = 's2';
INSERT INTO foreign_events VALUES ('s2', 1, (SELECT value FROM meta WHERE name = 'store_id'), 0, 99)""",
        {("s2", version, "unhashed") for version in range(1, 7)} | {("s2", None, "store")},
    ),
    "hashes removed, and a run of another store without hashes added": Tampering(
        """
UPDATE session_events SET value_hash = NULL, value_salt = NULL, prev_hash = NULL, event_hash = NULL
WHERE session_id = 's2';
UPDATE session_heads SET event_hash = NULL WHERE session_id = 's2';
INSERT INTO foreign_events VALUES ('s2', 1, 'eve', 0, 6)""",
        {("s2", version, "unhashed") for version in range(1, 7)} | {("s2", None, "store")},
    ),
    "a run of another store after the last version": Tampering(
        """
INSERT INTO foreign_events VALUES ('s2', 50, 'eve', 0, 99)""",
        {("s2", None, "store")},
    ),
    "a run of another store in a session that is not there": Tampering(
        """
INSERT INTO foreign_events VALUES ('s9', 1, 'eve', 0, 9)""",
        {("s9", None, "store")},
    ),
    "a run of another store with a text for a version": Tampering(
        """
INSERT INTO foreign_events VALUES ('s2', 'x', 'eve', 0, 9)""",
        {("s2", None, "store")},
    ),
    "a run of another store that has hashes, where none has": Tampering(
        """
INSERT INTO foreign_events VALUES ('s2', 1, 'eve', 0, 6);
UPDATE session_events SET store_id = 'eve' WHERE session_id = 's2'""",
        {("s2", version, "event") for version in range(1, 7)},
    ),
}
