-- session_metrics: what each session was like: how it ended, how long it took, what it used, one flat row each.
--
-- Grain:  (session_id).
-- Inputs: session_items, session_events, session_fields.
-- Cost:   filters on created_at and session_id reach the table: a range of created_at reads those days only.
-- Twin:   ledger/testing/activity.py (metrics)
-- Test:   tests/property/test_analytics.py, tests/sql/test_analytics.py
--
-- outcome is the last of active, completed and failed that was recorded, so it stays when a session is archived,
-- expires or is deleted. A session that neither was completed nor failed is abandoned if it is expired, archived or
-- deleted, or if nothing was recorded in it for 24 hours before the query; else it is open.
--
-- Messages, tool calls, queries and errors are those that the session has now, also those that a fork copied, so that a
-- sum over sessions counts them once for each fork. Model calls, their tokens and their prices are those that it made
-- itself, without what a fork copied and with what a rewind took back: their sum over sessions is what was spent.
--
-- last_activity_at is the time of the last event that wrote anything but these fields: expires_at, grant, child,
-- lineage, score, tag, title and status. The statuses completed and failed count. So scores, tags, titles, grants,
-- forks of the session, deletion, archiving and expiry are no activity.
--
-- is_success is unknown while the session is open, and if it was completed with an attribute reward that is neither a
-- number nor a boolean, such as text, or was erased.
--
-- Columns:
--   session_id STRING
--   day DATE: Day on which the session was created, in UTC
--   status STRING: The recorded status
--   outcome STRING: completed, failed, abandoned or open: how the session ended, whatever became of it later
--   is_success BOOL: True if completed, with an attribute reward of at least 1 if it has one; NULL if unknown
--   reward FLOAT64: The attribute reward, if it is a number; true is 1 and false is 0
--   session_type STRING: The type of the session
--   version INT64: The version of the last event
--   event_count INT64: Number of events
--   started_at TIMESTAMP: Time of the first event, by the clock of its writer
--   last_activity_at TIMESTAMP: Time of the last message, call, query or other work or end, by the clock of its writer
--   duration_ms FLOAT64: Time from started_at to last_activity_at, in milliseconds; NULL if the clocks say less than 0
--   message_count INT64: Number of messages that the session has now
--   turn_count INT64: Number of messages of the role user
--   assistant_message_count INT64: Number of messages of the role assistant
--   system_message_count INT64: Number of messages of the role system
--   tool_message_count INT64: Number of messages of the role tool
--   other_message_count INT64: Number of messages of other roles, and of erased ones
--   message_token_count INT64: Sum of the token counts of the messages; NULL if none has one
--   tool_call_count INT64: Number of tool calls that the session has now
--   pending_tool_call_count INT64: Number of tool calls that are pending
--   running_tool_call_count INT64: Number of tool calls that are running
--   completed_tool_call_count INT64: Number of tool calls that are completed
--   failed_tool_call_count INT64: Number of tool calls that failed and were not completed later
--   tool_retry_count INT64: Number of attempts of tool calls after their first
--   tool_failure_count INT64: Number of attempts of tool calls that failed
--   tool_latency_total_ms FLOAT64: Sum of the latencies of the last attempts, in milliseconds; NULL if none is known
--   tool_latency_max_ms FLOAT64: The largest of these latencies, in milliseconds
--   model_call_count INT64: Number of model calls that the session made, also those that a rewind took back
--   failed_model_call_count INT64: Number of these that failed
--   model_duration_total_ms FLOAT64: Sum of the durations of these, in milliseconds; NULL if none is known
--   input_token_count INT64: Sum of the tokens of their prompts; NULL if none is known
--   output_token_count INT64: Sum of the tokens of their answers; NULL if none is known
--   cached_input_token_count INT64: Sum of the input tokens that came from a cache; NULL if none is known
--   reasoning_token_count INT64: Sum of the output tokens that were spent on reasoning; NULL if none is known
--   cost_usd FLOAT64: Sum of their prices, recorded or estimated, in US dollars; NULL if none is known
--   estimated_cost_usd FLOAT64: The part of cost_usd that is estimated by model_prices; NULL if none is
--   query_count INT64: Number of queries that the session has now
--   cache_hit_count INT64: Number of these that were answered from a cache
--   cache_hit_ratio FLOAT64: Cache hits per query of which it is known, 0 to 1; NULL without such queries
--   error_count INT64: Number of errors: its own, and those of its messages, tool calls and model calls
--   updated_at TIMESTAMP: Time at which the last event was recorded
--   user_id STRING
--   created_at TIMESTAMP
CREATE OR REPLACE VIEW `${project}.${dataset}.session_metrics` AS
WITH
  -- Duplicates of rows change none of these, so that the history with its windows is not needed.
  heads AS (
    SELECT
      created_at,
      session_id,
      ANY_VALUE(user_id) AS user_id,
      MAX(version) AS version,
      COUNT(DISTINCT event_id) AS event_count,
      MIN(occurred_at) AS started_at,
      MAX(
        IF(
          field IN ('expires_at', 'grant', 'child', 'lineage', 'score', 'tag', 'title')
          OR (field = 'status' AND IFNULL(JSON_VALUE(value), '') NOT IN ('completed', 'failed')),
          NULL,
          occurred_at
        )
      ) AS last_activity_at,
      MAX(recorded_at) AS updated_at
    FROM `${project}.${dataset}.session_events`
    GROUP BY created_at, session_id
  ),
  field_values AS (
    SELECT created_at, session_id, field, JSON_VALUE(value) AS text
    FROM `${project}.${dataset}.session_fields`
    WHERE field IN ('status', 'session_type', 'expires_at')
    UNION ALL
    SELECT
      created_at,
      session_id,
      field,
      CASE
        WHEN JSON_TYPE(value) = 'number' THEN JSON_VALUE(value)
        WHEN JSON_TYPE(value) = 'boolean' THEN IF(JSON_VALUE(value) = 'true', '1', '0')
        ELSE 'unknown'
      END AS text
    FROM `${project}.${dataset}.session_fields`
    WHERE field = 'attribute' AND key = 'reward'
    UNION ALL
    SELECT created_at, session_id, 'outcome' AS field, JSON_VALUE(value) AS text
    FROM `${project}.${dataset}.session_events`
    WHERE field = 'status' AND JSON_VALUE(value) IN ('active', 'completed', 'failed')
    QUALIFY ROW_NUMBER() OVER (PARTITION BY created_at, session_id ORDER BY version DESC, event_id DESC) = 1
  ),
  -- Heads and values are additional rows, not joined, since a join might keep a filter from one side.
  item_and_head_rows AS (
    SELECT
      created_at,
      session_id,
      user_id,
      item_type,
      name,
      status,
      is_current,
      is_copy,
      is_error,
      duration_ms,
      retry_count,
      failure_count,
      token_count,
      input_token_count,
      output_token_count,
      cached_input_token_count,
      reasoning_token_count,
      cost_usd,
      cost_source,
      is_cache_hit,
      CAST(NULL AS INT64) AS version,
      CAST(NULL AS INT64) AS event_count,
      CAST(NULL AS STRING) AS last_outcome,
      CAST(NULL AS STRING) AS reward,
      CAST(NULL AS STRING) AS session_type,
      CAST(NULL AS STRING) AS expires_at,
      CAST(NULL AS TIMESTAMP) AS started_at,
      CAST(NULL AS TIMESTAMP) AS last_activity_at,
      CAST(NULL AS TIMESTAMP) AS updated_at
    FROM `${project}.${dataset}.session_items`
    UNION ALL
    SELECT
      created_at,
      session_id,
      user_id,
      'session' AS item_type,
      CAST(NULL AS STRING) AS name,
      CAST(NULL AS STRING) AS status,
      CAST(NULL AS BOOL) AS is_current,
      CAST(NULL AS BOOL) AS is_copy,
      CAST(NULL AS BOOL) AS is_error,
      CAST(NULL AS FLOAT64) AS duration_ms,
      CAST(NULL AS INT64) AS retry_count,
      CAST(NULL AS INT64) AS failure_count,
      CAST(NULL AS INT64) AS token_count,
      CAST(NULL AS INT64) AS input_token_count,
      CAST(NULL AS INT64) AS output_token_count,
      CAST(NULL AS INT64) AS cached_input_token_count,
      CAST(NULL AS INT64) AS reasoning_token_count,
      CAST(NULL AS FLOAT64) AS cost_usd,
      CAST(NULL AS STRING) AS cost_source,
      CAST(NULL AS BOOL) AS is_cache_hit,
      version,
      event_count,
      CAST(NULL AS STRING) AS last_outcome,
      CAST(NULL AS STRING) AS reward,
      CAST(NULL AS STRING) AS session_type,
      CAST(NULL AS STRING) AS expires_at,
      started_at,
      last_activity_at,
      updated_at
    FROM heads
    UNION ALL
    SELECT
      created_at,
      session_id,
      CAST(NULL AS STRING) AS user_id,
      'value' AS item_type,
      CAST(NULL AS STRING) AS name,
      IF(field = 'status', text, NULL) AS status,
      CAST(NULL AS BOOL) AS is_current,
      CAST(NULL AS BOOL) AS is_copy,
      CAST(NULL AS BOOL) AS is_error,
      CAST(NULL AS FLOAT64) AS duration_ms,
      CAST(NULL AS INT64) AS retry_count,
      CAST(NULL AS INT64) AS failure_count,
      CAST(NULL AS INT64) AS token_count,
      CAST(NULL AS INT64) AS input_token_count,
      CAST(NULL AS INT64) AS output_token_count,
      CAST(NULL AS INT64) AS cached_input_token_count,
      CAST(NULL AS INT64) AS reasoning_token_count,
      CAST(NULL AS FLOAT64) AS cost_usd,
      CAST(NULL AS STRING) AS cost_source,
      CAST(NULL AS BOOL) AS is_cache_hit,
      CAST(NULL AS INT64) AS version,
      CAST(NULL AS INT64) AS event_count,
      IF(field = 'outcome', text, NULL) AS last_outcome,
      IF(field = 'attribute', text, NULL) AS reward,
      IF(field = 'session_type', text, NULL) AS session_type,
      IF(field = 'expires_at', text, NULL) AS expires_at,
      CAST(NULL AS TIMESTAMP) AS started_at,
      CAST(NULL AS TIMESTAMP) AS last_activity_at,
      CAST(NULL AS TIMESTAMP) AS updated_at
    FROM field_values
  ),
  sums AS (
    SELECT
      created_at,
      session_id,
      ANY_VALUE(user_id) AS user_id,
      MAX(version) AS version,
      CAST(SUM(event_count) AS INT64) AS event_count,
      ANY_VALUE(IF(item_type = 'value', status, NULL)) AS status,
      ANY_VALUE(last_outcome) AS last_outcome,
      ANY_VALUE(reward) AS reward,
      ANY_VALUE(session_type) AS session_type,
      ANY_VALUE(expires_at) AS expires_at,
      ANY_VALUE(started_at) AS started_at,
      ANY_VALUE(last_activity_at) AS last_activity_at,
      ANY_VALUE(updated_at) AS updated_at,
      COUNTIF(is_current AND item_type = 'message') AS message_count,
      COUNTIF(is_current AND item_type = 'message' AND name = 'user') AS turn_count,
      COUNTIF(is_current AND item_type = 'message' AND name = 'assistant') AS assistant_message_count,
      COUNTIF(is_current AND item_type = 'message' AND name = 'system') AS system_message_count,
      COUNTIF(is_current AND item_type = 'message' AND name = 'tool') AS tool_message_count,
      CAST(SUM(IF(is_current AND item_type = 'message', token_count, NULL)) AS INT64) AS message_token_count,
      COUNTIF(is_current AND item_type = 'tool_call') AS tool_call_count,
      COUNTIF(is_current AND item_type = 'tool_call' AND status = 'pending') AS pending_tool_call_count,
      COUNTIF(is_current AND item_type = 'tool_call' AND status = 'running') AS running_tool_call_count,
      COUNTIF(is_current AND item_type = 'tool_call' AND status = 'completed') AS completed_tool_call_count,
      COUNTIF(is_current AND item_type = 'tool_call' AND status = 'failed') AS failed_tool_call_count,
      CAST(SUM(IF(is_current AND item_type = 'tool_call', retry_count, 0)) AS INT64) AS tool_retry_count,
      CAST(SUM(IF(is_current AND item_type = 'tool_call', failure_count, 0)) AS INT64) AS tool_failure_count,
      SUM(IF(is_current AND item_type = 'tool_call', duration_ms, NULL)) AS tool_latency_total_ms,
      MAX(IF(is_current AND item_type = 'tool_call', duration_ms, NULL)) AS tool_latency_max_ms,
      COUNTIF(NOT is_copy AND item_type = 'model_call') AS model_call_count,
      COUNTIF(NOT is_copy AND item_type = 'model_call' AND is_error) AS failed_model_call_count,
      SUM(IF(NOT is_copy AND item_type = 'model_call', duration_ms, NULL)) AS model_duration_total_ms,
      CAST(SUM(IF(NOT is_copy AND item_type = 'model_call', input_token_count, NULL)) AS INT64) AS input_token_count,
      CAST(SUM(IF(NOT is_copy AND item_type = 'model_call', output_token_count, NULL)) AS INT64) AS output_token_count,
      CAST(
        SUM(IF(NOT is_copy AND item_type = 'model_call', cached_input_token_count, NULL)) AS INT64
      ) AS cached_input_token_count,
      CAST(
        SUM(IF(NOT is_copy AND item_type = 'model_call', reasoning_token_count, NULL)) AS INT64
      ) AS reasoning_token_count,
      SUM(IF(NOT is_copy AND item_type = 'model_call', cost_usd, NULL)) AS cost_usd,
      SUM(IF(NOT is_copy AND cost_source = 'estimated', cost_usd, NULL)) AS estimated_cost_usd,
      COUNTIF(is_current AND item_type = 'query') AS query_count,
      COUNTIF(is_current AND is_cache_hit) AS cache_hit_count,
      COUNTIF(is_current AND NOT is_cache_hit) AS cache_miss_count,
      COUNTIF(is_current AND is_error) AS error_count
    FROM item_and_head_rows
    GROUP BY created_at, session_id
  ),
  outcomes AS (
    SELECT
      *,
      CASE
        WHEN last_outcome IN ('completed', 'failed') THEN last_outcome
        WHEN status IN ('expired', 'archived', 'deleted') THEN 'abandoned'
        WHEN SAFE_CAST(expires_at AS TIMESTAMP) <= CURRENT_TIMESTAMP() THEN 'abandoned'
        WHEN updated_at < TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL 24 HOUR) THEN 'abandoned'
        ELSE 'open'
      END AS outcome
    FROM sums
  )
SELECT
  session_id,
  DATE(created_at) AS day,
  status,
  outcome,
  CASE outcome
    WHEN 'completed' THEN IF(reward IS NULL, TRUE, SAFE_CAST(reward AS FLOAT64) >= 1)
    WHEN 'open' THEN NULL
    ELSE FALSE
  END AS is_success,
  SAFE_CAST(reward AS FLOAT64) AS reward,
  session_type,
  version,
  event_count,
  started_at,
  last_activity_at,
  IF(
    last_activity_at >= started_at, TIMESTAMP_DIFF(last_activity_at, started_at, MICROSECOND) / 1000, NULL
  ) AS duration_ms,
  message_count,
  turn_count,
  assistant_message_count,
  system_message_count,
  tool_message_count,
  (
    message_count - turn_count - assistant_message_count - system_message_count - tool_message_count
  ) AS other_message_count,
  message_token_count,
  tool_call_count,
  pending_tool_call_count,
  running_tool_call_count,
  completed_tool_call_count,
  failed_tool_call_count,
  tool_retry_count,
  tool_failure_count,
  tool_latency_total_ms,
  tool_latency_max_ms,
  model_call_count,
  failed_model_call_count,
  model_duration_total_ms,
  input_token_count,
  output_token_count,
  cached_input_token_count,
  reasoning_token_count,
  cost_usd,
  estimated_cost_usd,
  query_count,
  cache_hit_count,
  SAFE_DIVIDE(cache_hit_count, cache_hit_count + cache_miss_count) AS cache_hit_ratio,
  error_count,
  updated_at,
  user_id,
  created_at
FROM outcomes;
