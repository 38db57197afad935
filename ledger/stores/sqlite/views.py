"""SQL views in the embedded store's file, for people's own tools: the sqlite3 shell, Datasette, any SQLite client.

``sessions``, ``messages``, ``tool_calls``, ``model_calls`` and ``session_history`` have the columns and the rows of the
views of these names in ``sql/views``. Times are text in UTC that SQLite's date functions read, JSON values and arrays
are JSON text, and booleans are 1 and 0. Of an archived session whose rows are only in a warehouse, ``sessions`` has the
head and the listed fields, and the other views have nothing. ``chat_sessions``, ``chat_messages``, ``session_states``
and ``session_states_summary`` stand for the tables of older session stores: see ``ledger.compat``.

The views use no syntax newer than SQLite 3.25: an older SQLite than that, and one that does not know the syntax of any
view, could not open the file at all.

Test: tests/stores/test_views.py compares them with the views of ``sql/views`` in DuckDB.
"""

from __future__ import annotations

from collections.abc import Mapping

from ledger.stores.sqlite.call_views import MODEL_CALLS, TOOL_CALLS
from ledger.stores.sqlite.view_parts import instant, items, number, part, text

#: Owner of chats without a user, session type of chats, and tag of the records of ``session_states``.
ANONYMOUS, CHAT, RECORD = "anonymous", "chat", "session_state"
#: Tool call results of more characters than this in sum are omitted, as in sql/views/sessions.sql.
_RESULTS = 5_000_000


def _value(field: str, key: str = "") -> str:
    """Return an expression for the JSON text of a register of the session of ``heads``; NULL if it has none."""
    return (
        "(SELECT value FROM session_state "  # noqa: S608 - names of this module only
        f"WHERE session_id = heads.session_id AND field = '{field}' AND key = '{key}')"
    )


def _slot(field: str, key: str = "") -> str:
    """Return an expression for the value of a register of the session of ``heads``; NULL if it has none.

    Text and numbers are SQL values, booleans 1 and 0, objects and arrays JSON text.
    """
    return f"json_extract({_value(field, key)}, '$')"


_OF_SESSION = "session_id = heads.session_id"
#: The register that planned a call: its definition or, if it has none, its status. A result alone is not a call.
_PLANNED = """planned.field IN ('tool_call', 'tool_call_status') AND NOT (
      planned.field = 'tool_call_status' AND EXISTS (
        SELECT 1 FROM session_state AS defined
        WHERE defined.session_id = planned.session_id AND defined.field = 'tool_call' AND defined.key = planned.key
      )
    )"""
_JOIN = "LEFT JOIN session_state AS {0} ON {0}.session_id = planned.session_id AND {0}.key = planned.key"
_STATES = f"{_JOIN.format('states')} AND states.field = 'tool_call_status'"
_RESULTS_OF = f"{_JOIN.format('results')} AND results.field = 'tool_call_result'"
_STATUS = "COALESCE(json_extract(states.value, '$'), 'pending')"
_RESULT_LENGTH = f"""COALESCE((
    SELECT SUM(length(COALESCE(value, 'null'))) FROM session_state
    WHERE {_OF_SESSION} AND field = 'tool_call_result'
  ), 0)"""  # noqa: S608

_SESSIONS = f"""
SELECT
  heads.session_id,
  heads.user_id,
  {_slot("question")} AS question,
  {_value("constraints")} AS constraints,
  {_value("response_plan")} AS response_plan,
  {_value("strategy")} AS strategy,
  {_slot("summary")} AS summary,
  {_slot("status")} AS status,
  (
    SELECT json_group_array(key) FROM (
      SELECT planned.key FROM session_state AS planned
      WHERE planned.{_OF_SESSION} AND {_PLANNED}
      ORDER BY planned.version, planned.key
    )
  ) AS tool_calls,
  (
    SELECT json_group_array(status) FROM (
      SELECT {_STATUS} AS status FROM session_state AS planned
      {_STATES}
      WHERE planned.{_OF_SESSION} AND {_PLANNED}
      ORDER BY planned.version, planned.key
    )
  ) AS tool_call_status,
  (
    SELECT CASE WHEN COUNT(*) > 0 THEN json_group_object(key, json(COALESCE(value, 'null'))) END FROM session_state
    WHERE {_OF_SESSION} AND field = 'tool_call_result' AND {_RESULT_LENGTH} <= {_RESULTS}
  ) AS tool_call_results,
  {instant("heads.created_at")} AS created_at,
  {instant("heads.updated_at")} AS updated_at,
  heads.version,
  {_slot("title")} AS title,
  {_slot("session_type")} AS session_type,
  replace(replace({_slot("expires_at")}, 'T', ' '), 'Z', '') AS expires_at,
  {_RESULT_LENGTH} > {_RESULTS} AS tool_call_results_omitted
FROM session_heads AS heads
"""  # noqa: S608

_MESSAGES = f"""
SELECT
  session_id,
  message_id,
  position,
  CASE WHEN value IS NULL THEN 'erased' ELSE {text("role")} END AS role,
  {text("content")} AS text,
  {part("content")} AS content,
  {part("tools_used")} AS tools_used,
  {number("processing_time_ms", "REAL")} AS processing_time_ms,
  {number("token_count", "INTEGER")} AS token_count,
  {part("error")} AS error,
  {part("metadata")} AS metadata,
  {part("payload")} AS payload,
  is_copy,
  substr({instant("recorded_at")}, 1, 10) AS day,
  version,
  actor,
  {instant("occurred_at")} AS occurred_at,
  {instant("recorded_at")} AS recorded_at,
  user_id,
  {instant("created_at")} AS created_at
FROM (
{items("message", "message_id", "COALESCE(slots.value, events.value) AS value")}
)
"""  # noqa: S608

_HISTORY = f"""
SELECT
  session_id,
  version,
  event_id,
  event_type,
  field,
  key,
  value,
  removed,
  user_id,
  actor,
  {instant("occurred_at")} AS occurred_at,
  {instant("recorded_at")} AS recorded_at,
  {instant("created_at")} AS created_at,
  schema_version,
  store_id,
  value_hash,
  value_salt,
  prev_hash,
  event_hash,
  idempotency_key,
  LEAD(version) OVER (PARTITION BY session_id, field, key ORDER BY version, event_id) AS superseded_by
FROM session_events
"""  # noqa: S608

_CHAT_SESSIONS = f"""
SELECT
  heads.session_id,
  NULLIF(heads.user_id, '{ANONYMOUS}') AS user_id,
  {instant("heads.created_at")} AS created_at,
  {instant("heads.updated_at")} AS updated_at,
  CASE
    WHEN {_slot("status")} = 'expired' THEN {_slot("expires_at")}
    WHEN {_slot("status")} IN ('completed', 'failed', 'archived') THEN NULL
    WHEN {_slot("expires_at")} <= strftime('%Y-%m-%dT%H:%M:%fZ', 'now') THEN {_slot("expires_at")}
  END AS expired_at,
  (
    SELECT COALESCE(json_group_object(key, json(value)), '{{}}') FROM session_state
    WHERE session_id = heads.session_id AND field = 'context'
  ) AS context
FROM session_heads AS heads
WHERE {_slot("session_type")} = '{CHAT}' AND {_slot("status")} IS NOT 'deleted'
"""  # noqa: S608

_CHAT_MESSAGES = """
SELECT
  slots.key AS message_id,
  slots.session_id,
  json_extract(COALESCE(slots.value, events.value), '$.role') AS role,
  json_extract(COALESCE(slots.value, events.value), '$.content') AS content,
  json_extract(COALESCE(slots.value, events.value), '$.payload.query_plan') AS query_plan,
  json_extract(COALESCE(slots.value, events.value), '$.payload.candidate_set') AS candidate_set,
  json_extract(COALESCE(slots.value, events.value), '$.metadata.timestamp') AS timestamp
FROM chat_sessions AS chats
JOIN session_state AS slots ON slots.session_id = chats.session_id AND slots.field = 'message'
JOIN session_events AS events ON events.seq = slots.event_seq
"""

_SESSION_STATES = f"""
SELECT
  {_slot("attribute", "record_id")} AS id,
  {instant("heads.created_at")} AS created_at,
  {instant("heads.updated_at")} AS updated_at,
  heads.session_id AS thread_id,
  {_slot("attribute", "run_id")} AS run_id,
  {_slot("question")} AS user_prompt,
  {_slot("attribute", "topic")} AS topic,
  {_slot("attribute", "difficulty")} AS difficulty,
  {_slot("context", "problem_description")} AS problem_description,
  {_slot("context", "problem_tests")} AS problem_tests,
  {_slot("context", "code")} AS code,
  {_slot("attribute", "tests_passed")} AS tests_passed,
  {_slot("attribute", "code_attempts")} AS code_attempts,
  {_slot("attribute", "problem_attempts")} AS problem_attempts,
  CASE {_slot("status")} WHEN 'active' THEN 'running' ELSE {_slot("status")} END AS workflow_status
FROM session_heads AS heads
WHERE EXISTS (
  SELECT 1 FROM session_state WHERE session_id = heads.session_id AND field = 'tag' AND key = '{RECORD}'
) AND {_slot("status")} IS NOT 'deleted'
"""  # noqa: S608

_SESSION_STATES_SUMMARY = """
SELECT
  id, thread_id, run_id, topic, difficulty, tests_passed, code_attempts, problem_attempts, workflow_status,
  json_array_length(problem_tests) AS test_count, created_at, updated_at
FROM session_states
"""

#: The SELECT statement of each view, by view name, in the order of creation.
VIEWS: Mapping[str, str] = {
    "tool_calls": TOOL_CALLS,
    "messages": _MESSAGES,
    "model_calls": MODEL_CALLS,
    "sessions": _SESSIONS,
    "session_history": _HISTORY,
    "chat_sessions": _CHAT_SESSIONS,
    "chat_messages": _CHAT_MESSAGES,
    "session_states": _SESSION_STATES,
    "session_states_summary": _SESSION_STATES_SUMMARY,
}
#: The views that migration 013 creates: ``model_calls``, and the column ``idempotency_key``, came later.
VIEWS_OF_013 = {name: select for name, select in VIEWS.items() if name != "model_calls"}
VIEWS_OF_013["session_history"] = _HISTORY.replace("  idempotency_key,\n", "")


def creating(selects: Mapping[str, str]) -> tuple[str, ...]:
    """Return the statements that create views, by name. A view that has such a name already is replaced."""
    return tuple(
        statement
        for name, select in selects.items()
        for statement in (f"DROP VIEW IF EXISTS {name}", f"CREATE VIEW {name} AS {select}")
    )
