-- read_heads: the heads of sessions, whether appends to them are checked, and the version of one event.
--
-- Grain:  (session_id); sessions that do not exist have no row.
-- Inputs: session_events, session_heads. @session_ids are the ids, @created their creation times, which are
--         @created_from or later and before @created_until; @event_id is the event to find.
-- Cost:   the blocks of these ids in the days of @created, which are constants; no values.
-- Twin:   ledger/stores/sqlite/read.py (HEAD).
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
      MIN(IF(event_id = @event_id, version, NULL)) AS event_version
    FROM `${project}.${dataset}.session_events`
    WHERE session_id IN UNNEST(@session_ids)
      AND created_at >= @created_from
      AND created_at < @created_until
      AND created_at IN UNNEST(@created)
    GROUP BY session_id, created_at
  ),
  checked AS (
    SELECT session_id, created_at, user_id, version, updated_at, store_id, event_hash
    FROM `${project}.${dataset}.session_heads`
    WHERE session_id IN UNNEST(@session_ids)
      AND created_at >= @created_from
      AND created_at < @created_until
      AND created_at IN UNNEST(@created)
  )
SELECT
  IFNULL(recorded.session_id, checked.session_id) AS session_id,
  IFNULL(recorded.user_id, checked.user_id) AS user_id,
  IFNULL(recorded.created_at, checked.created_at) AS created_at,
  IFNULL(checked.version, recorded.version) AS version,
  IFNULL(checked.updated_at, recorded.updated_at) AS updated_at,
  checked.event_hash,
  IFNULL(recorded.store_id, checked.store_id) AS store_id,
  checked.version IS NOT NULL AS strict,
  recorded.event_version
FROM recorded
FULL JOIN checked ON checked.session_id = recorded.session_id AND checked.created_at = recorded.created_at
ORDER BY created_at, session_id
