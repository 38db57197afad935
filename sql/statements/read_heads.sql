-- read_heads: where sessions stand, whether appends to them are checked, and the version of one event.
--
-- Grain:  (session_id); a session without events has no row.
-- Inputs: session_events, session_heads. @session_ids are the ids, created at @created_from or later and before
--         @created_until; @event_id is the event to look for.
-- Cost:   the blocks of these ids in the days between, which are constants; no values.
-- Twin:   ledger/stores/sqlite_read.py (HEAD).
-- Test:   tests/contract/test_bigquery.py
WITH
  recorded AS (
    SELECT
      session_id,
      created_at,
      ANY_VALUE(user_id) AS user_id,
      MAX(version) AS version,
      MAX(recorded_at) AS updated_at,
      ANY_VALUE(store_id) AS store_id,
      MAX(IF(event_id = @event_id, version, NULL)) AS event_version
    FROM `${project}.${dataset}.session_events`
    WHERE session_id IN UNNEST(@session_ids)
      AND created_at >= @created_from
      AND created_at < @created_until
    GROUP BY session_id, created_at
  ),
  checked AS (
    SELECT session_id, created_at, version, updated_at, event_hash
    FROM `${project}.${dataset}.session_heads`
    WHERE session_id IN UNNEST(@session_ids)
      AND created_at >= @created_from
      AND created_at < @created_until
  )
SELECT
  recorded.session_id,
  recorded.user_id,
  recorded.created_at,
  IFNULL(checked.version, recorded.version) AS version,
  IFNULL(checked.updated_at, recorded.updated_at) AS updated_at,
  checked.event_hash,
  recorded.store_id,
  checked.version IS NOT NULL AS strict,
  recorded.event_version
FROM recorded
LEFT JOIN checked ON checked.session_id = recorded.session_id AND checked.created_at = recorded.created_at
ORDER BY recorded.created_at, recorded.session_id
