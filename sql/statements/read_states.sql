-- read_states: the last write to each field and key of some sessions, including removals, with the sessions' heads.
--
-- Grain:  (session_id, field, key).
-- Inputs: session_events. @session_ids are the ids, @created their creation times, which are @created_from or later
--         and before @created_until; @at_version is the last version to read, @at_time the last time of recording.
--         Without @with_messages, messages are left out, except the very last write of a session, which carries its
--         head; its value is then NULL.
-- Cost:   the blocks of these ids in the days of @created, which are constants.
-- Twin:   ledger/model/fold.py (fold).
-- Test:   tests/property/test_sql_agrees_with_the_fold.py, tests/contract/test_bigquery.py
WITH
  last_writes AS (
    SELECT
      session_id,
      field,
      key,
      value,
      removed,
      version,
      event_id,
      user_id,
      created_at,
      schema_version,
      store_id,
      event_hash,
      actor,
      occurred_at,
      recorded_at,
      MAX(recorded_at) OVER (PARTITION BY created_at, session_id) AS updated_at
    FROM `${project}.${dataset}.session_events`
    WHERE session_id IN UNNEST(@session_ids)
      AND created_at >= @created_from
      AND created_at < @created_until
      AND created_at IN UNNEST(@created)
      AND version <= @at_version
      AND recorded_at <= @at_time
    QUALIFY ROW_NUMBER() OVER (
      PARTITION BY created_at, session_id, field, key
      ORDER BY version DESC, event_id DESC
    ) = 1
  )
SELECT
  session_id,
  field,
  key,
  IF(value IS NULL OR (field = 'message' AND NOT @with_messages), NULL, TO_JSON_STRING(value)) AS text,
  removed,
  version,
  event_id,
  user_id,
  created_at,
  schema_version,
  store_id,
  event_hash,
  updated_at,
  actor,
  occurred_at,
  recorded_at
FROM last_writes
WHERE TRUE
QUALIFY @with_messages
  OR field != 'message'
  OR ROW_NUMBER() OVER (PARTITION BY created_at, session_id ORDER BY version DESC, event_id DESC) = 1
