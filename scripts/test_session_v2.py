"""Check the session manager: create, read, update, complete. Run it by hand; pytest does not collect it."""

from session_manager_v2 import SessionManagerV2

from ledger.cli.demo import scenario
from ledger.cli.scripts.checks import Checks, script
from ledger.errors import SessionNotFound


def test_session_v2(manager: SessionManagerV2, checks: Checks) -> None:
    """Check that a session can be created, read, updated and completed, and has its history."""
    session_id = manager.create_session(user_id=scenario.USER, question=scenario.QUESTION)
    session = manager.get_session(session_id)
    checks.equal("a new session can be read", session is not None, True)
    checks.equal("it has its question", session and session["question"], scenario.QUESTION)
    checks.equal("it has its user", session and session["user_id"], scenario.USER)
    checks.equal("it is active", session and session["status"], "active")
    checks.equal("an unknown session is None", manager.get_session("no-such-session"), None)

    manager.update_constraints(session_id, scenario.CONSTRAINTS)
    session = manager.get_session(session_id)
    checks.equal("the constraints are unchanged", session and session["constraints"], scenario.CONSTRAINTS)
    checks.equal("the planned tool calls are listed", session and session["tool_calls"], [scenario.TOOL])
    checks.equal("the tool calls are pending", session and session["tool_call_status"], ["pending"])
    checks.equal("the session is not complete", manager.is_session_complete(session_id), False)

    manager.update_response_plan(session_id, scenario.RESPONSE_PLAN)
    manager.update_tool_call_status(session_id, scenario.TOOL, "completed")
    manager.update_summary(session_id, scenario.SUMMARY)
    manager.update_session(session_id, {"status": "completed"})
    session = manager.get_session(session_id)
    checks.equal("the response plan is unchanged", session and session["response_plan"], scenario.RESPONSE_PLAN)
    checks.equal("the summary is unchanged", session and session["summary"], scenario.SUMMARY)
    checks.equal("the status is the latest", session and session["status"], "completed")
    checks.equal("the session is complete", manager.is_session_complete(session_id), True)

    events = manager.history(session_id)
    checks.equal("every update is kept", [event.version for event in events], [1, 2, 3, 4, 5, 6])
    first = manager.get_session(session_id, version=1)
    checks.equal("the first version can be read", first and (first["status"], first["summary"]), ("active", None))
    try:
        manager.update_summary("no-such-session", "lost")
        refused = False
    except SessionNotFound:
        refused = True
    checks.equal("an update of an unknown session is refused", refused, True)


if __name__ == "__main__":
    script(test_session_v2)()
