"""The GoogleSQL queries of the demo, and ``Check``, which tells whether an answer agrees with the SDK."""

from __future__ import annotations

from dataclasses import dataclass

#: The parameters of each query are @id, the id of the session, and @created_at, the session's creation time. The
#: condition on created_at lets BigQuery read only one partition.
LATEST = """
SELECT * EXCEPT (tool_call_results_omitted)
FROM sessions
WHERE session_id = @id AND created_at = @created_at
"""
AT_VERSION = """
SELECT version, status, summary IS NOT NULL AS has_summary, tool_call_status
FROM session_versions
WHERE session_id = @id AND created_at = @created_at
ORDER BY version
"""
CALLS = """
SELECT call_id, status, JSON_VALUE(result, '$.data[1].total_orders') AS peak_orders
FROM tool_calls
WHERE session_id = @id AND created_at = @created_at
"""


@dataclass(frozen=True, slots=True)
class Check:
    """The result of a comparison of the SDK with GoogleSQL.

    Attributes:
        what: What was compared.
        same: True if both gave the same values.
    """

    what: str
    same: bool
