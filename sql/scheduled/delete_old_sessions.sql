-- delete_old_sessions: delete sessions in BigQuery in which nothing was recorded for a number of days, for good.
--
-- Grain:  (session_id, created_at) of session_events, session_heads, session_index and sessions_latest.
-- Inputs: session_events, relay_leases. A session is deleted, whatever its status, if its creation and its last event
--         are before the first of the retention_days.
-- Answer: the number of sessions that were deleted, and the time before which their last events were.
-- Cost:   of the days before, all columns of those that have sessions to delete; session_index as a whole.
-- Twin:   ledger/sdk/archive.py (delete_old_sessions).
-- Test:   tests/property/test_scheduled.py, tests/sql/test_scheduled.py
--
-- Left out are the sessions of a store in a file, which has a relay here: the file would still have them.
-- `ledger maintain --retention-days` purges those, in the file and here.
--
-- There is no transaction: in one, BigQuery refuses to delete rows that were streamed recently. The events come first,
-- and what the other tables have of sessions without events is deleted after them, so a run that was interrupted is
-- completed by the next one. Deleted rows stay in time travel and fail-safe storage: docs/bigquery.md.
--
-- Parameters:
--   run_time TIMESTAMP: Time of the run
--   retention_days INT64: Number of days, before the day of the run, whose sessions are kept
DECLARE kept_from TIMESTAMP DEFAULT TIMESTAMP_SUB(TIMESTAMP_TRUNC(@run_time, DAY), INTERVAL @retention_days DAY);
DECLARE deleted_sessions INT64 DEFAULT (
  SELECT COUNT(*)
  FROM (
    SELECT store_id, MAX(recorded_at) OVER (PARTITION BY created_at, session_id) AS updated_at
    FROM `${project}.${dataset}.session_events`
    WHERE created_at < kept_from
    QUALIFY ROW_NUMBER() OVER (PARTITION BY created_at, session_id ORDER BY version DESC, event_id DESC) = 1
  )
  WHERE updated_at < kept_from AND store_id NOT IN (SELECT store_id FROM `${project}.${dataset}.relay_leases`)
);
DELETE FROM `${project}.${dataset}.session_events`
WHERE created_at < kept_from
  AND CONCAT(CAST(UNIX_MICROS(created_at) AS STRING), '/', session_id) IN (
    SELECT CONCAT(CAST(UNIX_MICROS(created_at) AS STRING), '/', session_id)
    FROM (
      SELECT
        created_at,
        session_id,
        store_id,
        MAX(recorded_at) OVER (PARTITION BY created_at, session_id) AS updated_at
      FROM `${project}.${dataset}.session_events`
      WHERE created_at < kept_from
      QUALIFY ROW_NUMBER() OVER (PARTITION BY created_at, session_id ORDER BY version DESC, event_id DESC) = 1
    )
    WHERE updated_at < kept_from AND store_id NOT IN (SELECT store_id FROM `${project}.${dataset}.relay_leases`)
  );
DELETE FROM `${project}.${dataset}.session_heads`
WHERE created_at < kept_from
  AND CONCAT(CAST(UNIX_MICROS(created_at) AS STRING), '/', session_id) NOT IN (
    SELECT CONCAT(CAST(UNIX_MICROS(created_at) AS STRING), '/', session_id)
    FROM `${project}.${dataset}.session_events`
    WHERE created_at < kept_from
  );
DELETE FROM `${project}.${dataset}.session_index`
WHERE created_at < kept_from
  AND CONCAT(CAST(UNIX_MICROS(created_at) AS STRING), '/', session_id) NOT IN (
    SELECT CONCAT(CAST(UNIX_MICROS(created_at) AS STRING), '/', session_id)
    FROM `${project}.${dataset}.session_events`
    WHERE created_at < kept_from
  );
DELETE FROM `${project}.${dataset}.sessions_latest`
WHERE created_at < kept_from
  AND CONCAT(CAST(UNIX_MICROS(created_at) AS STRING), '/', session_id) NOT IN (
    SELECT CONCAT(CAST(UNIX_MICROS(created_at) AS STRING), '/', session_id)
    FROM `${project}.${dataset}.session_events`
    WHERE created_at < kept_from
  );
SELECT deleted_sessions, kept_from;
