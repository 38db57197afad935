"""Check the enhanced fields, strategy and tool results. Run it by hand; pytest does not collect it."""

from session_manager_v2 import SessionManagerV2

from ledger.cli.demo import scenario
from ledger.cli.scripts.checks import Checks, script


def test_enhanced_session(manager: SessionManagerV2, checks: Checks) -> None:
    """Check that the strategy and the results of tool calls are recorded in every version."""
    session_id = scenario.record(manager)
    session = manager.get_session(session_id)
    results = {scenario.TOOL: scenario.RESULT}
    checks.equal("the strategy is unchanged", session and session["strategy"], scenario.STRATEGY)
    checks.equal("the result has SQL and data", session and session["tool_call_results"], results)
    checks.equal("the tool call is completed", session and session["tool_call_status"], ["completed"])

    manager.update_tool_call_status(session_id, scenario.TOOL, "failed")
    session = manager.get_session(session_id)
    checks.equal("a later status keeps the result", session and session["tool_call_results"], results)
    checks.equal("the tool call has the later status", session and session["tool_call_status"], ["failed"])
    checks.equal("the session is not complete", manager.is_session_complete(session_id), False)

    plan = {"steps": ["fetch", "aggregate"], "confidence": 0.75}
    manager.update_strategy(session_id, plan)
    latest, before = manager.get_session(session_id), manager.get_session(session_id, version=8)
    checks.equal("a strategy may be an object", latest and latest["strategy"], plan)
    checks.equal("the earlier strategy is kept", before and before["strategy"], scenario.STRATEGY)
    changed = [difference.field for difference in manager.diff(session_id, 8)]
    checks.equal("the difference is two fields", changed, ["strategy", "tool_call_status"])


if __name__ == "__main__":
    script(test_enhanced_session)()
