-- read_events: every change of one session once, with the version that superseded it.
--
-- Grain:  (event_id, field, key) of the session.
-- Inputs: session_changes. @session_id is the id; @first_day and @next_day are the day of its creation and the day
--         after. Returns versions above @after_version and up to @until_version, of those the first @versions.
-- Cost:   the session's blocks in the one partition of that day.
-- Twin:   ledger/testing/reference.py (history).
-- Test:   tests/property/test_sql_agrees_with_the_fold.py, tests/contract/test_bigquery.py
SELECT
  session_id,
  version,
  event_id,
  event_type,
  user_id,
  actor,
  occurred_at,
  recorded_at,
  created_at,
  schema_version,
  store_id,
  prev_hash,
  event_hash,
  idempotency_key,
  field,
  key,
  IF(value IS NULL, NULL, TO_JSON_STRING(value)) AS text,
  removed,
  value_hash,
  value_salt,
  superseded_by
FROM `${project}.${dataset}.session_changes`(@session_id, @first_day, @next_day, @after_version, @until_version)
WHERE TRUE
QUALIFY DENSE_RANK() OVER (PARTITION BY session_id ORDER BY version) <= @versions
ORDER BY version, event_id, field, key
