-- session_events: every change of every session, one immutable row each; all else is derived from it.
--
-- Grain:  (session_id, event_id, field, key). The table takes exact duplicates; every view shows them once.
-- Inputs: written by the relay of an embedded store, or straight by a BigQuery store. Rows are only ever added,
--         except that erasing a value sets value and value_salt to NULL.
-- Cost:   a range of created_at reads those days; session_id reads that session's blocks within them.
-- Twin:   ledger/outbox/columns.py (COLUMNS).
-- Test:   tests/unit/test_columns.py, tests/warehouse/test_duckdb_warehouse.py
CREATE TABLE IF NOT EXISTS `${project}.${dataset}.session_events` (
  session_id STRING NOT NULL OPTIONS (description = 'The session; a UUIDv7, or an id of 1 to 255 characters of the caller\'s own'),
  version INT64 NOT NULL OPTIONS (description = 'Counts the events of the session from 1; all rows of an event share it'),
  event_id STRING NOT NULL OPTIONS (description = 'The event; unique in its session, and what orders equal versions'),
  event_type STRING NOT NULL OPTIONS (description = 'What happened, in the past tense: constraints.updated'),
  field STRING NOT NULL OPTIONS (description = 'The field that this change writes: question, constraints, message ...'),
  key STRING NOT NULL OPTIONS (description = 'Which of the field\'s values: a call id, a message id; empty where the field is not keyed'),
  value JSON OPTIONS (description = 'What the field is set to; JSON null is a value, SQL NULL means removed or erased'),
  removed BOOL NOT NULL OPTIONS (description = 'Whether this change takes the value away instead of setting it'),
  user_id STRING NOT NULL OPTIONS (description = 'The owner of the session; never changes'),
  actor STRING OPTIONS (description = 'Who made the change, where that is not the owner'),
  occurred_at TIMESTAMP NOT NULL OPTIONS (description = 'When it happened by the caller\'s clock; informs, never orders'),
  recorded_at TIMESTAMP NOT NULL OPTIONS (description = 'When the store recorded it; does not go backwards within a session'),
  created_at TIMESTAMP NOT NULL OPTIONS (description = 'When the session, not the row, was created; the same on all its rows'),
  schema_version INT64 NOT NULL OPTIONS (description = 'The shape of the row and its value; older ones are upcast on read'),
  store_id STRING NOT NULL OPTIONS (description = 'The store that recorded the event'),
  value_hash STRING OPTIONS (description = 'SHA-256 of salt and canonical JSON; NULL for a removal and where there is no chain'),
  value_salt STRING OPTIONS (description = 'The salt of value_hash; NULL once the value is erased'),
  prev_hash STRING OPTIONS (description = 'The event_hash of the session\'s event before; NULL for its first'),
  event_hash STRING OPTIONS (description = 'SHA-256 of the event and prev_hash; NULL for an append straight to the warehouse')
)
PARTITION BY DATE(created_at)
CLUSTER BY session_id
OPTIONS (description = 'Every change of every session, one immutable row each');
