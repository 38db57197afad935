"""GoogleSQL queries of the demo, and the comparison of each answer with the SDK."""

from __future__ import annotations

from dataclasses import dataclass

#: Query parameters: @id is the session, @created_at its time of creation, which prunes partitions.
LATEST = "SELECT * FROM sessions WHERE session_id = @id AND created_at = @created_at"
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
    """A comparison of the SDK with GoogleSQL."""

    what: str
    same: bool
