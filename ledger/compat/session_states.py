"""Functions that save and find workflow states. They use a ledger in place of a table ``session_states``.

Each thread is a session: ``thread_id`` is the session's id, ``user_prompt`` its question, and ``workflow_status`` its
status (``running`` is stored as ``active``). Searchable columns are attributes. Long texts, and values whose names
are not columns, are context. A save that changes values is recorded as an event with these changes, so any saved state
can be read with ``SessionLedger.get_session(thread_id, version=...)``. These sessions have no TTL.

The ledger is the one passed as ``ledger=``, else the one set by ``configure``, else the one at ``LEDGER_URL``. With
``DEBUG_SESSION_STATES=1`` the logger of this module reports the ids and names of each call, never the values.
"""

from __future__ import annotations

import atexit
import logging
import sqlite3
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from ledger import forking
from ledger.compat import read_only
from ledger.compat.session_records import (
    ATTEMPT_COUNTERS,
    CRITERIA,
    TAG,
    as_object,
    checked,
    is_state,
    record_id_of,
    record_of,
    recorded_values,
    registers_from_state,
    status_of,
)
from ledger.errors import InvalidInput, LedgerError, WrongExpectedVersion
from ledger.model import names
from ledger.model.events import Change, Envelope
from ledger.model.page import Page
from ledger.model.session import Session
from ledger.model.values import canonical, check_text, check_whole
from ledger.sdk.ledger import SessionLedger
from ledger.sdk.opening import DEFAULT_URL
from ledger.settings import DEBUG_SESSION_STATES, LEDGER_URL

#: Owner of sessions saved without a user_id.
OWNER = "session-states"
DEFAULT_LIMIT, MAX_LIMIT = 50, 100
_TRIES = 50

_log = logging.getLogger(__name__)
_guard = forking.Guard()
_configured: SessionLedger | None = None
_opened: dict[str, SessionLedger] = {}


def configure(ledger: SessionLedger | None) -> None:
    """Set the ledger that this module uses. The caller closes the ledger. None selects the one at ``LEDGER_URL``."""
    global _configured
    with _guard.lock:
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
    """Create or update a thread's record. Values that ``state`` does not name are kept; None removes a value.

    If the record was deleted, it is restored without its old values.

    Args:
        thread_id: The workflow's own id, 1 to 255 characters.
        state: A mapping, pydantic model or dataclass. Documented columns must have their types. Other values are
            stored as context; models and dates become JSON. A record of ``get_session_state`` can be saved as it is.
        run_id: Id of a related run, for example an MLflow run; defaults to that in ``state``, else to the saved one.
        workflow_status: running, completed or failed; defaults to that in ``state``, else the saved one, else running.
        user_id: Owner of a new session; defaults to ``session-states``.

    Returns:
        The record's id, the same at every save.

    Raises:
        InvalidInput: A column has the wrong type, a value cannot be represented in JSON, or the id belongs to a session
            of another kind.
        ValueTooLarge, SessionEnded, StoreError: The state cannot be saved; nothing was written.
    """
    target = _ledger(ledger)
    wanted = _wanted(thread_id, state, run_id, workflow_status)
    for attempt in range(_TRIES):
        session = target.get_session(thread_id)
        try:
            if session is None:
                return _create(target, thread_id, wanted, user_id)
            return _update(target, session, wanted)
        except WrongExpectedVersion:  # saved concurrently
            if attempt == _TRIES - 1:
                raise
    raise AssertionError("unreachable")


def get_session_state(thread_id: str, *, ledger: SessionLedger | None = None) -> dict[str, Any] | None:
    """Return a thread's record, or None if there is none. A column of the record is None if no value was saved."""
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
    """Return the records that meet every given criterion, newest first.

    Args:
        limit: Maximum number of records, 1 to 100.
        after: The ``next`` of an earlier page.

    Raises:
        InvalidInput: A criterion does not exist or has an impossible value, or the limit is out of range.
    """
    if unknown:
        raise names.unknown("criterion", min(unknown), CRITERIA)
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
    """Return statistics over all records. Every record is read.

    Returns:
        A dict. ``total_sessions`` is the number of records. ``success_rate`` is the percentage of records whose
        tests passed (0 without records). ``average_code_attempts`` and ``average_problem_attempts`` are averages over
        the records that have a value (None if none has). ``topic_distribution``, ``difficulty_distribution`` and
        ``workflow_status_distribution`` hold the number of records by value, most frequent first; records without
        a value are not counted.
    """
    target = _ledger(ledger)
    total = passed = 0
    attempts: dict[str, list[int]] = {name: [] for name in ATTEMPT_COUNTERS}
    counted: dict[str, Counter[str]] = {name: Counter() for name in ("topic", "difficulty", "workflow_status")}
    for session in target.iter_sessions(tag=TAG):
        record = record_of(session)
        total += 1
        passed += record["tests_passed"] is True
        for name in ATTEMPT_COUNTERS:
            if record[name] is not None:
                attempts[name].append(record[name])
        for name, counts in counted.items():
            if record[name] is not None:
                counts[record[name]] += 1
    _debug("counted %d session states", total)
    return {
        "total_sessions": total,
        "success_rate": 100.0 * passed / total if total else 0.0,
        **{f"average_{name}": sum(found) / len(found) if found else None for name, found in attempts.items()},
        **{f"{name}_distribution": dict(counts.most_common()) for name, counts in counted.items()},
    }


def delete_session_state(thread_id: str, *, ledger: SessionLedger | None = None) -> bool:
    """Delete a thread's record. Its history stays in the ledger. Return False if there is no record."""
    target = _ledger(ledger)
    session = target.get_session(thread_id)
    if session is None or not is_state(session):
        return False
    target.delete_session(thread_id)
    _debug("deleted session state of thread %s", thread_id)
    return True


def get_db_connection(*, ledger: SessionLedger | None = None) -> sqlite3.Connection:
    """Return a read-only DB-API connection to the ledger's file; the caller closes it.

    The connection has the views ``session_states`` and ``session_states_summary``. In them, ``problem_tests`` is JSON
    text, ``tests_passed`` is 1 or 0, and times are text in UTC. Parameters of a statement are written ``?``.

    Raises:
        CapabilityMissing: The ledger is not a SQLite file.
        PermissionDenied: The ledger is limited to one user.
    """
    _debug("opened a connection")
    return read_only.connect(_ledger(ledger))


@dataclass
class VerifiedWorkflow:
    """The workflow that runs in a block of ``verified_workflow``.

    Attributes:
        thread_id: The generated id of the thread; pass it to the agent.
        state: The agent's final state; set it before the block ends.
        run_id: Id of a related run, for example an MLflow run. It may be set until the block ends.
        workflow_status: ``running`` in the block; ``completed`` or ``failed`` once it has ended.
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
    """Context manager that creates a thread for the workflow in its block, and saves the workflow's final state.

    The record is saved as ``running`` at the start, so that a workflow whose process died remains visible. When the
    block ends, the final state is saved as ``completed`` if it has a true ``tests_passed``, else as ``failed``. If the
    block raises an error, the state set so far is saved, the session is marked as failed, and the error is re-raised.

    Args:
        state: Initial values, for example ``{"user_prompt": ..., "topic": ...}``.
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
        agent: Called as ``agent(*args, thread_id=..., **kwargs)``; returns the final state. If ``run_id`` is
            None, the ``run_id`` in the final state is recorded.
        state: Initial values.
    """
    with verified_workflow(state, run_id=run_id, user_id=user_id, ledger=ledger) as workflow:
        workflow.state = agent(*args, thread_id=workflow.thread_id, **kwargs)
    return workflow


def _wanted(thread_id: str, state: Any, run_id: Any, workflow_status: Any) -> dict[tuple[str, str], Any]:
    values = as_object(state)
    if values.get("thread_id") not in (None, thread_id):
        raise InvalidInput(f"The state belongs to another thread than {str(thread_id)[:70]!r}; nothing was written.")
    slots = registers_from_state(values)
    if slots.get(("attribute", "run_id"), run_id) is None:
        slots.pop(("attribute", "run_id"), None)  # a state without a run_id keeps the saved one
    if run_id is not None:
        slots["attribute", "run_id"] = checked("run_id", run_id)
    if workflow_status is not None:
        slots["status", ""] = status_of(workflow_status)
    return slots


def _create(target: SessionLedger, thread_id: str, wanted: Mapping[tuple[str, str], Any], user_id: str | None) -> str:
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
    target.create_session(owner, fields=fields, session_id=thread_id)
    _debug("saved session state of thread %s: %s", thread_id, _names(wanted))
    return record_id


def _update(target: SessionLedger, session: Session, wanted: Mapping[tuple[str, str], Any]) -> str:
    """Save changed values and return the record's id. Raise WrongExpectedVersion if ``session`` is outdated."""
    if TAG not in session.tags:
        raise InvalidInput(
            f"{session.session_id} is not a session state but a session of another kind; nothing was written. "
            "Save the workflow under another thread_id."
        )
    slots = dict(wanted)
    restoring = session.recorded_status == "deleted"
    record_id: str = session.attributes.get("record_id") or record_id_of(session.session_id)
    slots["attribute", "record_id"] = record_id
    slots["tag", TAG] = True
    recorded = recorded_values(session)
    if restoring:  # values of the deleted record must not return with the id
        slots = {slot: None for slot in recorded if slot[0] != "status"} | {("status", ""): "active"} | slots
    if slots.get(("status", ""), "failed") != "failed":
        slots["error", ""] = None
    changes = [
        Change(name, key, value, value is None)
        for (name, key), value in slots.items()
        if ((name, key) in recorded if value is None else recorded.get((name, key)) != canonical(value, key or name))
    ]
    if restoring:
        changes.append(Change("expires_at", "", None))
    if changes:
        # A deleted record is restored in a single event: if the append is refused, it stays deleted.
        on_this = Envelope(expected_version=session.version)
        target._append(session.session_id, "session.updated", changes, on_this, require_open=not restoring)
    _debug(
        "saved session state of thread %s: %s",
        session.session_id,
        _names((change.field, change.key) for change in changes),
    )
    return record_id


def _record_failure(target: SessionLedger, workflow: VerifiedWorkflow, error: BaseException) -> None:
    """Save the state and ``error``. If that fails, add a note to ``error``, which the caller raises again."""
    try:
        with suppress(InvalidInput):  # an invalid state may be the very error recorded below
            save_session_state(workflow.thread_id, workflow.state, workflow.run_id, ledger=target)
        target.fail_session(workflow.thread_id, error)
    except LedgerError as unrecorded:
        error.add_note(f"The failure of thread {workflow.thread_id} could not be recorded: {unrecorded}")
    _debug("recorded the failure of thread %s", workflow.thread_id)


def _ledger(given: SessionLedger | None) -> SessionLedger:
    if given is not None:
        return given
    with _guard.lock:
        if _configured is not None:
            return _configured
        url = LEDGER_URL.text() or DEFAULT_URL
        if url not in _opened:
            _close_opened()  # LEDGER_URL has changed
            _opened[url] = SessionLedger(url)
        return _opened[url]


@atexit.register
def _close_opened() -> None:
    while _opened:
        _opened.popitem()[1].close()


def _names(slots: Iterable[tuple[str, str]]) -> str:
    return ", ".join(sorted(key or name for name, key in slots)) or "no change"


def _debug(message: str, *args: Any) -> None:
    if DEBUG_SESSION_STATES.is_on():
        _log.setLevel(logging.DEBUG)
        if not _log.hasHandlers():  # the program's own logging setup has priority
            _log.addHandler(logging.StreamHandler())
    _log.debug(message, *args)
