"""Earlier states of a session: rewind, replay, compare."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from typing import Unpack

from ledger.errors import InvalidInput, SessionNotFound, WrongExpectedVersion
from ledger.model.copying import Plan, portions, to_rewind
from ledger.model.events import ANY_VERSION, AppendResult, Change, Envelope, RecordedEvent, expected_version_of, key_of
from ledger.model.fold import Difference, State, diff
from ledger.model.ids import event_id_for
from ledger.model.session import Head, Session
from ledger.model.values import check_whole
from ledger.sdk.branch_events import WRITE_ATTEMPTS, resumable
from ledger.sdk.branches import Branches
from ledger.sdk.replaying import Replayed
from ledger.stores.checks import conflicting, wrong_version

#: Maximum number of versions that a replay reads at once.
_REPLAY_PAGE = 200


class TimeTravel(Branches):
    """Mixin class: restoring an earlier state, iterating over all states, and comparing two sessions."""

    def rewind(self, session_id: str, to_version: int, **envelope: Unpack[Envelope]) -> AppendResult | None:
        """Restore the state of an earlier version by appending an event; the history stays.

        Grants, children, lineage, ``expires_at`` and ``x_session_key`` are not rewound. The status is not rewound if
        the earlier status is ``expired``, ``archived``, ``deleted`` or ``copying``. Values erased since are not
        restored.

        If a message was removed or replaced since, that message and all later messages are written again, because
        messages are ordered by version. The same holds for tool calls, queries and scores.

        Keys stay used: a change that is sent again with the ``event_id`` of a change from before the rewind is
        acknowledged (``replayed`` is true), but it is not in the state, because nothing is written. Give the changes
        after a rewind new keys, for example with the returned version in them.

        A large rewind takes several events; all but the last have the type ``session.rewinding``. To complete an
        interrupted rewind, repeat the call.

        Args:
            session_id: The session.
            to_version: The version to restore, from 1.
            envelope: See ``Envelope``. ``expected_version`` is compared with the version before the rewind.
                If it is not given, events that other writers append meanwhile are rewound too.

        Returns:
            The result of the last append; None if the session already has that state. In that case nothing is written
            and the ``event_id`` is not recorded, so a retry rewinds any events appended since.

        Raises:
            SessionNotFound: The session does not exist.
            InvalidInput: The session has no such version.
            SessionEnded: The session is expired, archived or deleted.
            WrongExpectedVersion: The session is at another version; nothing was written.
            IdempotencyConflict: The ``event_id`` was recorded with another change.
            OutcomeUnknown: The rewind may be complete or incomplete; call again with the error's ``event_id``.
        """
        check_whole(to_version, "to_version", at_least=1)
        self._check_envelope(envelope)  # also if nothing is appended
        owner = self._require(session_id).user_id
        event_id = self._event_id(session_id, envelope)
        then = self._state_at(session_id, to_version)
        key = key_of(envelope)
        if key is not None and (recorded := self.store.version_of(session_id, event_id)) is not None:
            return self._earlier_rewind(session_id, recorded, event_id, then, key)
        expected = expected_version_of(envelope)
        result: AppendResult | None = None
        for attempt in range(WRITE_ATTEMPTS):
            head, now = self._latest(session_id)
            if result is None and expected not in (ANY_VERSION, head.version):
                raise wrong_version(session_id, expected, head.version)
            parts = self._portions(to_rewind(now, then), key or "")
            version = head.version
            try:
                for number, part in enumerate(parts, 1):
                    is_last = number == len(parts)
                    part_id = event_id if is_last else event_id_for(f"{event_id}:{version}", owner)
                    part_envelope = Envelope(**{**envelope, "expected_version": version})
                    if key is not None and not is_last:
                        part_envelope["event_id"] = part_id
                    event_type = "session.rewound" if is_last else "session.rewinding"
                    with resumable(session_id, event_id, started=result is not None):
                        result = self._append(
                            session_id, event_type, part, part_envelope, event_id=part_id, as_recorded=True
                        )
                    version = result.version
                return result
            except WrongExpectedVersion:
                if (result is None and expected != ANY_VERSION) or attempt == WRITE_ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    def replay(
        self, session_id: str, *, from_version: int = 1, to_version: int | None = None, messages: bool = False
    ) -> Iterator[tuple[RecordedEvent, Session]]:
        """Iterate over a session's events. Each event comes with the session's state after it.

        The states are those that ``get_session(version=...)`` returns. The history is read page by page. If a caller
        keeps all states, each takes only as much memory as the changes of its event. Events appended after the call
        are not included.

        Args:
            session_id: The session.
            from_version: The version to start with, at least 1.
            to_version: The version to end with; the latest if None.
            messages: Include the messages in the states.

        Returns:
            Pairs of event and session, in order. Concurrent writers to BigQuery can append two events of the same
            version. Each of the two then comes with the state after both.

        Raises:
            SessionNotFound: The session does not exist.
            InvalidInput: The session has no such version, or ``to_version`` is before ``from_version``.
            CorruptEvent, UpcastMissing: A row cannot be read. Raised during the iteration.
        """
        check_whole(from_version, "from_version", at_least=1)
        last = self._require(session_id).version
        end = last if to_version is None else check_whole(to_version, "to_version", at_least=1)
        if from_version > end or end > last:
            raise InvalidInput(
                f"Session {session_id} has versions 1 to {last}; it cannot be replayed from {from_version} to {end}."
            )
        return self._replay(session_id, from_version, end, messages)

    def compare(
        self, session_id: str, other_session_id: str, *, version: int | None = None, other_version: int | None = None
    ) -> list[Difference]:
        """Return the registers that differ between the states of two sessions, messages included.

        Args:
            session_id: The first session, ``before`` in the result.
            other_session_id: The second session, ``after`` in the result.
            version: The version of the first session; the latest if None.
            other_version: The version of the second session; the latest if None.

        Returns:
            One item per register, sorted by (field, key).

        Raises:
            SessionNotFound: A session does not exist.
            InvalidInput: A session has no such version.
        """
        return diff(self._state_at(session_id, version), self._state_at(other_session_id, other_version))

    def _latest(self, session_id: str) -> tuple[Head, State]:
        """Return a session's head and latest state, messages included.

        Raises:
            SessionNotFound: The session has been purged.
        """
        head_and_state = self.store.state(session_id, with_messages=True)
        if head_and_state is None:  # purged since the call began
            raise SessionNotFound(f"Session {session_id} has been deleted.", session_id=session_id)
        return head_and_state

    def _portions(self, plan: Plan, idempotency_key: str = "") -> list[list[Change]]:
        capabilities = self.store.capabilities
        half = capabilities.max_event_bytes // 2
        # Each row of an event repeats the key: the keys of all rows take at most the other half.
        most = min(capabilities.max_changes, half // max(len(idempotency_key.encode()), 1))
        return list(portions(plan, most, half))

    def _earlier_rewind(self, session_id: str, version: int, event_id: str, then: State, key: str) -> AppendResult:
        """Return the result of an earlier delivery of this event_id, which is recorded at ``version``.

        Raises:
            IdempotencyConflict: The recorded event is not a rewind to the state ``then``.
        """
        events = self.store.events(session_id, after=version - 1, limit=1)
        is_rewind = any((event.event_id, event.event_type) == (event_id, "session.rewound") for event in events)
        if not is_rewind or self._portions(to_rewind(self._state_at(session_id, version), then)):
            raise conflicting(session_id, event_id, None if key == event_id else key)
        return AppendResult(session_id, version, event_id, replayed=True)

    def _replay(
        self, session_id: str, first: int, last: int, messages: bool
    ) -> Iterator[tuple[RecordedEvent, Session]]:
        before = self.store.state(session_id, version=first - 1, with_messages=messages) if first > 1 else None
        head = None if before is None else before[0]
        states = Replayed({} if before is None else before[1], with_messages=messages)
        after: int | None = first - 1
        while after is not None and after < last:
            page = self.store.events(session_id, after=after, limit=min(_REPLAY_PAGE, last - after))
            for version, of_version in groupby(page, key=lambda event: event.version):
                if version > last:
                    return
                events = list(of_version)
                head = _head_after(head, events)
                session = Session(head, states.advance(events), with_messages=messages)
                for event in events:
                    yield event, session
            after = None if page.next is None else int(page.next)


def _head_after(head: Head | None, events: list[RecordedEvent]) -> Head:
    """Return a session's head after ``events``, which all have the same version.

    ``head`` is the head before these events; None if they are the session's first.
    """
    last, updated_at = events[-1], max(event.recorded_at for event in events)
    if head is None:
        head = Head(
            *(last.session_id, last.user_id, last.created_at, last.version),
            *(updated_at, last.event_hash, last.store_id),
        )
    return replace(
        head,
        version=last.version,
        updated_at=max(updated_at, head.updated_at),
        event_hash=last.event_hash,
        store_id=last.store_id,
    )
