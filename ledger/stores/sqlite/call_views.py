"""The views ``tool_calls`` and ``model_calls`` of the embedded store's file; see ``views``."""

from __future__ import annotations

from ledger.stores.sqlite.view_parts import instant, items, number, text

_WRITTEN = "CASE WHEN field = 'tool_call_status' THEN json_extract(value, '$') END"
_REGISTER = "PARTITION BY session_id, field, key"
_CALL = "PARTITION BY session_id, key"
_IN_ORDER = f"{_REGISTER} ORDER BY version, event_id"
_IS_RETRY = "is_move AND earlier_status IS NOT NULL AND (is_after_rewind OR earlier_status IN ('completed', 'failed'))"


def _current(field: str, column: str) -> str:
    """Return a column of the write that holds the current value of a field of the call; NULL if there is none."""
    return f"MAX(CASE WHEN is_current AND field = '{field}' THEN {column} END) OVER ({_CALL})"


def _moved(statuses: str) -> str:
    """Return an expression for the time in a row that moved a call, in its last attempt, to one of these statuses."""
    return f"CASE WHEN is_move AND attempt = last_attempt AND status IN ({statuses}) THEN occurred_at END"


#: NULL if a rewind made the call pending or running again.
_FINISHED = "MAX(CASE WHEN COALESCE(last_status, '') NOT IN ('pending', 'running') THEN {} END) OVER ({})".format(
    _moved("'completed', 'failed'"), _CALL
)
# Windows throughout: SQLite hands a condition on session_id down to the log through windows, neither through a GROUP BY
# above windows nor through a join, nor through windows of two partitions in one SELECT.
TOOL_CALLS = f"""
SELECT
  session_id,
  call_id,
  ROW_NUMBER() OVER (PARTITION BY session_id ORDER BY planned_version, call_id) AS position,
  COALESCE({text("name")}, call_id) AS name,
  {text("description")} AS description,
  COALESCE(status, 'pending') AS status,
  has_result,
  result,
  value AS definition,
  {text("message_id")} AS message_id,
  planned_version,
  {instant("planned_at")} AS planned_at,
  {instant("updated_at")} AS updated_at,
  {instant("started_at")} AS started_at,
  {instant("finished_at")} AS finished_at,
  CASE WHEN finished_at >= started_at THEN (finished_at - started_at) / 1000.0 END AS latency_ms,
  retry_count,
  failure_count,
  is_copy,
  substr({instant("planned_at")}, 1, 10) AS day,
  user_id,
  {instant("created_at")} AS created_at
FROM (
  SELECT
    session_id,
    key AS call_id,
    user_id,
    created_at,
    ROW_NUMBER() OVER ({_CALL} ORDER BY version, event_id, field) AS number,
    {_current("tool_call", "value")} AS value,
    {_current("tool_call_status", "status")} AS status,
    {_current("tool_call_result", "value")} AS result,
    MAX(is_current AND field = 'tool_call_result') OVER ({_CALL}) AS has_result,
    COALESCE({_current("tool_call", "version")}, {_current("tool_call_status", "version")}) AS planned_version,
    COALESCE({_current("tool_call", "recorded_at")}, {_current("tool_call_status", "recorded_at")}) AS planned_at,
    MAX(CASE WHEN is_current THEN recorded_at END) OVER ({_CALL}) AS updated_at,
    COALESCE(
      MIN({_moved("'running'")}) OVER ({_CALL}),
      CASE WHEN {_FINISHED} IS NOT NULL THEN MIN({_moved("'pending'")}) OVER ({_CALL}) END
    ) AS started_at,
    {_FINISHED} AS finished_at,
    MAX(CASE WHEN field = 'tool_call_status' THEN retry_count ELSE 0 END) OVER ({_CALL}) AS retry_count,
    SUM(is_move AND status = 'failed') OVER ({_CALL}) AS failure_count,
    is_copy  -- of the first write
  FROM (
    SELECT
      attempts.*,
      MAX(attempt) OVER ({_REGISTER}) AS last_attempt,
      FIRST_VALUE(status) OVER ({_REGISTER} ORDER BY removed, version DESC, event_id DESC) AS last_status
    FROM (
      SELECT
        writes.*,
        SUM({_IS_RETRY}) OVER ({_IN_ORDER}) AS retry_count,
        SUM(is_move AND earlier_status IS NULL OR {_IS_RETRY}) OVER ({_IN_ORDER}) AS attempt
      FROM (
        SELECT
          statuses.*,
          NOT is_rewind AND status IS NOT NULL AND status IS NOT earlier_status AS is_move,
          COALESCE(LAG(is_rewind AND status IS NOT earlier_status) OVER ({_IN_ORDER}), 0) AS is_after_rewind
        FROM (
          SELECT
            session_id, field, key, value, removed, version, event_id, user_id, created_at, occurred_at, recorded_at,
            is_copy,
            event_type IN ('session.rewinding', 'session.rewound') AS is_rewind,
            NOT removed AND LEAD(version) OVER ({_IN_ORDER}) IS NULL AS is_current,
            {_WRITTEN} AS status,
            LAG({_WRITTEN}) OVER ({_IN_ORDER}) AS earlier_status
          FROM (
            SELECT
              *,
              event_type = 'session.copied' OR MAX(field = 'lineage') OVER (PARTITION BY session_id, event_id)
                AS is_copy
            FROM session_events
            WHERE field IN ('tool_call', 'tool_call_status', 'tool_call_result', 'lineage')
          )
        ) AS statuses
      ) AS writes
    ) AS attempts
  )
)
WHERE number = 1 AND planned_version IS NOT NULL
"""  # noqa: S608

_CACHED = "MIN(MAX(COALESCE(calls.cached_input_tokens, 0), 0), calls.input_tokens)"
#: What the tokens of a call cost on the day on which it occurred; see sql/views/model_call_history.sql.
_ESTIMATE = f"""(
    SELECT
      (
        (calls.input_tokens - {_CACHED}) * prices.input_usd_per_million
        + {_CACHED} * COALESCE(prices.cached_input_usd_per_million, prices.input_usd_per_million)
        + CASE
          WHEN prices.output_usd_per_million = 0 THEN 0
          WHEN calls.output_tokens >= 0 THEN calls.output_tokens * prices.output_usd_per_million
        END
      ) / 1000000
    FROM model_prices AS prices
    WHERE calls.input_tokens >= 0
      AND prices.model = calls.model
      AND prices.provider IN (calls.provider, '')
      AND prices.valid_from <= substr({instant("calls.occurred_at")}, 1, 10)
    ORDER BY prices.provider = '', prices.valid_from DESC
    LIMIT 1
  )"""  # noqa: S608
MODEL_CALLS = f"""
SELECT
  session_id,
  call_id,
  position,
  model,
  provider,
  operation,
  input_tokens,
  output_tokens,
  cached_input_tokens,
  reasoning_tokens,
  COALESCE(recorded_cost_usd, estimated_cost_usd) AS cost_usd,
  CASE
    WHEN recorded_cost_usd IS NOT NULL THEN 'recorded'
    WHEN estimated_cost_usd IS NOT NULL THEN 'estimated'
  END AS cost_source,
  duration_ms,
  time_to_first_token_ms,
  finish_reason,
  error_type,
  error_message,
  message_id,
  is_copy,
  substr({instant("recorded_at")}, 1, 10) AS day,
  version,
  actor,
  {instant("occurred_at")} AS occurred_at,
  {instant("recorded_at")} AS recorded_at,
  user_id,
  {instant("created_at")} AS created_at
FROM (
  SELECT
    calls.*,
    CASE WHEN recorded_cost_usd IS NULL THEN {_ESTIMATE} END AS estimated_cost_usd
  FROM (
    SELECT
      session_id, call_id, position, version, actor, occurred_at, recorded_at, user_id, created_at, is_copy,
      {text("model")} AS model,
      {text("provider")} AS provider,
      {text("operation")} AS operation,
      {number("input_tokens", "INTEGER")} AS input_tokens,
      {number("output_tokens", "INTEGER")} AS output_tokens,
      {number("cached_input_tokens", "INTEGER")} AS cached_input_tokens,
      {number("reasoning_tokens", "INTEGER")} AS reasoning_tokens,
      {number("cost_usd", "REAL")} AS recorded_cost_usd,
      {number("duration_ms", "REAL")} AS duration_ms,
      {number("time_to_first_token_ms", "REAL")} AS time_to_first_token_ms,
      {text("finish_reason")} AS finish_reason,
      {text("error.type")} AS error_type,
      {text("error.message")} AS error_message,
      {text("message_id")} AS message_id
    FROM (
{items("model_call", "call_id", "slots.value")}
    )
  ) AS calls
)
"""  # noqa: S608
