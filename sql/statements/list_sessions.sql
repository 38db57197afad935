-- list_sessions: a page of the sessions that meet some criteria, newest first by creation or by last event.
--
-- Grain:  (session_id, created_at).
-- Inputs: session_events, session_fields. Returns at most @at_most sessions created at @created_from or later and
--         before @created_until, after (@before, @before_id) in the order of the list: by the time of the last event if
--         @by_update, else by creation time. @user_id is the owner, empty for any; @updated_before is later than the
--         last event of each. @wanted are current values of the session, with all texts that the CTE matches may make
--         of each, and @wanted_count is the number of values; @status is the status at @at_time, empty for any, which
--         is 'expired' once expires_at has passed; @unwanted are statuses to leave out, and @unwanted_count is their
--         number; @unswept selects only expired sessions whose recorded status is not yet 'expired'. The numbers are
--         parameters because an empty list may arrive as NULL.
-- Cost:   the days between, which are constants.
-- Twin:   ledger/stores/sqlite/read.py (sessions).
-- Test:   tests/contract/test_bigquery.py, tests/sql/test_criteria.py
WITH
  heads AS (
    SELECT created_at, session_id, MAX(recorded_at) AS updated_at
    FROM `${project}.${dataset}.session_events`
    WHERE created_at >= @created_from
      AND created_at < @created_until
      AND (@by_update OR created_at < @before OR (created_at = @before AND session_id < @before_id))
      AND (@user_id = '' OR user_id = @user_id)
    GROUP BY created_at, session_id
    HAVING MAX(recorded_at) < @updated_before
      AND (
        NOT @by_update
        OR MAX(recorded_at) < @before
        OR (MAX(recorded_at) = @before AND session_id < @before_id)
      )
  ),
  lifetimes AS (
    SELECT
      created_at,
      session_id,
      MAX(IF(field = 'status', JSON_VALUE(value), NULL)) AS status,
      MAX(IF(field = 'expires_at', JSON_VALUE(value), NULL)) AS expires_at
    FROM `${project}.${dataset}.session_fields`
    WHERE created_at >= @created_from
      AND created_at < @created_until
      AND field IN ('expires_at', 'status')
    GROUP BY created_at, session_id
  ),
  statuses AS (
    SELECT
      created_at,
      session_id,
      IFNULL(expires_at <= @at_time, FALSE)
        AND IFNULL(status, '') NOT IN ('completed', 'failed', 'expired', 'archived', 'deleted') AS is_over,
      status
    FROM lifetimes
  ),
  matches AS (
    SELECT created_at, session_id, COUNT(*) AS met
    FROM `${project}.${dataset}.session_fields`
    WHERE created_at >= @created_from
      AND created_at < @created_until
      AND field IN ('attribute', 'grant', 'session_type', 'tag')
      AND @wanted_count > 0
      AND (field != 'grant' OR JSON_VALUE(value) IN ('read', 'write'))
      -- A number has a text of its own, since JSON text may spell it in several ways.
      AND CONCAT(
        field,
        '\n',
        key,
        '\n',
        CASE IF(field = 'grant', 'grant', JSON_TYPE(value))
          WHEN 'grant' THEN ''
          WHEN 'string' THEN CONCAT('"', JSON_VALUE(value))
          WHEN 'number' THEN IF(
            REGEXP_CONTAINS(JSON_VALUE(value), '[.eE]'),
            FORMAT('%.16e', SAFE_CAST(JSON_VALUE(value) AS FLOAT64)),
            JSON_VALUE(value)
          )
          WHEN 'boolean' THEN JSON_VALUE(value)
          WHEN 'null' THEN 'null'
          WHEN 'array' THEN TO_JSON_STRING(value)
          WHEN 'object' THEN TO_JSON_STRING(value)
        END
      ) IN UNNEST(@wanted)
    GROUP BY created_at, session_id
  )
SELECT heads.session_id, heads.created_at, heads.updated_at
FROM heads
LEFT JOIN matches ON matches.created_at = heads.created_at AND matches.session_id = heads.session_id
LEFT JOIN statuses ON statuses.created_at = heads.created_at AND statuses.session_id = heads.session_id
WHERE IFNULL(matches.met, 0) = @wanted_count
  AND (@status = '' OR IF(statuses.is_over, 'expired', IFNULL(statuses.status, '')) = @status)
  AND (
    @unwanted_count = 0
    OR IF(statuses.is_over, 'expired', IFNULL(statuses.status, '')) NOT IN UNNEST(@unwanted)
  )
  AND (NOT @unswept OR IFNULL(statuses.is_over, FALSE))
ORDER BY IF(@by_update, heads.updated_at, heads.created_at) DESC, heads.session_id DESC
LIMIT @at_most
