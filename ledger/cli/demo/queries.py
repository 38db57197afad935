"""What the demo asks of GoogleSQL, and how each answer compares with the SDK's."""

from __future__ import annotations

from dataclasses import dataclass

#: What the demo asks of GoogleSQL; each is bound to the session by @id, and to its creation by @created_at.
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
    """Something that the SDK and GoogleSQL both answered."""

    what: str
    same: bool
