-- session_history: every change once, and the version that superseded it.
--
-- Grain:  (session_id, event_id, field, key).
-- Inputs: session_events.
-- Cost:   filters on created_at and session_id reach below the window: a range of created_at reads those days only.
-- Twin:   ledger/testing/reference.py (history).
-- Test:   tests/property/test_sql_agrees_with_the_fold.py, tests/sql/test_views.py
--
-- The state at a version v is WHERE version <= v AND (superseded_by IS NULL OR superseded_by > v) AND NOT removed.
--
-- Columns:
--   session_id STRING
--   version INT64
--   event_id STRING
--   event_type STRING
--   field STRING
--   key STRING
--   value JSON
--   removed BOOL
--   user_id STRING
--   actor STRING
--   occurred_at TIMESTAMP
--   recorded_at TIMESTAMP
--   created_at TIMESTAMP
--   schema_version INT64
--   store_id STRING
--   value_hash STRING
--   value_salt STRING
--   prev_hash STRING
--   event_hash STRING
--   idempotency_key STRING
--   superseded_by INT64: The version that replaced the value; NULL if the value is current
CREATE OR REPLACE VIEW `${project}.${dataset}.session_history` AS
WITH
  writes AS (
    SELECT
      session_id,
      version,
      event_id,
      event_type,
      field,
      key,
      value,
      removed,
      user_id,
      actor,
      occurred_at,
      recorded_at,
      created_at,
      schema_version,
      store_id,
      value_hash,
      value_salt,
      prev_hash,
      event_hash,
      idempotency_key,
      LEAD(version) OVER slot AS superseded_by,
      LEAD(event_id) OVER slot AS superseded_by_event
    FROM `${project}.${dataset}.session_events`
    WINDOW slot AS (PARTITION BY created_at, session_id, field, key ORDER BY version, event_id)
  )
-- Exact duplicates are adjacent in the window; the last of them is the one whose successor is another event.
SELECT
  session_id,
  version,
  event_id,
  event_type,
  field,
  key,
  value,
  removed,
  user_id,
  actor,
  occurred_at,
  recorded_at,
  created_at,
  schema_version,
  store_id,
  value_hash,
  value_salt,
  prev_hash,
  event_hash,
  idempotency_key,
  superseded_by
FROM writes
WHERE superseded_by IS NULL OR superseded_by != version OR superseded_by_event != event_id;
