"""Types and fields of the ledger's own events: nobody's own event passes for one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ledger import Change, InvalidInput, SessionLedger

MARK = Change("x_p", "", 1)


def everything(ledger: SessionLedger, sid: str) -> set[str]:
    """Call each method that records events, and return the types of the events."""
    for method in (ledger.expire_session, ledger.restore_session, ledger.delete_session, ledger.restore_session):
        method(sid)
    ledger.archive_session(sid)
    ledger.hydrate_session(sid)
    ledger.extend_session(sid, None)
    ledger.grant_access(sid, "eve", "read")
    ledger.revoke_access(sid, "eve")
    ledger.update_strategy(sid, "s")
    ledger.update_response_plan(sid, {})
    ledger.add_query(sid, "sql")
    ledger.record_model_call(sid, "m")
    ledger.update_context(sid, {"a": 2})
    ledger.set_results(sid, {"a": 2})
    ledger.set_attributes(sid, {"topic": "o"})
    ledger.add_tags(sid, "t")
    ledger.add_score(sid, "good", 1)
    ledger.remove_message(sid, "m2")
    ledger.fail_session(sid, "no data")
    ledger.complete_session(sid)
    fork = ledger.fork_session(sid)
    ledger.create_from_template(sid, "ada")
    ledger.rewind(sid, 2)
    return {event.event_type for each in (sid, fork) for event in ledger.history(each)}


def test_an_event_of_ones_own_has_no_type_of_the_ledgers_unless_it_changes_what_that_type_means(
    ledger: SessionLedger, sid: str, small_events: None
) -> None:
    types = everything(ledger, sid)
    assert {"session.created", "session.copied", "session.rewinding", "template.used", "access.revoked"} < types
    version = ledger.require_session(sid).version
    for event_type in types - {"session.updated"}:  # changes of any field
        with pytest.raises(InvalidInput, match=r"nothing was written\. (Call that method, or g|G)ive your event"):
            ledger.append(sid, event_type, [MARK])
    assert ledger.require_session(sid).version == version
    ledger.append(sid, "session.updated", [MARK])
    ledger.append(sid, "message.added", [Change("message", "m9", {"role": "user", "content": "hi"})])
    ledger.append(sid, "access.reviewed", [MARK])


def test_a_guest_cannot_record_that_access_was_granted(ledger: SessionLedger, sid: str) -> None:
    ledger.grant_access(sid, "eve", "write")
    with pytest.raises(InvalidInput, match=r"access\.granted is an event of grant_access\(\)"):
        ledger.for_user("eve").append(sid, "access.granted", [MARK])


@pytest.mark.parametrize("field", ["lineage", "child"])
def test_where_a_session_comes_from_is_written_by_forks_alone(ledger: SessionLedger, sid: str, field: str) -> None:
    part = {"session_id": "other", "version": 1, "kind": "fork"}
    value = part if field == "lineage" else {"other": part}
    change = Change(field, "" if field == "lineage" else "other", part)
    calls: list[Callable[[], object]] = [
        lambda: ledger.update_session(sid, {field: value}),
        lambda: ledger.update_session(sid, {field: None if field == "lineage" else {"other": None}}),
        lambda: ledger.append(sid, "session.updated", [change]),
        lambda: ledger.append(sid, "plan.approved", iter([MARK, change])),  # type: ignore[arg-type]
        lambda: ledger.create_session("ada", fields={field: value}),
        lambda: ledger.get_or_create_session("ada", "k", fields={field: value}),
        lambda: ledger.create_from_template(sid, "ada", fields={field: value}),
    ]
    before = len(ledger.history(sid))
    for call in calls:
        with pytest.raises(InvalidInput, match=f"{field} is set by the ledger and cannot be changed"):
            call()
    assert (len(ledger.history(sid)), len(ledger.list_sessions())) == (before, 1)
