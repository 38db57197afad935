"""CommandBase: the reads and the append that all methods of the SDK share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

from ledger.errors import CapabilityMissing, IdempotencyConflict, InvalidInput, SessionNotFound, WrongExpectedVersion
from ledger.model.events import (
    ANY_VERSION,
    AppendResult,
    Change,
    Envelope,
    NewEvent,
    RecordedEvent,
    expected_version_of,
    key_of,
    text_of,
)
from ledger.model.fold import State
from ledger.model.ids import event_id_for, session_id_for
from ledger.model.lifetime import check_ends, expiry
from ledger.model.session import Session
from ledger.model.updates import changes_with_calls
from ledger.model.values import check_text, decode, full_name
from ledger.sdk.arguments import unknown_argument
from ledger.sdk.opening import UNSET, LedgerConnection
from ledger.sdk.reserved import check_fields
from ledger.stores.base import EventStore
from ledger.stores.user_view import UserView

T = TypeVar("T")
#: Maximum number of attempts to append changes derived from a state, when other writers append in between.
_DERIVE_ATTEMPTS = 1000
#: Fields that make a title unnecessary: if a session has either, a message does not set a title.
_TITLES = ("title", "question")
#: Maximum number of entries in one of a ledger's caches of sessions.
_CACHE_ENTRIES = 4096


class CommandBase(LedgerConnection):
    """Base class of the SDK's mixins.

    Attributes:
        user_id: The user of a view; None for the ledger itself, which sees all sessions.
    """

    user_id: str | None = None

    def __repr__(self) -> str:
        return super().__repr__() if self.user_id is None else f"<view of {self.user_id!r} of {super().__repr__()}>"

    def _for_all_users(self, call: str, find: Callable[[EventStore], T | None], missing: str) -> T:
        """Return the store as one with a capability that concerns the sessions of all users.

        Args:
            call: Name of the public method, for error messages.
            find: Function that returns the store as one with the capability, or None if it lacks it.
            missing: The message if the store lacks it.

        Raises:
            PermissionDenied: The ledger was returned by ``for_user``.
            CapabilityMissing: The store lacks the capability.
        """
        if isinstance(self.store, UserView):
            raise self.store.everybodys(call)
        found = find(self.store)
        if found is None:
            raise CapabilityMissing(missing)
        return found

    def _owner(self, user_id: str | None = None) -> str:
        """Return the owner of a session to be created.

        Raises:
            InvalidInput: ``user_id`` is missing or not a valid id.
        """
        if user_id is None:
            raise InvalidInput("user_id is missing: give the owner of the session.")
        return check_text(user_id, "user_id")

    def _create(
        self,
        user_id: str,
        question: str | None,
        fields: Mapping[str, Any] | None,
        session_id: str | None,
        ttl: timedelta | None,
        envelope: Envelope,
    ) -> str:
        """Create a session; see ``SessionLedger.create_session``."""
        if fields is not None and not isinstance(fields, Mapping):
            raise InvalidInput(f"fields must be an object of field to value, not {full_name(fields)}.")
        check_fields(fields or ())
        updates = {"question": question, "status": "active", **(fields or {})}
        if updates["question"] is None:
            del updates["question"]
        idempotency_key = key_of(envelope)
        creates_stream = session_id is None and idempotency_key is None
        if session_id is None:
            session_id = (
                self._ids(self._clock()) if idempotency_key is None else session_id_for(idempotency_key, user_id)
            )
        envelope["expected_version"] = 0

        def append() -> None:
            values = {field: value for field, value in updates.items() if (field, value) != ("expires_at", None)}
            changes = changes_with_calls(values, {})
            if not expiry_from_clock:
                self._check_expiry(session_id, changes, envelope)
            self._append(
                session_id, "session.created", changes, envelope, user_id=user_id, creates_stream=creates_stream
            )

        if ttl is UNSET and "expires_at" in updates and updates["expires_at"] is None:
            ttl = None  # as in update_session, None means that the session never expires
        expiry_from_clock = ttl is not UNSET or "expires_at" not in updates
        if expiry_from_clock:
            updates["expires_at"] = self._expiry(ttl)
        try:
            append()
        except IdempotencyConflict:
            if not expiry_from_clock:
                raise
            # Possibly a retry, whose expires_at is that of the first delivery. It is not looked up before the append,
            # because a lookup of a session that is not in the store asks the warehouse, and appends use no network.
            updates["expires_at"] = self._require(session_id, 1).expires_at
            append()
        return session_id

    def _expiry(self, ttl: timedelta | None) -> str | None:
        """Return the ``expires_at`` for a TTL that begins now; None for no expiry. UNSET stands for the default TTL.

        Raises:
            InvalidInput: The TTL is not positive, or exceeds the maximum TTL.
        """
        return expiry(self._clock(), self._default_ttl) if ttl is UNSET else expiry(self._clock(), ttl, self._max_ttl)

    def _check_expiry(self, session_id: str, changes: Sequence[Change], envelope: Envelope) -> None:
        """Raise InvalidInput if changes set an ``expires_at`` beyond the maximum TTL, or remove it despite a maximum.

        An event that is already recorded is not checked again, because the clock of this host may be behind the clock
        of the host that recorded it.
        """
        if self._max_ttl is None:
            return
        try:
            check_ends(changes, self._clock(), self._max_ttl)
        except InvalidInput:
            exists = envelope.get("event_id") is not None and self._get(session_id) is not None
            if not exists or self.store.version_of(session_id, self._event_id(session_id, envelope)) is None:
                raise

    def _get(self, session_id: str, version: int | None = None) -> Session | None:
        """Return a session without its messages, or None if it does not exist."""
        head_and_state = self.store.state(session_id, version=version)
        if head_and_state is None:
            return None
        return Session(*head_and_state, now=self._clock() if version is None else None)

    def _earlier_result(self, session_id: str, event_type: str, envelope: Envelope) -> AppendResult | None:
        """Return the result of an earlier delivery of this event_id, or None if this is the first.

        Calls whose changes depend on the clock need this, because a retry computes other changes. If the event_id
        belongs to an event of another type, the result is None. The append that follows then raises
        IdempotencyConflict.
        """
        if envelope.get("event_id") is None:
            return None
        event_id = self._event_id(session_id, envelope)
        event = self._recorded(session_id, event_id, envelope)
        if event is None or event.event_type != event_type:
            return None
        return AppendResult(session_id, event.version, event_id, replayed=True)

    def _recorded(self, session_id: str, event_id: str, envelope: Envelope) -> RecordedEvent | None:
        """Return the event recorded by an earlier delivery of the caller's event_id, or None if this is the first."""
        version = self.store.version_of(session_id, event_id) if envelope.get("event_id") is not None else None
        if version is None:
            return None
        events = self.store.events(session_id, after=version - 1, limit=1)
        return next((event for event in events if event.event_id == event_id), None)

    def _require(self, session_id: str, version: int | None = None) -> Session:
        """Return a session without its messages.

        Raises:
            SessionNotFound: The session does not exist.
        """
        session = self._get(session_id, version)
        if session is None:
            raise not_found(session_id)
        return session

    def _state_at(self, session_id: str, version: int | None) -> State:
        """Return a session's state at a version, messages included.

        Version None stands for the latest state, and 0 for the empty state before the first event.

        Raises:
            SessionNotFound: The session does not exist.
        """
        if version == 0:
            self._require(session_id)
            return {}
        head_and_state = self.store.state(session_id, version=version, with_messages=True)
        return head_and_state[1] if head_and_state else self._require(session_id)._state

    def _event_id(self, session_id: str, envelope: Envelope, owner: str | None = None) -> str:
        """Return the event_id of a call: the caller's, or a new one.

        If the caller's event_id is not a UUID, it is converted to a UUID that depends on it and on the user. The user
        is the view's user or, if this is not a view, the session's owner.

        Args:
            session_id: The session that the event belongs to.
            envelope: The envelope of the call.
            owner: The session's owner if the session does not exist yet; None to look the owner up.
        """
        key = key_of(envelope)
        if key is None:
            return self._ids(self._clock())
        return event_id_for(key, owner or self.user_id or self._require(session_id).user_id)

    def _check_envelope(self, envelope: Envelope) -> None:
        """Raise TypeError if a call has keyword arguments that ``Envelope`` lacks; Python does not check them."""
        if envelope and not envelope.keys() <= Envelope.__annotations__.keys():
            raise unknown_argument(self, envelope.keys() - Envelope.__annotations__.keys())

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
        """Append one event.

        Args:
            session_id, event_type, changes: The event; ``changes`` are checked by the store.
            envelope: The envelope of the call.
            user_id: The owner, if the event creates the session.
            event_id: As returned by ``_event_id``, if the caller has called it already.
            creates_stream: True if the session cannot exist yet, so that the store need not look for it.
            require_open: False if the event may be appended to a closed session.
            as_recorded: True if the values are copied from recorded events, so that profiles need not validate them.
        """
        self._check_envelope(envelope)
        key = key_of(envelope)
        event_id = event_id or self._event_id(session_id, envelope, user_id)
        if self._profiles and not as_recorded:
            changes = self._apply_profile(changes, partial(self._type_before, session_id, event_id, envelope))
        event = NewEvent(
            event_type,
            changes,
            event_id,
            envelope.get("actor"),
            envelope.get("occurred_at"),
            user_id,
            key is not None,
            creates_stream,
            require_open,
            self._strict_values,
            key if key != event_id else None,
        )
        appended = self.store.append(session_id, event, expected_version=expected_version_of(envelope))
        if session_id in self._titled and any(change.removed and change.field in _TITLES for change in event.changes):
            self._titled.discard(session_id)
        return appended

    def _apply_profile(self, changes: Sequence[Change], type_before: Callable[[], str | None]) -> Sequence[Change]:
        """Validate the attributes that an event sets, and return its changes with the values to record.

        The profile of the session's type validates them. Without one, the changes are returned as they are.

        Args:
            changes: The changes of the event.
            type_before: Function that returns the type that the session had before the event.

        Raises:
            InvalidInput: The profile refuses an attribute.
        """
        if not any(isinstance(change, Change) and change.field == "attribute" for change in changes):
            return changes
        types = [change.value for change in changes if (change.field, change.removed) == ("session_type", False)]
        session_type = types[0] if types else type_before()
        profile = self._profiles.get(session_type) if isinstance(session_type, str) else None
        return changes if profile is None else [profile.fit(change) for change in changes]

    def _type_before(self, session_id: str, event_id: str, envelope: Envelope) -> str | None:
        """Return the type that a session had before an event, or None if it had none.

        If the event is not recorded yet, this is the session's latest type.
        """
        recorded = self._recorded(session_id, event_id, envelope)
        version = None if recorded is None else recorded.version - 1
        session = None if version == 0 else self._get(session_id, version)
        return None if session is None else session.session_type

    def _criteria(self, session_type: str | None, attributes: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """Return attribute criteria with the values as they are recorded: as the profile of the type, if there is one,
        converts them, and in their JSON form.
        """
        profile = None if session_type is None else self._profiles.get(check_text(session_type, "session_type"))
        if not isinstance(attributes, Mapping):
            return attributes or {}  # the store refuses it
        values = attributes if profile is None else profile.criteria(attributes)
        return {
            name: decode(text_of(Change("attribute", name, value), strict=self._strict_values) or "null")
            for name, value in values.items()
        }

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
        """Append changes derived from the session's latest state.

        If another writer appends first, the changes are derived again from the new state. But if the call has an
        ``expected_version``, WrongExpectedVersion is raised.

        Args:
            session_id, event_type: The session, and the type of the event.
            changes: Function that takes a state and returns the changes. It may be called several times.
            envelope: The envelope of the call.
            event_id, require_open: As for ``_append``.
            is_new: True if the caller knows that the event is not recorded yet.
        """
        event_id = event_id or self._event_id(session_id, envelope)
        may_be_recorded = envelope.get("event_id") is not None and not is_new
        recorded = self.store.version_of(session_id, event_id) if may_be_recorded else None
        if recorded is not None:  # a retry: derive from the same state as the first delivery, to get the same changes
            before = self._state_at(session_id, recorded - 1)
            return self._append(
                session_id, event_type, changes(before), envelope, event_id=event_id, require_open=require_open
            )
        has_expected_version = expected_version_of(envelope) != ANY_VERSION
        for attempt in range(_DERIVE_ATTEMPTS):
            session = self._require(session_id)
            versioned = (
                envelope if has_expected_version else Envelope(**{**envelope, "expected_version": session.version})
            )
            try:
                return self._append(
                    session_id,
                    event_type,
                    changes(session._state),
                    versioned,
                    event_id=event_id,
                    require_open=require_open,
                )
            except WrongExpectedVersion:
                if has_expected_version or attempt == _DERIVE_ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")


def not_found(session_id: str) -> SessionNotFound:
    """Return the error for a session that does not exist."""
    return SessionNotFound(f"There is no session {session_id}; create it with create_session().", session_id=session_id)


def make_room(cache: set[str] | dict[Any, Any]) -> None:
    """Clear a cache if it is full."""
    if len(cache) >= _CACHE_ENTRIES:
        cache.clear()
