-- list_sessions: which sessions meet some criteria, newest first, a page of them.
--
-- Grain:  (session_id, created_at).
-- Inputs: session_events, session_fields. Sessions created at @created_from or later and before @created_until, and in
--         the order of the list after (@before, @before_id), are given, @at_most of them. @user_id is their owner, empty
--         for any. @wanted are values that must stand in a session's slots, as field/key/value, in JSON.
-- Cost:   the days between, which are constants; without @wanted values are not read.
-- Twin:   ledger/stores/sqlite_read.py (sessions).
-- Test:   tests/contract/test_bigquery.py
WITH
  heads AS (
    SELECT created_at, session_id
    FROM `${project}.${dataset}.session_events`
    WHERE created_at >= @created_from
      AND created_at < @created_until
      AND (created_at < @before OR (created_at = @before AND session_id < @before_id))
      AND (@user_id = '' OR user_id = @user_id)
    GROUP BY created_at, session_id
  ),
  matches AS (
    SELECT created_at, session_id, COUNT(*) AS met
    FROM `${project}.${dataset}.session_fields`
    WHERE created_at >= @created_from
      AND created_at < @created_until
      AND field IN ('attribute', 'session_type', 'status', 'tag')
      AND ARRAY_LENGTH(@wanted) > 0
      AND CONCAT(field, '/', key, '/', TO_JSON_STRING(value)) IN UNNEST(@wanted)
    GROUP BY created_at, session_id
  )
SELECT heads.session_id, heads.created_at
FROM heads
LEFT JOIN matches ON matches.created_at = heads.created_at AND matches.session_id = heads.session_id
WHERE IFNULL(matches.met, 0) = ARRAY_LENGTH(@wanted)
QUALIFY ROW_NUMBER() OVER (ORDER BY heads.created_at DESC, heads.session_id DESC) <= @at_most
ORDER BY heads.created_at DESC, heads.session_id DESC
