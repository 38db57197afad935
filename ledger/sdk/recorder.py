"""How every method of the SDK reads and appends: one event, worked out from the state where it must be."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ledger.errors import SessionNotFound, WrongExpectedVersion
from ledger.model.events import ANY_VERSION, Appended, Change, Envelope, NewEvent
from ledger.model.fold import State
from ledger.model.ids import event_id_for
from ledger.model.session import Session
from ledger.opened import OpenLedger

#: How often a change worked out from a session's state is worked out again because somebody else appended meanwhile.
_ATTEMPTS = 50


class Recorder(OpenLedger):
    """What the SDK's parts have in common."""

    def _get(self, session_id: str, version: int | None = None) -> Session | None:
        """The state of a session without its messages; None where there is none."""
        found = self.store.state(session_id, version=version)
        return None if found is None else Session(*found)

    def _require(self, session_id: str, version: int | None = None) -> Session:
        session = self._get(session_id, version)
        if session is None:
            raise SessionNotFound(
                f"There is no session {session_id}; begin it with create_session().", session_id=session_id
            )
        return session

    def _state_at(self, session_id: str, version: int | None) -> State:
        if version == 0:
            self._require(session_id)
            return {}
        found = self.store.state(session_id, version=version, with_messages=True)
        return found[1] if found else self._require(session_id)._state

    def _event_id(self, session_id: str, envelope: Envelope, user_id: str | None = None) -> str:
        """The caller's event_id, or a new one. A key that is no UUID maps to one, for the session's owner alone."""
        given = envelope.get("event_id")
        if given is None:
            return self._ids(self._clock())
        return event_id_for(given, user_id or self._require(session_id).user_id)

    def _append(
        self,
        session_id: str,
        event_type: str,
        changes: Sequence[Change],
        envelope: Envelope,
        *,
        user_id: str | None = None,
        event_id: str | None = None,
        begins: bool = False,
    ) -> Appended:
        if envelope and not envelope.keys() <= Envelope.__annotations__.keys():  # Python lets any keyword through
            unknown = ", ".join(sorted(envelope.keys() - Envelope.__annotations__.keys()))
            raise TypeError(f"There is no argument {unknown}; a change takes {', '.join(Envelope.__annotations__)}.")
        event = NewEvent(
            event_type,
            changes,
            event_id or self._event_id(session_id, envelope, user_id),
            envelope.get("actor"),
            envelope.get("occurred_at"),
            user_id,
            "event_id" in envelope,
            begins,
        )
        return self.store.append(session_id, event, expected_version=envelope.get("expected_version", ANY_VERSION))

    def _derive(
        self, session_id: str, event_type: str, changes: Callable[[State], list[Change]], envelope: Envelope
    ) -> Appended:
        """Append what ``changes`` makes of the session's state, on exactly that state."""
        event_id = self._event_id(session_id, envelope)
        recorded = self.store.version_of(session_id, event_id) if "event_id" in envelope else None
        if recorded is not None:  # sent before: work it out from the state that it was worked out from then
            before = self._state_at(session_id, recorded - 1)
            return self._append(session_id, event_type, changes(before), envelope, event_id=event_id)
        checked = envelope.get("expected_version", ANY_VERSION) != ANY_VERSION
        for attempt in range(_ATTEMPTS):
            session = self._require(session_id)
            on_this = envelope if checked else Envelope(**{**envelope, "expected_version": session.version})
            try:
                return self._append(session_id, event_type, changes(session._state), on_this, event_id=event_id)
            except WrongExpectedVersion:
                if checked or attempt == _ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")
