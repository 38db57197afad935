-- sessions_latest: bring the table sessions_latest up to date with the sessions of the last days.
--
-- Grain:  (session_id, created_at) of sessions_latest.
-- Inputs: sessions, session_events. Sessions that were created lookback_days before the run, or later, are compared. If
--         runs were missed, the days are counted from the last event that the table knows; into an empty table go the
--         sessions of all days. Of older sessions sql/scheduled/sessions_latest_full.sql brings the changes.
-- Cost:   these days of session_events and of sessions_latest; updated_at of the whole of sessions_latest.
-- Twin:   ledger/model/session.py (Session).
-- Test:   tests/property/test_scheduled.py, tests/sql/test_scheduled.py
--
-- A row is written only if the session has a later version or more events than the table knows: a second run changes
-- nothing. Two events may have the same version, after unchecked appends, so the version alone does not tell. A session
-- that is no longer there is deleted.
--
-- Parameters:
--   run_time TIMESTAMP: Time of the run, for which BigQuery gives the time that the schedule names
--   lookback_days INT64: Days before the run on which sessions that are still worked in may have begun
DECLARE first_day TIMESTAMP DEFAULT (
  SELECT
    IF(
      COUNT(*) = 0,
      TIMESTAMP '0001-01-01 00:00:00+00',
      TIMESTAMP_TRUNC(TIMESTAMP_SUB(LEAST(@run_time, MAX(updated_at)), INTERVAL @lookback_days DAY), DAY)
    )
  FROM `${project}.${dataset}.sessions_latest`
  -- The table may require the filter.
  WHERE created_at >= TIMESTAMP '0001-01-01 00:00:00+00'
);
MERGE `${project}.${dataset}.sessions_latest` AS target
USING (
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
    WHERE created_at >= first_day
    GROUP BY created_at, session_id
  ) AS heads ON heads.created_at = sessions.created_at AND heads.session_id = sessions.session_id
  WHERE sessions.created_at >= first_day
) AS source
ON target.session_id = source.session_id AND target.created_at = source.created_at AND target.created_at >= first_day
WHEN MATCHED AND (source.version > target.version OR source.event_count != target.event_count) THEN
  UPDATE SET
    status = source.status,
    title = source.title,
    question = source.question,
    session_type = source.session_type,
    summary = source.summary,
    constraints = source.constraints,
    response_plan = source.response_plan,
    strategy = source.strategy,
    tool_call_count = source.tool_call_count,
    event_count = source.event_count,
    version = source.version,
    expires_at = source.expires_at,
    updated_at = source.updated_at
WHEN NOT MATCHED THEN
  INSERT (
    session_id, user_id, day, status, title, question, session_type, summary, constraints, response_plan, strategy,
    tool_call_count, event_count, version, expires_at, updated_at, created_at
  )
  VALUES (
    source.session_id, source.user_id, source.day, source.status, source.title, source.question, source.session_type,
    source.summary, source.constraints, source.response_plan, source.strategy, source.tool_call_count,
    source.event_count, source.version, source.expires_at, source.updated_at, source.created_at
  )
WHEN NOT MATCHED BY SOURCE AND target.created_at >= first_day THEN
  DELETE;
