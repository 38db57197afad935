-- agent_events: what happened, as Google's BigQuery Agent Analytics plugin for agents writes it (version 2 of its table).
--
-- Grain:  (session_id, event_id).
-- Inputs: session_history.
-- Cost:   the columns of that schema have no created_at, so that a query reads every partition: see docs/analytics.md.
-- Twin:   ledger/testing/agent_events.py (agent_events)
-- Test:   tests/property/test_analytics.py, tests/analytics/test_agent_events.py
--
-- A message of the role user begins a turn, which is an invocation and a trace of its own: INVOCATION_STARTING,
-- AGENT_STARTING, USER_MESSAGE_RECEIVED, and AGENT_RESPONSE for each answer; the last answer of a turn also is
-- AGENT_COMPLETED and INVOCATION_COMPLETED. The question of a session that does not begin with a message of a user is
-- that message, and the summary of one without answers is the answer. Each model call has LLM_REQUEST and LLM_RESPONSE
-- or LLM_ERROR, each attempt of a tool call TOOL_STARTING and TOOL_COMPLETED or TOOL_ERROR, and the error of a session
-- is AGENT_ERROR.
--
-- Left out is what a fork copied, messages of other roles, and tool calls that nobody began. What a rewind took back
-- stays, and what it wrote back is left out. An item has the time of its first write and the values of its last one;
-- what was erased is NULL.
--
-- Columns:
--   timestamp TIMESTAMP: Time of the event by the clock of its writer
--   event_id STRING: The event of the ledger, and which of its rows this is
--   event_type STRING: USER_MESSAGE_RECEIVED, LLM_RESPONSE, TOOL_ERROR ...
--   agent STRING: The author of the event, if it is not the owner of the session
--   session_id STRING
--   invocation_id STRING: The message that began the turn; the session before the first one
--   user_id STRING
--   trace_id STRING: A hash of session and turn, 32 hexadecimal digits
--   span_id STRING: A hash of session and item, 16 hexadecimal digits; the same where something starts and ends
--   parent_span_id STRING: The span of the turn; NULL in its own rows
--   content JSON: What was said, or the tool with its arguments and result
--   content_parts ARRAY<STRUCT<mime_type STRING, uri STRING, object_ref STRUCT<uri STRING, version STRING, authorizer STRING, details JSON>, text STRING, part_index INT64, part_attributes STRING, storage_mode STRING>>: The parts of a message
--   attributes JSON: The model, its tokens, and the event and version of the ledger
--   latency_ms JSON: total_ms and time_to_first_token_ms; NULL if unknown
--   status STRING: OK or ERROR
--   error_message STRING: The text of the error
--   is_truncated BOOL: Always false
CREATE OR REPLACE VIEW `${project}.${dataset}.agent_events` AS
WITH
  event_rows AS (
    SELECT
      created_at,
      session_id,
      user_id,
      IF(field IN ('tool_call_status', 'tool_call_result'), 'tool_call', field) AS item_type,
      field,
      key,
      value,
      removed,
      version,
      event_id,
      actor,
      occurred_at,
      IF(field = 'tool_call_status', JSON_VALUE(value), NULL) AS status,
      IF(
        field = 'tool_call_status',
        LAG(JSON_VALUE(value)) OVER (PARTITION BY created_at, session_id, field, key ORDER BY version, event_id),
        NULL
      ) AS earlier_status,
      event_type = 'session.copied' OR LOGICAL_OR(field = 'lineage') OVER (
        PARTITION BY created_at, session_id, version, event_id
      ) AS is_copy
    FROM `${project}.${dataset}.session_history`
    WHERE field IN (
      'message', 'model_call', 'tool_call', 'tool_call_status', 'tool_call_result',
      'question', 'summary', 'error', 'lineage'
    )
      AND event_type NOT IN ('session.rewinding', 'session.rewound')
  ),
  writes AS (
    SELECT
      created_at,
      session_id,
      user_id,
      item_type,
      field,
      key,
      value,
      removed,
      version,
      event_id,
      actor,
      occurred_at,
      status,
      status IS DISTINCT FROM earlier_status AS is_move,
      is_copy,
      -- A call that gets another status after it ended begins another attempt, to which all of that event belongs.
      COUNTIF(status != earlier_status AND earlier_status IN ('completed', 'failed')) OVER (
        in_order ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
      ) AS attempt,
      ROW_NUMBER() OVER in_order AS place
    FROM event_rows
    WHERE field != 'lineage'
    WINDOW in_order AS (
      PARTITION BY created_at, session_id, item_type, key
      ORDER BY version, event_id, IF(field = 'tool_call_status', 0, 1), field
    )
  ),
  attempts AS (
    SELECT
      created_at,
      session_id,
      item_type,
      key,
      attempt,
      ANY_VALUE(user_id) AS user_id,
      MIN(version) AS version,
      -- Of a STRUCT, because ANY_VALUE may pass over what is NULL, such as an erased value. Its fields are named for the
      -- emulator, which takes no names from columns.
      ANY_VALUE(
        STRUCT(event_id AS event_id, actor AS actor, occurred_at AS occurred_at, is_copy AS is_copy) HAVING MIN place
      ) AS first_write,
      ANY_VALUE(STRUCT(value AS value) HAVING MAX IF(field = item_type, place, NULL)) AS definition,
      MAX(IF(field = item_type, place, NULL)) AS definition_place,
      ANY_VALUE(STRUCT(status AS status) HAVING MAX IF(field = 'tool_call_status', place, NULL)) AS last_status,
      ANY_VALUE(STRUCT(value AS value) HAVING MAX IF(field = 'tool_call_result', place, NULL)) AS last_result,
      MIN(IF(is_move AND status = 'running', occurred_at, NULL)) AS running_at,
      MIN(IF(is_move AND status = 'pending', occurred_at, NULL)) AS pending_at,
      MAX(IF(is_move AND status IN ('completed', 'failed'), occurred_at, NULL)) AS finished_at
    FROM writes
    WHERE NOT removed
    GROUP BY created_at, session_id, item_type, key, attempt
  ),
  items AS (
    SELECT
      created_at,
      session_id,
      item_type,
      key,
      attempt,
      user_id,
      version,
      first_write.event_id AS event_id,
      first_write.actor AS actor,
      first_write.occurred_at AS occurred_at,
      first_write.is_copy AS is_copy,
      -- The definition of a call is that of each of its attempts.
      FIRST_VALUE(definition.value) OVER (
        PARTITION BY created_at, session_id, item_type, key ORDER BY IFNULL(definition_place, 0) DESC
      ) AS value,
      last_status.status AS status,
      last_result.value AS result,
      running_at,
      pending_at,
      finished_at
    FROM attempts
  ),
  with_roles AS (
    SELECT
      created_at,
      session_id,
      item_type,
      key,
      attempt,
      user_id,
      version,
      event_id,
      actor,
      occurred_at,
      is_copy,
      value,
      status,
      result,
      running_at,
      pending_at,
      finished_at,
      IF(item_type = 'message' AND NOT is_copy, JSON_VALUE(value, '$.role'), NULL) AS role
    FROM items
  ),
  in_place AS (
    SELECT
      created_at,
      session_id,
      item_type,
      key,
      attempt,
      user_id,
      version,
      event_id,
      actor,
      occurred_at,
      value,
      status,
      result,
      running_at,
      pending_at,
      finished_at,
      is_copy,
      role,
      FIRST_VALUE(IF(role IN ('user', 'assistant'), role, NULL) IGNORE NULLS) OVER (
        in_order ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
      ) AS first_role,
      LOGICAL_OR(IFNULL(role, '') = 'assistant') OVER (
        in_order ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
      ) AS has_answer,
      COUNTIF(role = 'user') OVER (in_order ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS user_count,
      COUNTIF(item_type = 'question' AND NOT is_copy) OVER (
        in_order ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
      ) AS question_count,
      ROW_NUMBER() OVER in_order AS place
    FROM with_roles
    WINDOW in_order AS (
      PARTITION BY created_at, session_id ORDER BY version, event_id, item_type, key, attempt
    )
  ),
  kinds AS (
    SELECT
      created_at,
      session_id,
      item_type,
      key,
      attempt,
      user_id,
      version,
      event_id,
      actor,
      occurred_at,
      value,
      status,
      result,
      running_at,
      pending_at,
      finished_at,
      CASE
        WHEN role = 'user' THEN 'user'
        WHEN role = 'assistant' THEN 'answer'
        WHEN item_type = 'question' AND first_role IS DISTINCT FROM 'user' THEN 'user'
        WHEN item_type = 'summary' AND NOT has_answer THEN 'answer'
        WHEN item_type IN ('model_call', 'error') THEN item_type
        WHEN item_type = 'tool_call' AND status IN ('running', 'completed', 'failed') THEN 'tool_call'
      END AS kind,
      user_count + IF(first_role IS DISTINCT FROM 'user', question_count, 0) AS turn,
      place,
      CASE item_type
        WHEN 'message' THEN JSON_QUERY(value, '$.content')
        WHEN 'question' THEN value
        WHEN 'summary' THEN value
      END AS said,
      IF(item_type = 'message', key, JSON_VALUE(value, '$.message_id')) AS message_id
    FROM in_place
    WHERE NOT is_copy
  ),
  contents AS (
    SELECT
      created_at,
      session_id,
      item_type,
      key,
      attempt,
      user_id,
      version,
      event_id,
      actor,
      occurred_at,
      value,
      status,
      result,
      running_at,
      pending_at,
      finished_at,
      kind,
      turn,
      place,
      said,
      -- Of its own, so that DuckDB joins the parts of the few messages that have any, and not those of all.
      IF(JSON_TYPE(said) = 'array', said, NULL) AS listed,
      message_id
    FROM kinds
    WHERE kind IS NOT NULL
  ),
  turns AS (
    SELECT
      created_at,
      session_id,
      item_type,
      key,
      attempt,
      user_id,
      version,
      event_id,
      actor,
      occurred_at,
      value,
      status,
      result,
      running_at,
      pending_at,
      finished_at,
      kind,
      listed,
      message_id,
      IF(kind = 'model_call', value, NULL) AS model_call,
      IF(
        listed IS NULL,
        IF(JSON_TYPE(said) = 'string', JSON_VALUE(said), NULL),
        (
          SELECT STRING_AGG(
            IF(JSON_TYPE(JSON_QUERY(part, '$.text')) = 'string', JSON_VALUE(part, '$.text'), NULL), '\n' ORDER BY place
          )
          FROM UNNEST(JSON_QUERY_ARRAY(listed)) AS part WITH OFFSET AS place
        )
      ) AS text,
      turn,
      place
    FROM contents
  ),
  told AS (
    SELECT
      created_at,
      session_id,
      item_type,
      key,
      attempt,
      user_id,
      version,
      event_id,
      actor,
      occurred_at,
      value,
      result,
      finished_at,
      kind,
      listed,
      text,
      turn,
      COALESCE(running_at, pending_at, occurred_at) AS started_at,
      COALESCE(NULLIF(MAX(IF(kind = 'user', key, NULL)) OVER in_turn, ''), session_id) AS invocation_id,
      MIN(occurred_at) OVER in_turn AS turn_started_at,
      MAX(IF(item_type = 'message', text, NULL)) OVER (PARTITION BY created_at, session_id, message_id) AS answer,
      JSON_QUERY(model_call, '$.error') AS error,
      SAFE_CAST(JSON_VALUE(model_call, '$.duration_ms') AS FLOAT64) AS duration_ms,
      SAFE_CAST(JSON_VALUE(model_call, '$.time_to_first_token_ms') AS FLOAT64) AS first_token_ms,
      SAFE_CAST(JSON_VALUE(model_call, '$.input_tokens') AS INT64) AS input_tokens,
      SAFE_CAST(JSON_VALUE(model_call, '$.output_tokens') AS INT64) AS output_tokens,
      CASE kind
        WHEN 'user' THEN ['INVOCATION_STARTING', 'AGENT_STARTING', 'USER_MESSAGE_RECEIVED']
        WHEN 'answer' THEN IF(
          place = MAX(IF(kind = 'answer', place, NULL)) OVER in_turn,
          ['AGENT_RESPONSE', 'AGENT_COMPLETED', 'INVOCATION_COMPLETED'],
          ['AGENT_RESPONSE']
        )
        WHEN 'model_call' THEN [
          'LLM_REQUEST',
          IF(
            IFNULL(TO_JSON_STRING(JSON_QUERY(model_call, '$.error')), 'null') IN ('null', 'false'),
            'LLM_RESPONSE',
            'LLM_ERROR'
          )
        ]
        WHEN 'tool_call' THEN CASE status
          WHEN 'completed' THEN ['TOOL_STARTING', 'TOOL_COMPLETED']
          WHEN 'failed' THEN ['TOOL_STARTING', 'TOOL_ERROR']
          ELSE ['TOOL_STARTING']
        END
        ELSE ['AGENT_ERROR']
      END AS event_types,
      JSON_OBJECT(
        'ledger', JSON_OBJECT('event_id', event_id, 'version', version, 'item_type', item_type, 'item_id', key)
      ) AS origin,
      TO_HEX(MD5(CONCAT(session_id, '/', CAST(turn AS STRING)))) AS trace_id,
      TO_HEX(MD5(CONCAT(session_id, '/', item_type, '/', key, '/', CAST(attempt AS STRING)))) AS item_hash
    FROM turns
    WINDOW in_turn AS (PARTITION BY created_at, session_id, turn)
  ),
  events AS (
    SELECT
      session_id,
      item_type,
      key,
      user_id,
      version,
      event_id,
      actor,
      value,
      result,
      kind,
      listed,
      text,
      turn,
      origin,
      invocation_id,
      answer,
      first_token_ms,
      input_tokens,
      output_tokens,
      -- No sum that could be more than an INT64.
      IF(
        input_tokens BETWEEN 0 AND 4611686018427387903 AND output_tokens BETWEEN 0 AND 4611686018427387903,
        input_tokens + output_tokens,
        NULL
      ) AS total_tokens,
      event_type,
      IF(kind = 'tool_call', COALESCE(JSON_VALUE(value, '$.name'), key), NULL) AS tool,
      IF(kind = 'tool_call', JSON_QUERY(value, '$.arguments'), NULL) AS arguments,
      CASE
        WHEN event_type = 'TOOL_STARTING' THEN started_at
        WHEN event_type IN ('TOOL_COMPLETED', 'TOOL_ERROR') THEN COALESCE(finished_at, occurred_at)
        WHEN event_type = 'LLM_REQUEST' AND duration_ms BETWEEN 0 AND 2592000000 THEN TIMESTAMP_SUB(
          occurred_at, INTERVAL CAST(ROUND(duration_ms * 1000) AS INT64) MICROSECOND
        )
        ELSE occurred_at
      END AS timestamp,
      CASE
        WHEN event_type IN ('LLM_RESPONSE', 'LLM_ERROR') THEN SAFE_CAST(ROUND(duration_ms) AS INT64)
        WHEN event_type IN ('TOOL_COMPLETED', 'TOOL_ERROR') THEN DIV(TIMESTAMP_DIFF(finished_at, started_at, MICROSECOND), 1000)
        WHEN event_type IN ('AGENT_COMPLETED', 'INVOCATION_COMPLETED') THEN DIV(
          TIMESTAMP_DIFF(occurred_at, turn_started_at, MICROSECOND), 1000
        )
      END AS total_ms,
      CASE
        WHEN kind = 'error' THEN COALESCE(JSON_VALUE(value, '$.message'), JSON_VALUE(value))
        WHEN event_type = 'LLM_ERROR' THEN COALESCE(JSON_VALUE(error, '$.message'), JSON_VALUE(error))
        WHEN event_type = 'TOOL_ERROR' THEN COALESCE(
          JSON_VALUE(result, '$.message'), JSON_VALUE(result, '$.error'), JSON_VALUE(result)
        )
      END AS error_message,
      trace_id,
      item_hash
    FROM told
    CROSS JOIN UNNEST(told.event_types) AS event_type
  )
SELECT
  timestamp,
  CONCAT(event_id, '/', item_type, IF(key = '', '', CONCAT('/', key)), '/', event_type) AS event_id,
  event_type,
  actor AS agent,
  session_id,
  invocation_id,
  user_id,
  trace_id,
  IF(
    event_type IN ('INVOCATION_STARTING', 'AGENT_STARTING', 'AGENT_COMPLETED', 'INVOCATION_COMPLETED'),
    SUBSTR(trace_id, 1, 16),
    SUBSTR(item_hash, 1, 16)
  ) AS span_id,
  IF(
    event_type IN ('INVOCATION_STARTING', 'AGENT_STARTING', 'AGENT_COMPLETED', 'INVOCATION_COMPLETED'),
    NULL,
    SUBSTR(trace_id, 1, 16)
  ) AS parent_span_id,
  CASE
    WHEN event_type = 'USER_MESSAGE_RECEIVED' THEN JSON_OBJECT('text_summary', text)
    WHEN event_type IN ('AGENT_RESPONSE', 'AGENT_COMPLETED') THEN JSON_OBJECT('response', text)
    WHEN event_type IN ('LLM_RESPONSE', 'LLM_ERROR') THEN JSON_OBJECT(
      'response', answer,
      'usage', JSON_OBJECT(
        'prompt', input_tokens, 'completion', output_tokens, 'total', total_tokens
      )
    )
    WHEN event_type = 'TOOL_STARTING' THEN JSON_OBJECT('tool', tool, 'args', arguments)
    WHEN event_type IN ('TOOL_COMPLETED', 'TOOL_ERROR') THEN JSON_OBJECT(
      'tool', tool, 'args', arguments, 'result', result
    )
    WHEN event_type = 'AGENT_ERROR' THEN JSON_OBJECT('error', events.value)
  END AS content,
  CASE
    WHEN event_type NOT IN ('USER_MESSAGE_RECEIVED', 'AGENT_RESPONSE') THEN []
    WHEN listed IS NULL AND text IS NOT NULL THEN [
      STRUCT(
        'text/plain' AS mime_type,
        CAST(NULL AS STRING) AS uri,
        CAST(NULL AS STRUCT<uri STRING, version STRING, authorizer STRING, details JSON>) AS object_ref,
        text AS text,
        0 AS part_index,
        '{}' AS part_attributes,
        'INLINE' AS storage_mode
      )
    ]
    ELSE ARRAY(
      SELECT AS STRUCT
        IF(JSON_TYPE(JSON_QUERY(part, '$.text')) = 'string', 'text/plain', NULL) AS mime_type,
        CAST(NULL AS STRING) AS uri,
        CAST(NULL AS STRUCT<uri STRING, version STRING, authorizer STRING, details JSON>) AS object_ref,
        IF(JSON_TYPE(JSON_QUERY(part, '$.text')) = 'string', JSON_VALUE(part, '$.text'), NULL) AS text,
        place AS part_index,
        IF(
          JSON_TYPE(JSON_QUERY(part, '$.text')) = 'string', '{}', IFNULL(TO_JSON_STRING(part), 'null')
        ) AS part_attributes,
        'INLINE' AS storage_mode
      FROM UNNEST(JSON_QUERY_ARRAY(listed)) AS part WITH OFFSET AS place
      ORDER BY place
    )
  END AS content_parts,
  CASE
    -- Tokens are in the answer alone, as readers add up all rows.
    WHEN event_type IN ('LLM_RESPONSE', 'LLM_ERROR') THEN JSON_OBJECT(
      'ledger', JSON_QUERY(origin, '$.ledger'),
      'model', JSON_VALUE(value, '$.model'),
      'model_version', JSON_VALUE(value, '$.model'),
      'provider', JSON_VALUE(value, '$.provider'),
      'finish_reason', JSON_VALUE(value, '$.finish_reason'),
      'usage_metadata', JSON_OBJECT(
        'prompt_token_count', input_tokens,
        'candidates_token_count', output_tokens,
        'total_token_count', total_tokens,
        'cached_content_token_count', SAFE_CAST(JSON_VALUE(value, '$.cached_input_tokens') AS INT64),
        'thoughts_token_count', SAFE_CAST(JSON_VALUE(value, '$.reasoning_tokens') AS INT64)
      ),
      'cost_usd', SAFE_CAST(JSON_VALUE(value, '$.cost_usd') AS FLOAT64)
    )
    WHEN event_type = 'LLM_REQUEST' THEN JSON_OBJECT(
      'ledger', JSON_QUERY(origin, '$.ledger'),
      'model', JSON_VALUE(value, '$.model')
    )
    ELSE origin
  END AS attributes,
  IF(
    total_ms >= 0,
    JSON_OBJECT(
      'total_ms', total_ms,
      'time_to_first_token_ms', IF(kind = 'model_call' AND first_token_ms >= 0, SAFE_CAST(ROUND(first_token_ms) AS INT64), NULL)
    ),
    NULL
  ) AS latency_ms,
  IF(event_type IN ('TOOL_ERROR', 'LLM_ERROR', 'AGENT_ERROR'), 'ERROR', 'OK') AS status,
  error_message,
  FALSE AS is_truncated
FROM events;
