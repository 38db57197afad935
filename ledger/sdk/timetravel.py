"""Back and forth in a session's history: rewind, replay, compare."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from typing import Unpack

from ledger.errors import IdempotencyConflict, InvalidInput, SessionNotFound, WrongExpectedVersion
from ledger.model.copying import Plan, portions, to_rewind
from ledger.model.events import ANY_VERSION, AppendResult, Change, Envelope, RecordedEvent
from ledger.model.fold import Difference, State, diff
from ledger.model.ids import event_id_for
from ledger.model.session import Head, Session
from ledger.model.values import check_whole
from ledger.sdk.branches import WRITE_ATTEMPTS, Branches, to_be_finished
from ledger.sdk.replaying import Replayed
from ledger.stores.checks import wrong_version

#: Versions that a replay reads at once.
_REPLAY_PAGE = 200


class TimeTravel(Branches):
    """States of the past: on their own, one after the other, beside another, and as the state from now on."""

    def rewind(self, session_id: str, to_version: int, **envelope: Unpack[Envelope]) -> AppendResult | None:
        """Bring a session back to the state that it had at a version, by an event that takes back what came after.

        The history stays, and the version goes on counting. What belongs to the session and not to its content stays as
        it is: grants, children, lineage, ``expires_at``, and the status where the earlier one is expired, archived or
        deleted. A value that was erased since is not brought back.

        A message that was removed or replaced since is written again, and so are those behind it, since messages have
        the order of their versions. Where that takes several events, the ones before the last are of the type
        ``session.rewinding``; where it was broken off, the same call goes on.

        Args:
            to_version: In events, from 1.
            envelope: ``expected_version`` is of the first event. Without it, what others append meanwhile is taken back
                as well.

        Returns:
            The last event; None where the session is as it was already, and nothing was written. Then nothing is known
            of the ``event_id`` either: sent again later, the call takes back what has come since.

        Raises:
            SessionNotFound: There is no such session.
            InvalidInput: The session has had no such version.
            SessionEnded: The session is expired, archived or deleted.
            WrongExpectedVersion: The session moved on; nothing was written.
            IdempotencyConflict: This event_id stands for another change.
            OutcomeUnknown: It may be done, or half done: rewind again with the error's ``event_id``.
        """
        check_whole(to_version, "to_version", at_least=1)
        self._check_envelope(envelope)  # nobody else does where there is nothing to append
        owner = self._require(session_id).user_id
        event_id = self._event_id(session_id, envelope)
        then = self._state_at(session_id, to_version)
        if "event_id" in envelope and (recorded := self.store.version_of(session_id, event_id)) is not None:
            return self._rewound(session_id, recorded, event_id, then)
        checked = envelope.get("expected_version", ANY_VERSION)
        done: AppendResult | None = None
        for attempt in range(WRITE_ATTEMPTS):
            head, now = self._latest(session_id)
            if done is None and checked not in (ANY_VERSION, head.version):
                raise wrong_version(session_id, checked, head.version)
            parts = self._portions(to_rewind(now, then))
            version = head.version
            try:
                for number, part in enumerate(parts, 1):
                    is_last = number == len(parts)
                    part_id = event_id if is_last else event_id_for(f"{event_id}:{version}", owner)
                    about = Envelope(**{**envelope, "expected_version": version, "event_id": part_id})
                    if "event_id" not in envelope:
                        del about["event_id"]  # made for this very call: no store need look for it
                    event_type = "session.rewound" if is_last else "session.rewinding"
                    with to_be_finished(session_id, event_id, begun=done is not None):
                        done = self._append(session_id, event_type, part, about, event_id=part_id, as_recorded=True)
                    version = done.version
                return done
            except WrongExpectedVersion:
                if (done is None and checked != ANY_VERSION) or attempt == WRITE_ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    def replay(
        self, session_id: str, *, from_version: int = 1, to_version: int | None = None, messages: bool = False
    ) -> Iterator[tuple[RecordedEvent, Session]]:
        """Go through a session event by event, each with the state after it: that of ``get_session(version=...)``.

        History is read in pages while the iteration goes on, and each state costs what its event changed, also where
        many are kept. A session that is appended to meanwhile is replayed as far as it went at the call.

        Args:
            from_version: The first version, from 1.
            to_version: The last one; the latest where None.
            messages: Whether the states hold the messages.

        Returns:
            An iterator of events and sessions, in order. Where two events have one version, which only several writers
            to BigQuery can bring about, both come with the state after both.

        Raises:
            SessionNotFound: There is no such session.
            InvalidInput: The session has had no such version, or the last one comes before the first.
            CorruptEvent, UpcastMissing: While it goes on: a row cannot be read.
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
        """What differs between the states of two sessions, messages included; ``before`` is the first one's.

        Args:
            version: The first one as it was after this many events; now, where None.
            other_version: The same of the other one.

        Raises:
            SessionNotFound: There is no such session.
            InvalidInput: A session has had no such version.
        """
        return diff(self._state_at(session_id, version), self._state_at(other_session_id, other_version))

    def _latest(self, session_id: str) -> tuple[Head, State]:
        found = self.store.state(session_id, with_messages=True)
        if found is None:
            raise SessionNotFound(f"There is no session {session_id}.", session_id=session_id)
        return found

    def _portions(self, plan: Plan) -> list[list[Change]]:
        capabilities = self.store.capabilities
        return list(portions(plan, capabilities.max_changes, capabilities.max_event_bytes // 2))

    def _rewound(self, session_id: str, version: int, event_id: str, then: State) -> AppendResult:
        """What an earlier call with this event_id did, if that was the same."""
        events = self.store.events(session_id, after=version - 1, limit=1)
        is_rewind = any((it.event_id, it.event_type) == (event_id, "session.rewound") for it in events)
        if not is_rewind or self._portions(to_rewind(self._state_at(session_id, version), then)):
            raise IdempotencyConflict(
                f"Session {session_id} has an event {event_id} already, which is another change; nothing was written. "
                "Use a new event_id for a new event.",
                session_id=session_id,
                event_id=event_id,
            )
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
                session = Session(head, states.move_on(events), with_messages=messages)
                for event in events:
                    yield event, session
            after = None if page.next is None else int(page.next)


def _head_after(head: Head | None, events: list[RecordedEvent]) -> Head:
    """Where a session stands after the events of a version."""
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
