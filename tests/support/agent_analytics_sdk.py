"""Read a dataset with Google's SDK for agent analytics, in an environment that has it, and print what it says as JSON.

python agent_analytics_sdk.py ENDPOINT PROJECT DATASET LOCATION
"""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

from bigquery_agent_analytics import Client, SystemEvaluator, make_bq_client
from bigquery_agent_analytics.views import ViewManager
from google.auth.credentials import AnonymousCredentials

VIEWS = ("adk_user_messages", "adk_llm_responses", "adk_tool_errors")


def main(endpoint: str, project: str, dataset: str, location: str) -> None:
    bigquery = make_bq_client(
        project, location=location, credentials=AnonymousCredentials(), client_options={"api_endpoint": endpoint}
    )
    client = Client(project, dataset, table_id="auto", bq_client=bigquery)
    trace = client.get_session_trace("s1")
    assert client.get_trace(trace.spans[0].trace_id).session_id == "s1"
    views = ViewManager(project, dataset, table_id="agent_events", bq_client=bigquery)
    logging.disable(logging.CRITICAL)  # it logs each view that it cannot create
    made = views.create_all_views()
    known = {*views_known(), "compaction_windows"}
    told = {
        "doctor": client.doctor(),
        "trace": {"tool_calls": trace.tool_calls, "final_response": trace.final_response, "errors": trace.errors()},
        "sessions": sorted(found.session_id for found in client.list_traces()),
        "tokens": observed(client, SystemEvaluator.token_efficiency()),
        "turns": observed(client, SystemEvaluator.turn_count()),
        "error_rate": observed(client, SystemEvaluator.error_rate()),
        "views_missing": sorted(known - set(made)),
        "rows_of_views": {view: count(bigquery, f"{dataset}.{view}") for view in VIEWS},
    }
    print(json.dumps(told, default=str))


def views_known() -> set[str]:
    from bigquery_agent_analytics.views import _EVENT_VIEW_DEFS

    return set(_EVENT_VIEW_DEFS)


def observed(client: Any, evaluator: Any) -> dict[str, Any]:
    """What a metric of the SDK measured, by session."""
    scores = client.evaluate(evaluator).session_scores
    return {score.session_id: next(iter(score.details.values()))["observed"] for score in scores}


def count(bigquery: Any, view: str) -> int:
    return int(next(iter(bigquery.query_and_wait(f"SELECT COUNT(*) AS n FROM `{view}`"))).n)


if __name__ == "__main__":
    main(*sys.argv[1:])
