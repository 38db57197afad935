-- sessions_latest: every session as of the last `ledger refresh` or scheduled query, one flat row each.
--
-- Grain:  (session_id).
-- Inputs: sql/scheduled/sessions_latest.sql brings it up to date and sql/scheduled/sessions_latest_full.sql fills it
--         anew, by `ledger refresh` or the scheduled queries of `ledger deploy`. It is empty before. A purge deletes the
--         rows of its sessions.
-- Cost:   a range of created_at reads those days; a row has no messages and no results of tool calls.
-- Twin:   ledger/model/session.py (Session).
-- Test:   tests/property/test_scheduled.py
CREATE TABLE IF NOT EXISTS `${project}.${dataset}.sessions_latest` (
  session_id STRING NOT NULL OPTIONS (description = 'The session'),
  user_id STRING NOT NULL OPTIONS (description = 'The owner of the session'),
  day DATE NOT NULL OPTIONS (description = 'Day on which the session was created, in UTC'),
  status STRING OPTIONS (description = 'The recorded status'),
  title STRING OPTIONS (description = 'The title'),
  question STRING OPTIONS (description = 'The question of the user'),
  session_type STRING OPTIONS (description = 'The type of the session'),
  summary STRING OPTIONS (description = 'The summary'),
  constraints JSON OPTIONS (description = 'The constraints, an object'),
  response_plan JSON OPTIONS (description = 'The response plan, an object'),
  strategy JSON OPTIONS (description = 'The strategy: text or any JSON value'),
  tool_call_count INT64 NOT NULL OPTIONS (description = 'Number of tool calls that the session has'),
  event_count INT64 NOT NULL OPTIONS (description = 'Number of events'),
  version INT64 NOT NULL OPTIONS (description = 'The version of the last event'),
  expires_at TIMESTAMP OPTIONS (description = 'Time at which the session expires; NULL if it does not'),
  updated_at TIMESTAMP NOT NULL OPTIONS (description = 'Time at which the last event was recorded'),
  created_at TIMESTAMP NOT NULL OPTIONS (description = 'Creation time of the session')
)
PARTITION BY DATE(created_at)
CLUSTER BY session_id
OPTIONS (description = 'The latest state of every session as of the last scheduled run; empty without one');
