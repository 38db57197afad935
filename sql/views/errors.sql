-- errors: everything that failed and was not taken back: sessions, messages, tool calls and model calls, one row each.
--
-- Grain:  (session_id, item_type, item_id).
-- Inputs: session_items.
-- Cost:   filters on created_at and session_id reach the table: a range of created_at reads those days only.
-- Twin:   ledger/testing/activity.py (items)
-- Test:   tests/property/test_analytics.py, tests/sql/test_analytics.py
--
-- A tool call that failed and was completed later is none; tool_usage counts its failures.
--
-- Columns:
--   session_id STRING
--   item_type STRING: error (the session's own), message, tool_call or model_call
--   item_id STRING: The message id or call id; empty for the error of the session
--   name STRING: The role of the message, the tool or the model; NULL for the error of the session
--   error_type STRING: The type of the error, if it has one
--   error_message STRING: The text of the error, if it has one
--   is_copy BOOL: True if a fork copied it from another session
--   day DATE: Day on which what failed was recorded, in UTC
--   actor STRING
--   occurred_at TIMESTAMP
--   recorded_at TIMESTAMP
--   user_id STRING
--   created_at TIMESTAMP
CREATE OR REPLACE VIEW `${project}.${dataset}.errors` AS
SELECT
  session_id,
  item_type,
  item_id,
  name,
  error_type,
  error_message,
  is_copy,
  day,
  actor,
  occurred_at,
  recorded_at,
  user_id,
  created_at
FROM `${project}.${dataset}.session_items`
WHERE is_current AND is_error;
