-- conflicts: versions of a session written by more than one event, which is possible only with unchecked appends.
--
-- Grain:  (session_id, version).
-- Inputs: session_events.
-- Cost:   filters on created_at and session_id reach the table: a range of created_at reads those days only.
-- Twin:   ledger/model/events.py (RecordedEvent.position).
-- Test:   tests/property/test_sql_agrees_with_the_fold.py, tests/sql/test_views.py
--
-- All the events are valid. event_ids is in their order: if two wrote the same field and key, the later one wins.
--
-- Columns:
--   session_id STRING
--   version INT64: The version that several events have
--   events INT64: Number of events with this version
--   event_ids ARRAY<STRING>: The events, in the order in which they count
--   first_recorded_at TIMESTAMP: Time at which the first of them was recorded
--   last_recorded_at TIMESTAMP: Time at which the last of them was recorded
--   user_id STRING
--   created_at TIMESTAMP
CREATE OR REPLACE VIEW `${project}.${dataset}.conflicts` AS
WITH
  events AS (
    SELECT
      created_at,
      session_id,
      version,
      event_id,
      ANY_VALUE(user_id) AS user_id,
      MIN(recorded_at) AS recorded_at
    FROM `${project}.${dataset}.session_events`
    GROUP BY created_at, session_id, version, event_id
  )
SELECT
  session_id,
  version,
  COUNT(*) AS events,
  ARRAY_AGG(event_id ORDER BY event_id) AS event_ids,
  MIN(recorded_at) AS first_recorded_at,
  MAX(recorded_at) AS last_recorded_at,
  ANY_VALUE(user_id) AS user_id,
  created_at
FROM events
GROUP BY created_at, session_id, version
HAVING COUNT(*) > 1;
