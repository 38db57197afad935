-- session_fields: the current state of every session, one row per value.
--
-- Grain:  (session_id, field, key).
-- Inputs: session_events.
-- Cost:   filters on created_at and session_id reach below the window, since it is partitioned by both: a range of
--         created_at reads those days only.
-- Twin:   ledger/model/fold.py (fold).
-- Test:   tests/property/test_sql_agrees_with_the_fold.py, tests/sql/test_views.py
--
-- Columns:
--   session_id STRING
--   field STRING
--   key STRING: Key of the value within the field; empty for a field without keys
--   value JSON: The current value
--   version INT64: The version that wrote the value
--   event_id STRING: The event that wrote the value
--   event_type STRING: Type of the event that wrote the value
--   user_id STRING
--   actor STRING
--   occurred_at TIMESTAMP
--   recorded_at TIMESTAMP
--   created_at TIMESTAMP
CREATE OR REPLACE VIEW `${project}.${dataset}.session_fields` AS
WITH
  -- Exact duplicates tie in this order; either may be chosen.
  last_writes AS (
    SELECT
      session_id,
      field,
      key,
      value,
      removed,
      version,
      event_id,
      event_type,
      user_id,
      actor,
      occurred_at,
      recorded_at,
      created_at
    FROM `${project}.${dataset}.session_events`
    WHERE TRUE
    QUALIFY ROW_NUMBER() OVER (
      PARTITION BY created_at, session_id, field, key
      ORDER BY version DESC, event_id DESC
    ) = 1
  )
-- Removals must be dropped after the window: dropped before it, the removed values would come back.
SELECT
  session_id,
  field,
  key,
  value,
  version,
  event_id,
  event_type,
  user_id,
  actor,
  occurred_at,
  recorded_at,
  created_at
FROM last_writes
WHERE NOT removed;
