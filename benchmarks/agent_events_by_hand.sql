-- agent_events written by hand for DuckDB, the floor of benchmarks/views.py.
--
-- It returns the view's rows over the events of that benchmark, and relies on what is so in them: no forks, rewinds,
-- erased values or messages in parts, and one event for each version.
WITH written AS (
  SELECT created_at, session_id, user_id, field, key, value, removed, version, event_id, actor, occurred_at,
    CASE WHEN field IN ('tool_call_status', 'tool_call_result') THEN 'tool_call' ELSE field END AS item_type,
    CASE WHEN field = 'tool_call_status' THEN value ->> '$' END AS status
  FROM session_events
  WHERE field IN ('message', 'model_call', 'tool_call', 'tool_call_status', 'tool_call_result', 'question', 'summary',
    'error')),
begun AS (
  SELECT created_at, session_id, key, version, row_number() OVER (PARTITION BY created_at, session_id, key
    ORDER BY version) AS attempt
  FROM (
    SELECT created_at, session_id, key, version, status, lag(status) OVER (PARTITION BY created_at, session_id,
      key ORDER BY version) AS earlier
    FROM written WHERE field = 'tool_call_status')
  WHERE status != earlier AND earlier IN ('completed', 'failed')),
moves AS (
  SELECT created_at, session_id, key, version, status, occurred_at
  FROM (
    SELECT created_at, session_id, key, version, status, occurred_at, removed,
      lag(status) OVER (PARTITION BY created_at, session_id, key ORDER BY version) AS earlier
    FROM written WHERE field = 'tool_call_status')
  WHERE NOT removed AND status IS DISTINCT FROM earlier),
calls AS (
  SELECT w.*, coalesce(b.attempt, 0) AS attempt, m.status AS moved
  FROM (SELECT * FROM written WHERE item_type = 'tool_call' AND NOT removed) AS w
  ASOF LEFT JOIN begun AS b ON w.created_at = b.created_at AND w.session_id = b.session_id AND w.key = b.key
    AND w.version >= b.version
  LEFT JOIN moves AS m ON w.created_at = m.created_at AND w.session_id = m.session_id AND w.key = m.key
    AND w.version = m.version),
attempts AS (
  SELECT created_at, session_id, 'tool_call' AS item_type, key, attempt, any_value(user_id) AS user_id,
    min({v: version, e: event_id, a: actor, o: occurred_at}) AS first,
    arg_max(value, version) FILTER (field = 'tool_call') AS own,
    arg_max(status, version) FILTER (field = 'tool_call_status') AS status,
    arg_max(value, version) FILTER (field = 'tool_call_result') AS result,
    min(occurred_at) FILTER (moved = 'running') AS running_at,
    min(occurred_at) FILTER (moved = 'pending') AS pending_at,
    max(occurred_at) FILTER (moved IN ('completed', 'failed')) AS finished_at
  FROM calls GROUP BY created_at, session_id, key, attempt),
definitions AS (SELECT created_at, session_id, key, arg_max(value, version) AS value
  FROM calls WHERE field = 'tool_call' GROUP BY ALL),
others AS (
  SELECT created_at, session_id, item_type, key, any_value(user_id) AS user_id,
    min({v: version, e: event_id, a: actor, o: occurred_at}) AS first,
    arg_max(value, version) AS value
  FROM written WHERE item_type != 'tool_call' AND NOT removed GROUP BY created_at, session_id, item_type, key),
roles AS (
  SELECT created_at, session_id, item_type, key, user_id, first, value, CASE
    WHEN item_type = 'message' THEN value ->> '$.role' END AS role FROM others),
sides AS (
  SELECT created_at, session_id,
    arg_min(role, first.v) FILTER (role IN ('user', 'assistant')) AS first_role,
    bool_or(role = 'assistant') AS has_answer
  FROM roles WHERE role IS NOT NULL GROUP BY ALL),
items AS (
  SELECT * FROM (
    SELECT created_at, session_id, item_type, key, 0 AS attempt, user_id, first, value, NULL::VARCHAR AS status,
      NULL::JSON AS result,
      NULL::TIMESTAMP AS running_at, NULL::TIMESTAMP AS pending_at, NULL::TIMESTAMP AS finished_at,
      CASE WHEN role = 'user' THEN 'user' WHEN role = 'assistant' THEN 'answer'
        WHEN item_type = 'question' AND first_role IS DISTINCT FROM 'user' THEN 'user'
        WHEN item_type = 'summary' AND NOT coalesce(has_answer, false) THEN 'answer'
        WHEN item_type IN ('model_call', 'error') THEN item_type END AS kind,
      CASE item_type WHEN 'message' THEN value ->> '$.content' WHEN 'question' THEN value ->> '$'
        WHEN 'summary' THEN value ->> '$' END AS text,
      CASE WHEN item_type = 'message' THEN key
        WHEN item_type = 'model_call' THEN value ->> '$.message_id' END AS message_id
    FROM roles LEFT JOIN sides USING (created_at, session_id)
    UNION ALL
    SELECT created_at, session_id, item_type, key, attempt, user_id, first, d.value, status, result,
      running_at, pending_at, finished_at, CASE WHEN status IN ('running', 'completed',
        'failed') THEN 'tool_call' END, NULL, NULL
    FROM attempts LEFT JOIN definitions AS d USING (created_at, session_id, key))
  WHERE kind IS NOT NULL),
turns AS (
  SELECT *, count(*) FILTER (kind = 'user') OVER (
    PARTITION BY created_at, session_id ORDER BY first.v, first.e, item_type, key,
      attempt ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS turn
  FROM items),
spans AS (
  SELECT created_at, session_id, turn, max(key) FILTER (kind = 'user') AS begun_by, min(first.o) AS begun_at,
    max({v: first.v, e: first.e, i: item_type, k: key}) FILTER (kind = 'answer') AS last_answer
  FROM turns GROUP BY ALL),
told AS (
  SELECT t.*, first.v AS version, first.e AS event_id, first.a AS actor, first.o AS occurred_at,
    coalesce(nullif(s.begun_by, ''), t.session_id) AS invocation_id, s.begun_at,
    coalesce(running_at, pending_at, first.o) AS started_at,
    a.text AS answer,
    try_cast(CASE WHEN kind = 'model_call' THEN t.value ->> '$.duration_ms' END AS DOUBLE) AS duration_ms,
    try_cast(CASE WHEN kind = 'model_call' THEN t.value ->> '$.time_to_first_token_ms' END AS DOUBLE) AS first_token_ms,
    try_cast(CASE WHEN kind = 'model_call' THEN t.value ->> '$.input_tokens' END AS BIGINT) AS input_tokens,
    try_cast(CASE WHEN kind = 'model_call' THEN t.value ->> '$.output_tokens' END AS BIGINT) AS output_tokens,
    CASE kind WHEN 'user' THEN ['INVOCATION_STARTING', 'AGENT_STARTING', 'USER_MESSAGE_RECEIVED']
      WHEN 'answer' THEN CASE WHEN s.last_answer.v = first.v AND s.last_answer.k = t.key THEN ['AGENT_RESPONSE',
        'AGENT_COMPLETED', 'INVOCATION_COMPLETED'] ELSE ['AGENT_RESPONSE'] END
      WHEN 'model_call' THEN ['LLM_REQUEST', CASE WHEN coalesce((t.value -> '$.error')::VARCHAR, 'null') IN ('null',
        'false') THEN 'LLM_RESPONSE' ELSE 'LLM_ERROR' END]
      WHEN 'tool_call' THEN CASE status WHEN 'completed' THEN ['TOOL_STARTING', 'TOOL_COMPLETED']
        WHEN 'failed' THEN ['TOOL_STARTING', 'TOOL_ERROR'] ELSE ['TOOL_STARTING'] END
      ELSE ['AGENT_ERROR'] END AS event_types,
    md5(t.session_id || '/' || t.turn) AS trace_id,
      md5(t.session_id || '/' || item_type || '/' || t.key || '/' || attempt) AS item_hash,
    json_object('event_id', first.e, 'version', first.v, 'item_type', item_type, 'item_id', t.key) AS place
  FROM turns AS t JOIN spans AS s USING (created_at, session_id, turn)
  LEFT JOIN (SELECT created_at, session_id, key, text FROM items WHERE item_type = 'message') AS a
    ON a.created_at = t.created_at AND a.session_id = t.session_id AND a.key = t.message_id),
events AS (SELECT *, unnest(event_types) AS event_type FROM told)
SELECT
  CASE WHEN event_type = 'TOOL_STARTING' THEN started_at
    WHEN event_type IN ('TOOL_COMPLETED', 'TOOL_ERROR') THEN coalesce(finished_at, occurred_at)
    WHEN event_type = 'LLM_REQUEST' AND duration_ms BETWEEN 0
      AND 2592000000 THEN occurred_at - to_microseconds(round(duration_ms * 1000)::BIGINT)
    ELSE occurred_at END AS timestamp,
  event_id || '/' || item_type || CASE WHEN key = '' THEN '' ELSE '/' || key END || '/' || event_type AS event_id,
  event_type, actor AS agent, session_id, invocation_id, user_id, trace_id,
  substr(CASE WHEN event_type IN ('INVOCATION_STARTING', 'AGENT_STARTING', 'AGENT_COMPLETED',
    'INVOCATION_COMPLETED') THEN trace_id ELSE item_hash END, 1, 16) AS span_id,
  CASE WHEN event_type NOT IN ('INVOCATION_STARTING', 'AGENT_STARTING', 'AGENT_COMPLETED',
    'INVOCATION_COMPLETED') THEN substr(trace_id, 1, 16) END AS parent_span_id,
  CASE WHEN event_type = 'USER_MESSAGE_RECEIVED' THEN json_object('text_summary', text)
    WHEN event_type IN ('AGENT_RESPONSE', 'AGENT_COMPLETED') THEN json_object('response', text)
    WHEN event_type IN ('LLM_RESPONSE', 'LLM_ERROR') THEN json_object('response', answer, 'usage',
      json_object('prompt', input_tokens, 'completion', output_tokens, 'total', input_tokens + output_tokens))
    WHEN event_type = 'TOOL_STARTING' THEN json_object('tool', coalesce(value ->> '$.name', key), 'args',
      value -> '$.arguments')
    WHEN event_type IN ('TOOL_COMPLETED', 'TOOL_ERROR') THEN json_object('tool', coalesce(value ->> '$.name', key),
      'args', value -> '$.arguments', 'result', result)
    WHEN event_type = 'AGENT_ERROR' THEN json_object('error', value) END AS content,
  CASE WHEN event_type IN ('USER_MESSAGE_RECEIVED', 'AGENT_RESPONSE')
    AND text IS NOT NULL THEN [{mime_type: 'text/plain', uri: NULL::VARCHAR,
    object_ref: NULL::STRUCT(uri VARCHAR, version VARCHAR, authorizer VARCHAR, details JSON), text: text,
      part_index: 0, part_attributes: '{}', storage_mode: 'INLINE'}] ELSE [] END AS content_parts,
  CASE WHEN event_type IN ('LLM_RESPONSE', 'LLM_ERROR') THEN json_object('ledger', place, 'model',
    value ->> '$.model', 'model_version', value ->> '$.model', 'provider', value ->> '$.provider',
      'finish_reason', value ->> '$.finish_reason', 'usage_metadata', json_object('prompt_token_count', input_tokens,
        'candidates_token_count', output_tokens,
        'total_token_count', input_tokens + output_tokens, 'cached_content_token_count',
          try_cast(value ->> '$.cached_input_tokens' AS BIGINT),
        'thoughts_token_count', try_cast(value ->> '$.reasoning_tokens' AS BIGINT)), 'cost_usd',
          try_cast(value ->> '$.cost_usd' AS DOUBLE))
    WHEN event_type = 'LLM_REQUEST' THEN json_object('ledger', place, 'model', value ->> '$.model')
    ELSE json_object('ledger', place) END AS attributes,
  CASE WHEN total_ms >= 0 THEN json_object('total_ms', total_ms, 'time_to_first_token_ms', CASE
    WHEN kind = 'model_call' AND first_token_ms >= 0 THEN round(first_token_ms)::BIGINT END) END AS latency_ms,
  CASE WHEN event_type IN ('TOOL_ERROR', 'LLM_ERROR', 'AGENT_ERROR') THEN 'ERROR' ELSE 'OK' END AS status,
  CASE WHEN kind = 'error' THEN coalesce(value ->> '$.message', value ->> '$')
    WHEN event_type = 'LLM_ERROR' THEN coalesce(value ->> '$.error.message', value ->> '$.error')
    WHEN event_type = 'TOOL_ERROR' THEN CASE WHEN json_type(result) = 'OBJECT' THEN coalesce(result ->> '$.message',
      result ->> '$.error') ELSE result ->> '$' END END AS error_message,
  false AS is_truncated
FROM (
  SELECT *, CASE WHEN event_type IN ('LLM_RESPONSE', 'LLM_ERROR') THEN round(duration_ms)::BIGINT
    WHEN event_type IN ('TOOL_COMPLETED', 'TOOL_ERROR') THEN (epoch_us(finished_at) - epoch_us(started_at)) // 1000
    WHEN event_type IN ('AGENT_COMPLETED',
      'INVOCATION_COMPLETED') THEN (epoch_us(occurred_at) - epoch_us(begun_at)) // 1000 END AS total_ms
  FROM events)
