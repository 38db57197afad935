"""Earlier states of a session: replay and compare."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby

from ledger.errors import InvalidInput
from ledger.model.events import RecordedEvent
from ledger.model.fold import Difference, diff
from ledger.model.session import Head, Session
from ledger.model.values import check_whole
from ledger.sdk.replaying import Replayed
from ledger.sdk.rewinding import Rewinds

#: Maximum number of versions that a replay reads at once.
_REPLAY_PAGE = 200


class TimeTravel(Rewinds):
    """Mixin class: iterating over all states of a session, and comparing two sessions."""

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
