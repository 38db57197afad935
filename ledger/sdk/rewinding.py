"""Restoring an earlier state of a session, in one event or several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Unpack

from ledger.errors import SessionNotFound, WrongExpectedVersion
from ledger.model.copying import (
    REWIND_TYPES,
    REWINDING,
    Plan,
    portions,
    restores_status,
    sized,
    status_of_rewind,
    to_rewind,
)
from ledger.model.events import ANY_VERSION, AppendResult, Change, Envelope, expected_version_of, key_of
from ledger.model.fold import Register, State
from ledger.model.instants import from_text
from ledger.model.lifetime import status_at
from ledger.model.page import EVENTS_PAGE
from ledger.model.session import Head
from ledger.model.values import check_whole
from ledger.sdk.branch_events import WRITE_ATTEMPTS, part_id, resumable
from ledger.sdk.branches import Branches
from ledger.stores.checks import conflicting, wrong_version

#: Types of all events of a rewind but the last, and of the last.
_PART_TYPE, _LAST_TYPE = REWIND_TYPES


@dataclass(frozen=True, slots=True)
class _Rewind:
    """A rewind that may take several events.

    Attributes:
        session_id, user_id: The session and its owner.
        to_version: The version whose state is restored.
        event_id: Id of the last event.
    """

    session_id: str
    user_id: str
    to_version: int
    event_id: str

    def part(self, version: int) -> str:
        """Return the id of an event that follows ``version`` and is not the last one."""
        return part_id(self.event_id, version, self.user_id)


class Rewinds(Branches):
    """Mixin class: restoring an earlier state."""

    def rewind(self, session_id: str, to_version: int, **envelope: Unpack[Envelope]) -> AppendResult | None:
        """Restore the state of an earlier version by appending events, mostly one; the history stays.

        Grants, children, lineage, ``expires_at`` and ``x_session_key`` are not rewound. The status is not rewound if
        the earlier status is ``expired``, ``archived``, ``deleted``, ``copying`` or ``rewinding``. Values erased since
        are not restored.

        If a message was removed or replaced since, that message and all later messages are written again, because
        messages are ordered by version. The same holds for tool calls, model calls, queries and scores.

        Keys stay used: a change that is sent again with the ``event_id`` of a change from before the rewind is
        acknowledged (``replayed`` is true), but it is not in the state, because nothing is written. Give the changes
        after a rewind new keys, for example with the returned version in them.

        A rewind takes several events if it is large, or if messages, tool calls, model calls, queries or scores that
        are written again have ids that do not ascend, such as random ones: those of one event are read in the order of
        their ids. All events but the last have the type ``session.rewinding``, and until the last the status is
        ``rewinding``, unless the session is past its end or the earlier status is not restored. What others append
        after the first event is kept. To complete an interrupted rewind, repeat the call with its ``event_id``.

        Args:
            session_id: The session.
            to_version: The version to restore, from 1.
            envelope: See ``Envelope``. ``expected_version`` is compared with the version before the first event. If it
                is not given, events that other writers append before the first event are rewound too.

        Returns:
            The result of the last append; None if the session already has that state. In that case nothing is written
            and the ``event_id`` is not recorded, so a retry rewinds any events appended since.

        Raises:
            SessionNotFound: The session does not exist.
            InvalidInput: The session has no such version.
            SessionEnded: The session is expired or deleted; or archived, in a ledger in BigQuery.
            WrongExpectedVersion: The session is at another version; nothing was written.
            IdempotencyConflict: The ``event_id`` was recorded with another change.
            OutcomeUnknown: The rewind may be complete or incomplete; call again with the error's ``event_id``.
        """
        check_whole(to_version, "to_version", at_least=1)
        self._check_envelope(envelope)  # also if nothing is appended
        owner = self._require(session_id).user_id
        event_id = self._event_id(session_id, envelope)
        whole = _Rewind(session_id, owner, to_version, event_id)
        then = self._state_at(session_id, to_version)
        key = key_of(envelope)
        if key is not None and (recorded := self.store.version_of(session_id, event_id)) is not None:
            return self._earlier_rewind(whole, recorded, then, key)
        expected = expected_version_of(envelope)
        result: AppendResult | None = None
        for attempt in range(WRITE_ATTEMPTS):
            head, now = self._latest(session_id)
            target, started = then, False
            if attempt or key is not None:  # events of this rewind may be recorded
                target, started = self._with_later_changes(whole, head.version, now, then)
            if not started and expected not in (ANY_VERSION, head.version):
                raise wrong_version(session_id, expected, head.version)
            parts = self._rewind_parts(now, target, key or "", started=started)
            version = head.version
            try:
                for number, part in enumerate(parts, 1):
                    is_last = number == len(parts)
                    part_id = event_id if is_last else whole.part(version)
                    part_envelope = Envelope(**{**envelope, "expected_version": version})
                    if key is not None and not is_last:
                        part_envelope["event_id"] = part_id
                    event_type = _LAST_TYPE if is_last else _PART_TYPE
                    with resumable(session_id, event_id, started=started or result is not None):
                        result = self._append(
                            session_id, event_type, part, part_envelope, event_id=part_id, as_recorded=True
                        )
                    version = result.version
                return result
            except WrongExpectedVersion:
                is_refused = result is None and not started and expected != ANY_VERSION
                if is_refused or attempt == WRITE_ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    def _latest(self, session_id: str) -> tuple[Head, State]:
        """Return a session's head and latest state, messages included.

        Raises:
            SessionNotFound: The session has been purged.
        """
        head_and_state = self.store.state(session_id, with_messages=True)
        if head_and_state is None:  # purged since the call began
            raise SessionNotFound(f"Session {session_id} has been deleted.", session_id=session_id)
        return head_and_state

    def _rewind_parts(self, now: State, then: State, idempotency_key: str, *, started: bool) -> list[list[Change]]:
        """Return the changes of each event that rewinds a session from the state ``now`` to the state ``then``.

        The first of several events sets the status ``rewinding``, and the last restores it. The status stays as it is
        if ``then`` has none to restore, or if the session would be past its end without its present status.

        Args:
            now, then: The states.
            idempotency_key: The key of the events; empty if they have none.
            started: True if events of the rewind are recorded already.
        """
        plan = to_rewind(now, then)
        parts = self._portions(plan, idempotency_key)
        status = status_of_rewind(now, then)
        final = Change("status", "", status) if status is not None else Change("status", "", removed=True)
        if len(parts) > 1 and not started and restores_status(then) and not self._is_past_its_end(now):
            marked = [sized(Change("status", "", REWINDING)), *plan.free]
            parts = self._portions(Plan(marked, plan.ordered), idempotency_key)
        elif status == _status(now):
            return parts
        last = parts.pop() if parts else []
        if len(last) == 1 and sized(last[0]).size > self.store.capabilities.max_event_bytes // 2:
            return [*parts, last, [final]]
        return [*parts, [*last, final]]

    def _is_past_its_end(self, state: State) -> bool:
        held = state.get(("expires_at", ""))
        expires_at = None if held is None or held.value is None else from_text(held.value)
        return status_at(REWINDING, expires_at, self._clock()) != REWINDING

    def _portions(self, plan: Plan, idempotency_key: str) -> list[list[Change]]:
        capabilities = self.store.capabilities
        half = capabilities.max_event_bytes // 2
        # Each row of an event repeats the key: the keys of all rows take at most the other half.
        most = min(capabilities.max_changes, half // max(len(idempotency_key.encode()), 1))
        return list(portions(plan, max(most - 1, 1), half))  # one is left for the status

    def _with_later_changes(self, rewind: _Rewind, until: int, now: State, then: State) -> tuple[State, bool]:
        """Return the state to restore: the earlier one, with what others changed after the first event of the rewind.

        Args:
            rewind: The rewind.
            until: The version of the session whose state is ``now``.
            now, then: The session's state, and the earlier one.

        Returns:
            The state, and True if events of the rewind are recorded.
        """
        later: set[Register] = set()
        started, after = False, rewind.to_version
        while after < until:
            page = self.store.events(rewind.session_id, after=after, limit=min(EVENTS_PAGE, until - after))
            for event in page:
                if event.event_type == _PART_TYPE and event.event_id == rewind.part(event.version - 1):
                    started = True
                elif started and event.event_id != rewind.event_id:
                    later |= {(change.field, change.key) for change in event.changes}
            after = until if page.next is None else int(page.next)
        kept = {register: held for register, held in then.items() if register not in later}
        return kept | {register: now[register] for register in later if register in now}, started

    def _earlier_rewind(self, rewind: _Rewind, version: int, then: State, key: str) -> AppendResult:
        """Return the result of an earlier delivery of this event_id, which is recorded at ``version``.

        Raises:
            IdempotencyConflict: The recorded event is not a rewind to the state ``then``.
        """
        session_id, event_id = rewind.session_id, rewind.event_id
        events = self.store.events(session_id, after=version - 1, limit=1)
        is_rewind = any((event.event_id, event.event_type) == (event_id, _LAST_TYPE) for event in events)
        if is_rewind:
            state = self._state_at(session_id, version)
            target, _ = self._with_later_changes(rewind, version, state, then)
            is_rewind = not self._rewind_parts(state, target, key, started=True)
        if not is_rewind:
            raise conflicting(session_id, event_id, None if key == event_id else key)
        return AppendResult(session_id, version, event_id, replayed=True)


def _status(state: State) -> str | None:
    held = state.get(("status", ""))
    status: str | None = None if held is None else held.value
    return status
