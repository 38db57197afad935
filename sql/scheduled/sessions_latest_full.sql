-- sessions_latest_full: fill the table sessions_latest anew with the sessions of all days.
--
-- Grain:  (session_id, created_at) of sessions_latest.
-- Inputs: sessions, session_events.
-- Cost:   all days of session_events and of sessions_latest. So it runs once a week.
-- Twin:   ledger/model/session.py (Session).
-- Test:   tests/property/test_scheduled.py, tests/sql/test_scheduled.py
--
-- Readers see the old rows or the new ones, and never an empty table: this is one transaction. Rows of sessions_latest
-- are never streamed, so that a transaction may delete them.
BEGIN TRANSACTION;
DELETE FROM `${project}.${dataset}.sessions_latest`
WHERE created_at >= TIMESTAMP '0001-01-01 00:00:00+00';
INSERT INTO `${project}.${dataset}.sessions_latest` (
  session_id, user_id, day, status, title, question, session_type, summary, constraints, response_plan, strategy,
  tool_call_count, event_count, version, expires_at, updated_at, created_at
)
SELECT
  sessions.session_id,
  sessions.user_id,
  DATE(sessions.created_at) AS day,
  sessions.status,
  sessions.title,
  sessions.question,
  sessions.session_type,
  sessions.summary,
  sessions.constraints,
  sessions.response_plan,
  sessions.strategy,
  IFNULL(ARRAY_LENGTH(sessions.tool_calls), 0) AS tool_call_count,
  heads.event_count,
  sessions.version,
  sessions.expires_at,
  sessions.updated_at,
  sessions.created_at
FROM `${project}.${dataset}.sessions` AS sessions
INNER JOIN (
  SELECT created_at, session_id, COUNT(DISTINCT event_id) AS event_count
  FROM `${project}.${dataset}.session_events`
  WHERE created_at >= TIMESTAMP '0001-01-01 00:00:00+00'
  GROUP BY created_at, session_id
) AS heads ON heads.created_at = sessions.created_at AND heads.session_id = sessions.session_id
-- The table may require the filter.
WHERE sessions.created_at >= TIMESTAMP '0001-01-01 00:00:00+00';
COMMIT TRANSACTION;
