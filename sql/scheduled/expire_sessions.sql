-- expire_sessions: record the status expired for lenient sessions in BigQuery whose expires_at has passed.
--
-- Grain:  one row in session_events for each session that expires.
-- Inputs: session_events, session_fields, session_heads, relay_leases. Sessions that were created lookback_days before
--         the run, or later, are looked at.
-- Cost:   these days of session_events.
-- Twin:   ledger/sdk/lifecycle.py (expire_old_sessions).
-- Test:   tests/property/test_scheduled.py, tests/sql/test_scheduled.py
--
-- A session expires at its expires_at, whether or not this is recorded; the event makes it visible in the views. Left
-- out are the sessions that something else must append to: those of a store in a file, which has a relay here and
-- counts the versions, and strict sessions, whose events have hashes. `ledger maintain` expires both.
--
-- The id of the event is made from the last event of the session, and its time from the run. So two runs at once write
-- the same row twice, and every view shows it once; a later run finds the session expired.
--
-- Parameters:
--   run_time TIMESTAMP: Time of the run; sessions whose expires_at is later are left out
--   lookback_days INT64: Days before the run on which sessions that expire may have begun
DECLARE first_day TIMESTAMP DEFAULT TIMESTAMP_TRUNC(TIMESTAMP_SUB(@run_time, INTERVAL @lookback_days DAY), DAY);
INSERT INTO `${project}.${dataset}.session_events` (
  session_id, version, event_id, event_type, field, key, value, removed, user_id, actor, occurred_at, recorded_at,
  created_at, schema_version, store_id, value_hash, value_salt, prev_hash, event_hash, idempotency_key
)
WITH
  last_events AS (
    SELECT
      created_at,
      session_id,
      user_id,
      version,
      store_id,
      MAX(recorded_at) OVER (PARTITION BY created_at, session_id) AS updated_at,
      TO_HEX(MD5(CONCAT(session_id, '/', event_id, '/session.expired'))) AS digest
    FROM `${project}.${dataset}.session_events`
    WHERE created_at >= first_day
    QUALIFY ROW_NUMBER() OVER (PARTITION BY created_at, session_id ORDER BY version DESC, event_id DESC) = 1
  ),
  lifetimes AS (
    SELECT
      created_at,
      session_id,
      ANY_VALUE(IF(field = 'status', JSON_VALUE(value), NULL)) AS status,
      ANY_VALUE(IF(field = 'expires_at', SAFE_CAST(JSON_VALUE(value) AS TIMESTAMP), NULL)) AS expires_at
    FROM `${project}.${dataset}.session_fields`
    WHERE field IN ('status', 'expires_at') AND created_at >= first_day
    GROUP BY created_at, session_id
  )
SELECT
  last_events.session_id,
  last_events.version + 1 AS version,
  -- A UUID of version 8, which is for digests of one's own.
  CONCAT(
    SUBSTR(digest, 1, 8), '-', SUBSTR(digest, 9, 4), '-8', SUBSTR(digest, 14, 3), '-a', SUBSTR(digest, 18, 3), '-',
    SUBSTR(digest, 21, 12)
  ) AS event_id,
  'session.expired' AS event_type,
  'status' AS field,
  '' AS key,
  PARSE_JSON('"expired"') AS value,
  FALSE AS removed,
  last_events.user_id,
  CAST(NULL AS STRING) AS actor,
  @run_time AS occurred_at,
  GREATEST(@run_time, last_events.updated_at) AS recorded_at,
  last_events.created_at,
  1 AS schema_version,
  last_events.store_id,
  CAST(NULL AS STRING) AS value_hash,
  CAST(NULL AS STRING) AS value_salt,
  CAST(NULL AS STRING) AS prev_hash,
  CAST(NULL AS STRING) AS event_hash,
  CAST(NULL AS STRING) AS idempotency_key
FROM last_events
INNER JOIN lifetimes
  ON lifetimes.created_at = last_events.created_at AND lifetimes.session_id = last_events.session_id
LEFT JOIN (
  SELECT created_at, session_id FROM `${project}.${dataset}.session_heads` WHERE created_at >= first_day
) AS strict ON strict.created_at = last_events.created_at AND strict.session_id = last_events.session_id
WHERE lifetimes.expires_at <= @run_time
  AND IFNULL(lifetimes.status, '') NOT IN ('completed', 'failed', 'expired', 'archived', 'deleted')
  AND strict.session_id IS NULL
  AND last_events.store_id NOT IN (SELECT store_id FROM `${project}.${dataset}.relay_leases`);
