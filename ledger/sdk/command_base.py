"""CommandBase: how every method of the SDK reads a session and appends one event to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from ledger.errors import IdempotencyConflict, InvalidInput, SessionNotFound, WrongExpectedVersion
from ledger.model.events import ANY_VERSION, AppendResult, Change, Envelope, NewEvent, RecordedEvent
from ledger.model.fold import State
from ledger.model.ids import event_id_for, session_id_for
from ledger.model.lifetime import check_end, expiry, latest_end
from ledger.model.session import Session
from ledger.model.updates import changes_of, planned_calls
from ledger.model.values import check_text
from ledger.sdk.opening import UNSET, LedgerConnection

#: How often a change worked out from a session's state is worked out again because somebody else appended meanwhile.
_DERIVE_ATTEMPTS = 1000
#: What says what a session is about.
_TITLES = ("title", "question")
#: Sessions of which a ledger remembers something at most.
_REMEMBERED = 4096


class CommandBase(LedgerConnection):
    """What the SDK's parts have in common."""

    def _owner(self, user_id: str | None = None) -> str:
        """The owner of a session that is about to begin."""
        if user_id is None:
            raise InvalidInput("user_id says whose session it is; give one.")
        return check_text(user_id, "user_id")

    def _begin(
        self,
        user_id: str,
        question: str | None,
        fields: Mapping[str, Any] | None,
        session_id: str | None,
        ttl: timedelta | None,
        envelope: Envelope,
    ) -> str:
        """Begin a session; see ``SessionLedger.create_session``."""
        if fields is not None and not isinstance(fields, Mapping):
            raise InvalidInput(f"fields must be an object of field to value, not {type(fields).__name__}.")
        updates = {"question": question, "status": "active", **(fields or {})}
        if updates["question"] is None:
            del updates["question"]
        given = envelope.get("event_id")
        creates_stream = session_id is None and given is None
        if session_id is None:
            session_id = self._ids(self._clock()) if given is None else session_id_for(given, user_id)
        envelope["expected_version"] = 0  # whatever else is there is not begun

        def append() -> None:
            given = {field: value for field, value in updates.items() if (field, value) != ("expires_at", None)}
            changes = changes_of(given)
            changes += planned_calls(given.get("constraints"), {}, changes)
            if not ends_by_clock:
                self._check_end(session_id, changes, envelope)
            self._append(
                session_id, "session.created", changes, envelope, user_id=user_id, creates_stream=creates_stream
            )

        ends_by_clock = ttl is not UNSET or "expires_at" not in updates
        if ends_by_clock:
            updates["expires_at"] = (
                self._expiry(self._default_ttl) if ttl is UNSET else self._expiry(ttl, self._max_ttl)
            )
        try:
            append()
        except IdempotencyConflict:
            if not ends_by_clock:
                raise
            # Sent again, perhaps: then it ends when it was to end the first time. Not looked up beforehand: about a
            # session that is not here the warehouse would be asked, and an append waits for no network.
            updates["expires_at"] = self._require(session_id, 1).expires_at
            append()
        return session_id

    def _expiry(self, ttl: timedelta | None, longest: timedelta | None = None) -> str | None:
        return expiry(self._clock(), ttl, longest)

    def _check_end(self, session_id: str, changes: Sequence[Change], envelope: Envelope) -> None:
        """Raise InvalidInput where changes have a session live for longer than the ledger allows.

        What was sent before is not measured again: the clock of another host may be behind.
        """
        if self._max_ttl is None or (end := latest_end(changes)) is None:
            return
        try:
            check_end(end, self._clock(), self._max_ttl)
        except InvalidInput:
            sent = "event_id" in envelope and self._get(session_id) is not None
            if not sent or self.store.version_of(session_id, self._event_id(session_id, envelope)) is None:
                raise

    def _get(self, session_id: str, version: int | None = None) -> Session | None:
        """The state of a session without its messages; None where there is none."""
        found = self.store.state(session_id, version=version)
        return None if found is None else Session(*found, now=self._clock() if version is None else None)

    def _resent(self, session_id: str, event_type: str, envelope: Envelope) -> AppendResult | None:
        """What became of a call that was sent before, where its changes depend on when it was sent; else None.

        An event of another type under this id is left to the append, which refuses it.
        """
        if "event_id" not in envelope:
            return None
        event_id = self._event_id(session_id, envelope)
        event = self._recorded(session_id, event_id, envelope)
        if event is None or event.event_type != event_type:
            return None
        return AppendResult(session_id, event.version, event_id, replayed=True)

    def _recorded(self, session_id: str, event_id: str, envelope: Envelope) -> RecordedEvent | None:
        """The event that an earlier call under the caller's event_id recorded; None where this is the first."""
        version = self.store.version_of(session_id, event_id) if "event_id" in envelope else None
        if version is None:
            return None
        events = self.store.events(session_id, after=version - 1, limit=1)
        return next((event for event in events if event.event_id == event_id), None)

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

    @staticmethod
    def _check_envelope(envelope: Envelope) -> None:
        if envelope and not envelope.keys() <= Envelope.__annotations__.keys():  # Python lets any keyword through
            unknown = ", ".join(sorted(envelope.keys() - Envelope.__annotations__.keys()))
            raise TypeError(f"There is no argument {unknown}; a change takes {', '.join(Envelope.__annotations__)}.")

    def _append(
        self,
        session_id: str,
        event_type: str,
        changes: Sequence[Change],
        envelope: Envelope,
        *,
        user_id: str | None = None,
        event_id: str | None = None,
        creates_stream: bool = False,
        require_open: bool = True,
        as_recorded: bool = False,
    ) -> AppendResult:
        """Append one event; ``as_recorded`` where its values stand in the ledger already, whatever a profile says."""
        self._check_envelope(envelope)
        event_id = event_id or self._event_id(session_id, envelope, user_id)
        if self._profiles and not as_recorded:
            changes = self._fit(changes, partial(self._type_before, session_id, event_id, envelope))
        event = NewEvent(
            event_type,
            changes,
            event_id,
            envelope.get("actor"),
            envelope.get("occurred_at"),
            user_id,
            "event_id" in envelope,
            creates_stream,
            require_open,
        )
        appended = self.store.append(session_id, event, expected_version=envelope.get("expected_version", ANY_VERSION))
        if session_id in self._titled and any(it.removed and it.field in _TITLES for it in event.changes):
            self._titled.discard(session_id)
        return appended

    def _fit(self, changes: Sequence[Change], type_before: Callable[[], str | None]) -> Sequence[Change]:
        """The changes of an event, its attributes as the profile of the session's type has them.

        Args:
            type_before: Gives the type that the session has without this event.
        """
        if not any(isinstance(change, Change) and change.field == "attribute" for change in changes):
            return changes
        named = [change.value for change in changes if (change.field, change.removed) == ("session_type", False)]
        session_type = named[0] if named else type_before()
        profile = self._profiles.get(session_type) if isinstance(session_type, str) else None
        return changes if profile is None else [profile.fit(change) for change in changes]

    def _type_before(self, session_id: str, event_id: str, envelope: Envelope) -> str | None:
        """The type of a session; where the event is recorded already, that of the session before it."""
        sent = self._recorded(session_id, event_id, envelope)
        version = None if sent is None else sent.version - 1
        session = None if version == 0 else self._get(session_id, version)
        return None if session is None else session.session_type

    def _criteria(self, session_type: str | None, attributes: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """Attributes to look for, as the profile of the type has them."""
        profile = None if session_type is None else self._profiles.get(check_text(session_type, "session_type"))
        return (
            attributes or {} if profile is None or not isinstance(attributes, Mapping) else profile.criteria(attributes)
        )

    def _derive(
        self,
        session_id: str,
        event_type: str,
        changes: Callable[[State], list[Change]],
        envelope: Envelope,
        *,
        event_id: str | None = None,
        require_open: bool = True,
        is_new: bool = False,
    ) -> AppendResult:
        """Append what ``changes`` makes of the session's state, on exactly that state; ``is_new`` where the caller has
        looked for the event already.
        """
        event_id = event_id or self._event_id(session_id, envelope)
        looks = "event_id" in envelope and not is_new
        recorded = self.store.version_of(session_id, event_id) if looks else None
        if recorded is not None:  # sent before: work it out from the state that it was worked out from then
            before = self._state_at(session_id, recorded - 1)
            return self._append(
                session_id, event_type, changes(before), envelope, event_id=event_id, require_open=require_open
            )
        checked = envelope.get("expected_version", ANY_VERSION) != ANY_VERSION
        for attempt in range(_DERIVE_ATTEMPTS):
            session = self._require(session_id)
            on_this = envelope if checked else Envelope(**{**envelope, "expected_version": session.version})
            try:
                return self._append(
                    session_id,
                    event_type,
                    changes(session._state),
                    on_this,
                    event_id=event_id,
                    require_open=require_open,
                )
            except WrongExpectedVersion:
                if checked or attempt == _DERIVE_ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")


def make_room(memory: set[str] | dict[Any, Any]) -> None:
    """Where a ledger remembers something of too many sessions, begin anew."""
    if len(memory) >= _REMEMBERED:
        memory.clear()
