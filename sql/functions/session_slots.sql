-- session_slots: the last write to every slot of one session, removals included, with where the session stood.
--
-- Grain:  (field, key) of the session.
-- Inputs: session_events. of_session is the id; first_day and next_day are the first instant of the UTC day of its
--         creation and that of the next day; at_version is the version to look at, NULL for the latest.
-- Cost:   the session's blocks in the one partition that the day names.
-- Twin:   ledger/model/fold.py (fold).
-- Test:   tests/property/test_sql_agrees_with_the_fold.py, tests/sql/test_functions.py
CREATE OR REPLACE TABLE FUNCTION `${project}.${dataset}.session_slots`(
  of_session STRING, first_day TIMESTAMP, next_day TIMESTAMP, at_version INT64
) AS
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
  event_hash,
  MAX(recorded_at) OVER (PARTITION BY created_at, session_id) AS session_updated_at
FROM `${project}.${dataset}.session_events`
WHERE session_id = of_session
  AND created_at >= first_day
  AND created_at < next_day
  AND version <= IFNULL(at_version, version)
QUALIFY ROW_NUMBER() OVER (
  PARTITION BY created_at, session_id, field, key
  ORDER BY version DESC, event_id DESC
) = 1;
