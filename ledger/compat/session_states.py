"""The functions of a ``session_states`` table, over a ledger.

A thread is a session: the caller's ``thread_id`` is its id, ``user_prompt`` its question, ``workflow_status`` its
status (``running`` is ``active``). What is searched by is an attribute, the long texts and whatever else the state
holds are context. A save records what changed and nothing else, so every state that was saved is still there:
``SessionLedger.get_session(thread_id, version=...)``. These sessions have no end by themselves.

The ledger is the one given as ``ledger=``, else that of ``configure``, else the one at ``LEDGER_URL``. With
``DEBUG_SESSION_STATES=1`` the logger of this module says what is done: ids and names, never values.
"""

from __future__ import annotations

import atexit
import logging
import os
import sqlite3
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from ledger.compat import read_only
from ledger.compat.session_records import (
    ATTEMPT_COUNTERS,
    CRITERIA,
    TAG,
    VIEWS,
    as_object,
    checked,
    is_state,
    record_id_of,
    record_of,
    slots_of,
    standing_of,
    status_of,
)
from ledger.errors import InvalidInput, LedgerError, WrongExpectedVersion
from ledger.model.events import Change, Envelope
from ledger.model.page import Page
from ledger.model.session import Session
from ledger.model.values import canonical, check_text, check_whole
from ledger.sdk.ledger import SessionLedger
from ledger.sdk.opening import DEFAULT_URL

#: Owner of the sessions for which nobody names one.
OWNER = "session-states"
DEFAULT_LIMIT, MAX_LIMIT = 50, 100
_PAGE = 1000
_TRIES = 50

_log = logging.getLogger(__name__)
_guard = threading.Lock()
_configured: SessionLedger | None = None
_opened: dict[str, SessionLedger] = {}


def configure(ledger: SessionLedger | None) -> None:
    """Have the functions of this module use a ledger of yours, which you close; None for the one at ``LEDGER_URL``."""
    global _configured
    with _guard:
        _configured = ledger
        _close_opened()


def save_session_state(
    thread_id: str,
    state: Mapping[str, Any] | Any,
    run_id: str | None = None,
    workflow_status: str | None = None,
    *,
    user_id: str | None = None,
    ledger: SessionLedger | None = None,
) -> str:
    """Save a session's state, or update it: what ``state`` does not name stays as it is, None takes it away.

    Args:
        thread_id: The workflow's own id, 1 to 255 characters.
        state: A mapping, pydantic model or dataclass. Documented columns must have their types; anything else in it is
            kept as context, models and dates as JSON. A state that was read before may be saved as it is.
        run_id: The run to correlate with, for example MLflow's; where None, the state's, else what was saved before.
        workflow_status: running, completed or failed; where None, the state's, else what was saved before, else
            running.
        user_id: Whose session it is, for a new one; ``session-states`` where nobody says.

    Returns:
        The record's id, the same at every save.

    Raises:
        InvalidInput: A column has the wrong type, something in the state is nothing that JSON can hold, or the id is
            that of a session of another kind.
        ValueTooLarge, SessionEnded, StoreError: Nothing was written.
    """
    target = _ledger(ledger)
    wanted = _wanted(thread_id, state, run_id, workflow_status)
    for attempt in range(_TRIES):
        session = target.get_session(thread_id)
        try:
            if session is None:
                return _begin(target, thread_id, wanted, user_id)
            return _update(target, session, wanted)
        except WrongExpectedVersion:  # somebody else saved meanwhile
            if attempt == _TRIES - 1:
                raise
    raise AssertionError("unreachable")


def get_session_state(thread_id: str, *, ledger: SessionLedger | None = None) -> dict[str, Any] | None:
    """The record of a thread: the documented columns, with None for what was not saved. None where there is none."""
    session = _ledger(ledger).get_session(thread_id)
    found = None if session is None or not is_state(session) else record_of(session)
    _debug("%s session state of thread %s", "read" if found else "found no", thread_id)
    return found


def get_session_states_by_criteria(
    topic: str | None = None,
    difficulty: str | None = None,
    workflow_status: str | None = None,
    tests_passed: bool | None = None,
    limit: int = DEFAULT_LIMIT,
    *,
    after: str | None = None,
    ledger: SessionLedger | None = None,
    **unknown: Any,
) -> Page[dict[str, Any]]:
    """The records that meet every criterion given, newest first.

    Args:
        limit: At most this many, 1 to 100.
        after: The ``next`` of an earlier page.

    Raises:
        InvalidInput: A criterion does not exist, or cannot be met by any record; or the limit is over 100.
    """
    if unknown:
        raise InvalidInput(f"There is no criterion {', '.join(sorted(unknown))}; there are {', '.join(CRITERIA)}.")
    given = {"topic": topic, "difficulty": difficulty, "tests_passed": tests_passed}
    attributes = {name: checked(name, value) for name, value in given.items() if value is not None}
    page = _ledger(ledger).list_sessions(
        tag=TAG,
        status=None if workflow_status is None else status_of(workflow_status),
        attributes=attributes,
        after=after,
        limit=check_whole(limit, "limit", at_least=1, at_most=MAX_LIMIT),
    )
    _debug("listed %d session states by %s", len(page), ", ".join(attributes) or "no attribute")
    return Page([record_of(session) for session in page], page.next)


def get_session_analytics(*, ledger: SessionLedger | None = None) -> dict[str, Any]:
    """What all records amount to, read page by page to the last one.

    Returns:
        ``total_sessions``; ``success_rate``, the percentage of sessions whose tests passed (0 where there are none);
        ``average_code_attempts`` and ``average_problem_attempts`` of those that say (None where none does);
        ``topic_distribution``, ``difficulty_distribution`` and ``workflow_status_distribution``, each value with how
        many sessions have it, the most frequent first. A session without a topic is in no topic's count.
    """
    target = _ledger(ledger)
    total = passed = 0
    attempts: dict[str, list[int]] = {name: [] for name in ATTEMPT_COUNTERS}
    counted: dict[str, Counter[str]] = {name: Counter() for name in ("topic", "difficulty", "workflow_status")}
    after: str | None = None
    while True:
        page = target.list_sessions(tag=TAG, after=after, limit=_PAGE)
        for session in page:
            record = record_of(session)
            total += 1
            passed += record["tests_passed"] is True
            for name in ATTEMPT_COUNTERS:
                if record[name] is not None:
                    attempts[name].append(record[name])
            for name, counts in counted.items():
                if record[name] is not None:
                    counts[record[name]] += 1
        after = page.next
        if after is None:
            break
    _debug("counted %d session states", total)
    return {
        "total_sessions": total,
        "success_rate": 100.0 * passed / total if total else 0.0,
        **{f"average_{name}": sum(found) / len(found) if found else None for name, found in attempts.items()},
        **{f"{name}_distribution": dict(counts.most_common()) for name, counts in counted.items()},
    }


def delete_session_state(thread_id: str, *, ledger: SessionLedger | None = None) -> bool:
    """Take a record out of every read; its history stays in the ledger. False where there is none."""
    target = _ledger(ledger)
    session = target.get_session(thread_id)
    if session is None or not is_state(session):
        return False
    target.delete_session(thread_id)
    _debug("deleted session state of thread %s", thread_id)
    return True


def get_db_connection(*, ledger: SessionLedger | None = None) -> sqlite3.Connection:
    """A read-only DB-API connection that has ``session_states`` and ``session_states_summary``; close it.

    Both are there for SELECT, over the ledger's own rows: ``problem_tests`` is JSON text, ``tests_passed`` 1 or 0,
    times are text in UTC. Parameters are SQLite's, ``?``.

    Raises:
        CapabilityMissing: The ledger is not in a SQLite file.
        PermissionDenied: It is the view of one user.
    """
    _debug("opened a connection")
    return read_only.connect(_ledger(ledger), VIEWS)


@dataclass
class VerifiedWorkflow:
    """A workflow under way.

    Attributes:
        thread_id: Made for it; hand it to the agent.
        state: What the agent ended with; set it before the block ends.
        run_id: The run to correlate with; may be set as soon as it is known.
        workflow_status: running, and once the block has ended completed or failed.
        record_id: The record's id.
    """

    thread_id: str
    run_id: str | None = None
    state: Any = field(default_factory=dict)
    workflow_status: str = "running"
    record_id: str = ""


@contextmanager
def verified_workflow(
    state: Mapping[str, Any] | Any = None,
    *,
    run_id: str | None = None,
    user_id: str | None = None,
    ledger: SessionLedger | None = None,
) -> Iterator[VerifiedWorkflow]:
    """What ``/problems/verified`` does around its agent: a thread of its own, and its final state saved.

    The record is there as ``running`` from the start, so that a workflow whose process died shows. When the block
    ends, the final state is saved: ``completed`` where its ``tests_passed`` is true, else ``failed``. Where the block
    raises, what is known is saved, the session is ``failed`` with the error, and the error goes on.

    Args:
        state: What is known at the start: ``{"user_prompt": ..., "topic": ...}``.
    """
    workflow = VerifiedWorkflow(str(uuid.uuid4()), run_id)
    target = _ledger(ledger)
    start = {} if state is None else state
    workflow.record_id = save_session_state(
        workflow.thread_id, start, run_id, "running", user_id=user_id, ledger=target
    )
    try:
        yield workflow
        values = as_object(workflow.state)
        status = "completed" if values.get("tests_passed") is True else "failed"
        save_session_state(workflow.thread_id, values, workflow.run_id, status, ledger=target)
        workflow.workflow_status = status
    except BaseException as error:
        workflow.workflow_status = "failed"
        _record_failure(target, workflow, error)
        raise


def run_verified(
    agent: Callable[..., Mapping[str, Any] | Any],
    *args: Any,
    state: Mapping[str, Any] | Any = None,
    run_id: str | None = None,
    user_id: str | None = None,
    ledger: SessionLedger | None = None,
    **kwargs: Any,
) -> VerifiedWorkflow:
    """Run an agent in a ``verified_workflow``.

    Args:
        agent: Called as ``agent(*args, thread_id=..., **kwargs)``; returns the final state. A ``run_id`` in that state
            is the run's, where none is given.
        state: What is known at the start.
    """
    with verified_workflow(state, run_id=run_id, user_id=user_id, ledger=ledger) as workflow:
        workflow.state = agent(*args, thread_id=workflow.thread_id, **kwargs)
    return workflow


def _wanted(thread_id: str, state: Any, run_id: Any, workflow_status: Any) -> dict[tuple[str, str], Any]:
    values = as_object(state)
    if values.get("thread_id") not in (None, thread_id):
        raise InvalidInput(f"The state is of another thread than {str(thread_id)[:70]!r}; nothing was written.")
    slots = slots_of(values)
    if slots.get(("attribute", "run_id"), run_id) is None:
        slots.pop(("attribute", "run_id"), None)  # a run, once known, is not taken back by a state that knows none
    if run_id is not None:
        slots["attribute", "run_id"] = checked("run_id", run_id)
    if workflow_status is not None:
        slots["status", ""] = status_of(workflow_status)
    return slots


def _begin(target: SessionLedger, thread_id: str, wanted: Mapping[tuple[str, str], Any], user_id: str | None) -> str:
    record_id = record_id_of(check_text(thread_id, "thread_id"))
    fields: dict[str, Any] = {"tag": {TAG: True}, "attribute": {"record_id": record_id}}
    for (name, key), value in wanted.items():
        if value is None:
            continue
        if key:
            fields.setdefault(name, {})[key] = value
        else:
            fields[name] = value
    owner = (user_id or OWNER) if target.user_id is None else user_id
    target.create_session(owner, fields=fields, session_id=thread_id, ttl=None)
    _debug("saved session state of thread %s: %s", thread_id, _names(wanted))
    return record_id


def _update(target: SessionLedger, session: Session, wanted: Mapping[tuple[str, str], Any]) -> str:
    """Append what differs from the session as it stands, on exactly that state."""
    if TAG not in session.tags:
        raise InvalidInput(
            f"{session.session_id} is a session of another kind, no session state; nothing was written. Save the "
            "workflow under a thread_id of its own."
        )
    slots = dict(wanted)
    afresh = session.recorded_status == "deleted"
    record_id: str = session.attributes.get("record_id") or record_id_of(session.session_id)
    slots["attribute", "record_id"] = record_id
    slots["tag", TAG] = True
    standing = standing_of(session)
    if afresh:  # what was deleted must not come back with the id
        slots = {slot: None for slot in standing if slot[0] != "status"} | {("status", ""): "active"} | slots
    if slots.get(("status", ""), "failed") != "failed":
        slots["error", ""] = None
    changes = [
        Change(name, key, value, value is None)
        for (name, key), value in slots.items()
        if ((name, key) in standing if value is None else standing.get((name, key)) != canonical(value, key or name))
    ]
    if afresh:
        changes.append(Change("expires_at", "", None))
    if changes:
        # Of a deleted session all goes into the one event that opens it: one that is refused leaves it deleted.
        on_this = Envelope(expected_version=session.version)
        target._append(session.session_id, "session.updated", changes, on_this, require_open=not afresh)
    _debug(
        "saved session state of thread %s: %s",
        session.session_id,
        _names((change.field, change.key) for change in changes),
    )
    return record_id


def _record_failure(target: SessionLedger, workflow: VerifiedWorkflow, error: BaseException) -> None:
    """Save what is known and the error; where that fails as well, the agent's error is the one that goes on."""
    try:
        with suppress(InvalidInput):  # a state that cannot be saved may be the very error that is recorded below
            save_session_state(workflow.thread_id, workflow.state, workflow.run_id, ledger=target)
        target.fail_session(workflow.thread_id, error)
    except LedgerError as unrecorded:
        error.add_note(f"The failure of thread {workflow.thread_id} could not be recorded: {unrecorded}")
    _debug("recorded the failure of thread %s", workflow.thread_id)


def _ledger(given: SessionLedger | None) -> SessionLedger:
    if given is not None:
        return given
    with _guard:
        if _configured is not None:
            return _configured
        url = os.environ.get("LEDGER_URL") or DEFAULT_URL
        if url not in _opened:
            _close_opened()  # LEDGER_URL says something else by now
            _opened[url] = SessionLedger(url)
        return _opened[url]


@atexit.register
def _close_opened() -> None:
    while _opened:
        _opened.popitem()[1].close()


def _names(slots: Iterable[tuple[str, str]]) -> str:
    return ", ".join(sorted(key or name for name, key in slots)) or "no change"


def _debug(message: str, *args: Any) -> None:
    if os.environ.get("DEBUG_SESSION_STATES", "").lower() in ("1", "true", "yes", "on"):
        _log.setLevel(logging.DEBUG)
        if not _log.hasHandlers():  # a program that set logging up decides itself where it goes
            _log.addHandler(logging.StreamHandler())
    _log.debug(message, *args)
