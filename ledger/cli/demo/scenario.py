"""The session of the demo: an analytics assistant answers one question, from constraints to summary."""

from __future__ import annotations

from typing import Any

from ledger.sdk.ledger import SessionLedger

USER = "user123"
QUESTION = "What were the total orders for CFC1 in the last week?"
TOOL = "Orders Trend for CFC-1"
CONSTRAINTS: dict[str, Any] = {
    "kpi": ["orders"],
    "time_aggregation": "Weekly",
    "time_filter": {"start_date": "2025-02-09", "end_date": "2025-03-11"},
    "cfc": ["CFC-1"],
    "spokes": [],
    "comparison_type": "trend",
    "tool_calls": [
        {
            "name": TOOL,
            "description": "This query retrieves order trends for CFC-1 over the past month",
            "tables": ["orders"],
            "result_id": "orders_trend_cfc1",
        }
    ],
}
STRATEGY = """## Comprehensive Strategy

### 1. Data Collection Plan:
* **Desired Data**: Weekly order counts for CFC-1
* **Data Source**: Orders table
* **Fetch Specifics**: Select columns: `week_date`, `orders`, `cfc`

### 2. Processing Steps:
* **Calculate weekly order aggregates**: Group orders by `cfc` and `week_date`

### 3. Calculations Required:
* **Sum of orders by week for CFC**: `SUM(orders) GROUP BY cfc, week_date`
"""
RESPONSE_PLAN: dict[str, Any] = {
    "data_connections": [
        {
            "result_id": "orders_trend_cfc1",
            "purpose": "Analyze order trends for CFC-1",
            "processing_steps": ["Aggregate orders by week"],
            "outputs": ["Weekly order trends for CFC-1"],
        }
    ],
    "insights": [
        {
            "type": "trend",
            "description": "Analyze weekly order trends for CFC-1",
            "source_result_ids": ["orders_trend_cfc1"],
        }
    ],
    "response_structure": {
        "introduction": "This analysis examines order trends for CFC-1 over the past month.",
        "main_points": ["Key trends in orders for CFC-1"],
        "conclusion": "The analysis provides insights into order patterns for CFC-1.",
    },
}
RESULT: dict[str, Any] = {
    "sql": "SELECT week_date, SUM(orders) AS total_orders FROM orders WHERE cfc = 'CFC-1' GROUP BY week_date",
    "data": [
        {"week_date": "2025-02-09", "total_orders": 1200},
        {"week_date": "2025-02-16", "total_orders": 1350},
        {"week_date": "2025-02-23", "total_orders": 1100},
    ],
}
SUMMARY = """## Order Trends for CFC-1

This analysis examines order trends for CFC-1 over the past month, broken down by week.

### Key Findings
- Orders peaked in the week of February 16 with 1,350 orders
- The lowest order volume was in the week of February 23 with 1,100 orders
- The average weekly order volume was 1,217 orders
"""


def record(ledger: SessionLedger) -> str:
    """Record the session, which has eight events, and return its id."""
    session_id = ledger.create_session(USER, QUESTION)
    ledger.update_constraints(session_id, CONSTRAINTS)
    ledger.update_strategy(session_id, STRATEGY)
    ledger.update_response_plan(session_id, RESPONSE_PLAN)
    ledger.update_tool_call_status(session_id, TOOL, "running")
    ledger.update_tool_call_status(session_id, TOOL, "completed", RESULT)
    ledger.update_summary(session_id, SUMMARY)
    ledger.update_session(session_id, {"status": "completed"})
    return session_id
