-- session_events: every change of every session, one immutable row each; all other objects are derived from it.
--
-- Grain:  (session_id, event_id, field, key). The table may hold exact duplicates; every view shows them once.
-- Inputs: written by the relay of an embedded store, or directly by a BigQuery store. Rows are only ever added, except
--         that erasing a value sets value and value_salt to NULL.
-- Cost:   a range of created_at reads those days; session_id reads that session's blocks within them.
-- Twin:   ledger/outbox/columns.py (COLUMNS).
-- Test:   tests/unit/test_columns.py, tests/warehouse/test_duckdb_warehouse.py
CREATE TABLE IF NOT EXISTS `${project}.${dataset}.session_events` (
  session_id STRING NOT NULL OPTIONS (description = 'The session: a UUIDv7, or the caller\'s own id of 1 to 255 characters'),
  version INT64 NOT NULL OPTIONS (description = 'Counts the events of the session from 1; all rows of an event share it'),
  event_id STRING NOT NULL OPTIONS (description = 'The event; unique in its session, and orders equal versions'),
  event_type STRING NOT NULL OPTIONS (description = 'Type of the event, in the past tense: constraints.updated'),
  field STRING NOT NULL OPTIONS (description = 'The field that this change writes: question, constraints, message ...'),
  key STRING NOT NULL OPTIONS (description = 'Key of the value within the field: a call id, a message id; empty for a field without keys'),
  value JSON OPTIONS (description = 'New value; JSON null is a value, SQL NULL means removed or erased'),
  removed BOOL NOT NULL OPTIONS (description = 'True if this change removes the value'),
  user_id STRING NOT NULL OPTIONS (description = 'The owner of the session; never changes'),
  actor STRING OPTIONS (description = 'Author of the change, if not the owner'),
  occurred_at TIMESTAMP NOT NULL OPTIONS (description = 'Time of the event by the caller\'s clock; informative, never used for ordering'),
  recorded_at TIMESTAMP NOT NULL OPTIONS (description = 'Time of recording by the store; never decreases within a session'),
  created_at TIMESTAMP NOT NULL OPTIONS (description = 'Creation time of the session, not of the row; equal on all its rows'),
  schema_version INT64 NOT NULL OPTIONS (description = 'Schema version of the row and its value; older ones are upcast on read'),
  store_id STRING NOT NULL OPTIONS (description = 'The store that recorded the event'),
  value_hash STRING OPTIONS (description = 'SHA-256 of salt and canonical JSON; NULL for a removal or without a hash chain'),
  value_salt STRING OPTIONS (description = 'The salt of value_hash; NULL once the value is erased'),
  prev_hash STRING OPTIONS (description = 'The event_hash of the session\'s previous event; NULL for its first'),
  event_hash STRING OPTIONS (description = 'SHA-256 of the event and prev_hash; NULL for an append made directly to the warehouse'),
  idempotency_key STRING OPTIONS (description = 'The key that the caller gave as event_id; NULL if there was none or it was a UUID')
)
PARTITION BY DATE(created_at)
CLUSTER BY session_id
OPTIONS (description = 'Every change of every session, one immutable row each');
