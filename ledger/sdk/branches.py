"""Creating sessions from other sessions: forks and templates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Unpack

from ledger.errors import (
    IdempotencyConflict,
    InvalidInput,
    PermissionDenied,
    SessionEnded,
    SessionNotFound,
    WrongExpectedVersion,
)
from ledger.model.copying import Plan, lacking, sized, status_of_copy, to_copy
from ledger.model.events import ANY_VERSION, Change, Envelope, NewEvent, expected_version_of, prepare
from ledger.model.fields import FIELDS
from ledger.model.fold import State
from ledger.model.ids import session_id_for
from ledger.model.tool_calls import listed_calls, listed_in, planned_calls
from ledger.model.updates import changes_of
from ledger.model.values import canonical, check_session_id, check_whole, full_name
from ledger.sdk.branch_events import WRITE_ATTEMPTS, Branch, branch_events, resumable
from ledger.sdk.command_base import CommandBase
from ledger.sdk.opening import UNSET
from ledger.sdk.reserved import check_fields
from ledger.stores.checks import existing, wrong_version
from ledger.stores.user_view import UserView

#: Fields copied from a template.
_TEMPLATE_FIELDS = frozenset(field.name for field in FIELDS.values() if field.in_template)
#: Function that takes the source's state and returns the new session's content and status.
Content = Callable[[State], tuple[Plan, str | None]]


class Branches(CommandBase):
    """Mixin class: forks and templates.

    The new session names its source in ``lineage``. The source lists the new session in ``children``.
    """

    def fork_session(
        self,
        session_id: str,
        *,
        at_version: int | None = None,
        user_id: str | None = None,
        new_session_id: str | None = None,
        ttl: timedelta | None = UNSET,
        **envelope: Unpack[Envelope],
    ) -> str:
        """Create a session with a copy of another session's latest or earlier state.

        Messages keep their order and ids. The source's grants, children, lineage, ``expires_at`` and ``x_session_key``
        are not copied, and neither are erased values. A fork of a closed session has the status ``active``. The source
        gets an event ``session.forked``, which records the fork as its child. On a view whose user may only read the
        source, nothing is written to the source: only the fork names the other session.

        A large state is copied in several events, and the fork has the status ``copying`` until the last event. If the
        copy is interrupted, repeat the call with the ``event_id`` of the event ``session.forked`` to complete it.

        Args:
            session_id: The source.
            at_version: The source's version to copy, from 1; the latest if None.
            user_id: The fork's owner. If None, it is the source's owner, or on a view the view's user.
            new_session_id: Your own id for the fork, 1 to 255 characters. If None, it is derived from ``event_id``;
                without either it is a new UUIDv7.
            ttl: The fork's TTL, as for ``create_session``.
            envelope: See ``Envelope``. ``expected_version`` is compared with the source's version; ``actor`` and
                ``occurred_at`` are recorded with all events.

        Returns:
            The fork's id.

        Raises:
            SessionNotFound: The source does not exist.
            InvalidInput: The source has no such version, or an id is invalid.
            SessionEnded: The source is deleted.
            WrongExpectedVersion: The source is at another version, or a session with the id ``new_session_id`` exists.
            IdempotencyConflict: The ``event_id`` was recorded with another fork or change.
            OutcomeUnknown: The fork may be complete or incomplete; call again with the error's ``event_id``.
        """
        default_owner = self.user_id or self._require(session_id).user_id
        owner = self._owner(default_owner if user_id is None else user_id)

        def content(state: State) -> tuple[Plan, str | None]:
            return to_copy(state), status_of_copy(state)

        return self._branch(
            session_id,
            ("fork", "session.forked"),
            content,
            owner=owner,
            at_version=at_version,
            new_session_id=new_session_id,
            expiry_changes=self._expiry_changes(ttl),
            envelope=envelope,
        )

    def create_from_template(
        self,
        template_session_id: str,
        user_id: str | None = None,
        question: str | None = None,
        *,
        at_version: int | None = None,
        fields: Mapping[str, Any] | None = None,
        new_session_id: str | None = None,
        ttl: timedelta | None = UNSET,
        **envelope: Unpack[Envelope],
    ) -> str:
        """Create a session with the constraints, response plan, strategy and context of another session.

        Tool calls listed in the constraints become pending. Nothing else is copied: no messages, calls or results. The
        template gets an event ``template.used``, which records the new session as its child, unless this is a view
        whose user may only read the template.

        Args:
            template_session_id: The template, which may be any session.
            user_id: The new session's owner. Required except on a view (``for_user``).
            question: The user's question.
            at_version: The template's version to copy, from 1; the latest if None.
            fields: Further fields, as for ``create_session``. They override those of the template; in ``context``, only
                the names given are overridden.
            new_session_id: Your own id for the new session, as for ``fork_session``.
            ttl: The new session's TTL, as for ``create_session``.
            envelope: As for ``fork_session``.

        Returns:
            The new session's id.

        Raises:
            SessionNotFound, InvalidInput, SessionEnded, WrongExpectedVersion, IdempotencyConflict, OutcomeUnknown:
                As for ``fork_session``.
        """
        owner = self._owner(user_id)
        if fields is not None and not isinstance(fields, Mapping):
            raise InvalidInput(f"fields must be an object of field to value, not {full_name(fields)}.")
        check_fields(fields or ())
        updates = {name: value for name, value in (fields or {}).items() if name != "expires_at"}
        if question is not None:
            updates["question"] = question
        own = list(self._apply_profile(changes_of(updates), lambda: None))
        if own:  # refuse invalid fields before writing to the template
            check = NewEvent("session.created", own, self._ids(self._clock()))
            prepare(check, max_bytes=self.store.capabilities.max_event_bytes)
        has_expiry = "expires_at" in (fields or {})
        given_expiry = [Change("expires_at", "", (fields or {})["expires_at"])] if has_expiry else []
        self._check_expiry(template_session_id, given_expiry, envelope)

        def content(state: State) -> tuple[Plan, str | None]:
            registers = {
                register: Change(*register, held.value)
                for register, held in state.items()
                if register[0] in _TEMPLATE_FIELDS and held.text is not None
            }
            registers |= {(change.field, change.key): change for change in own}
            changes = [change for change in registers.values() if not change.removed and change.field != "status"]
            constraints = registers.get(("constraints", ""))
            changes += planned_calls(listed_calls(listed_in(constraints and constraints.value), {}), {}, changes)
            status = registers.get(("status", ""), Change("status", "", "active"))
            return Plan([sized(change) for change in changes], []), status.value

        return self._branch(
            template_session_id,
            ("template", "template.used"),
            content,
            owner=owner,
            at_version=at_version,
            new_session_id=new_session_id,
            expiry_changes=(
                [sized(change).change for change in given_expiry]
                if given_expiry and ttl is UNSET
                else self._expiry_changes(ttl)
            ),
            envelope=envelope,
        )

    def _expiry_changes(self, ttl: timedelta | None) -> list[Change]:
        """Return the changes that give a new session its ``expires_at``."""
        expires_at = self._expiry(ttl)
        return [] if expires_at is None else [Change("expires_at", "", expires_at)]

    def _branch(
        self,
        source: str,
        branching: tuple[str, str],
        content: Content,
        *,
        owner: str,
        at_version: int | None,
        new_session_id: str | None,
        expiry_changes: list[Change],
        envelope: Envelope,
    ) -> str:
        """Record the child in the source, then write the new session. An interrupted call can be repeated.

        Args:
            source: The session to copy from.
            branching: The kind of the new session (``fork`` or ``template``), and the type of the source's event.
            content: Function that takes the source's state and returns the new session's content and status.
            owner: The new session's owner.
            at_version, new_session_id, envelope: As for ``fork_session``.
            expiry_changes: The changes that give the new session its ``expires_at``.
        """
        if at_version is not None:
            check_whole(at_version, "at_version", at_least=1)
        if new_session_id is not None:
            check_session_id(new_session_id)
        event_id = self._event_id(source, envelope)
        may_write = self._may_write(source)
        call_key = f"{branching[0]}:{source}:{event_id}"
        # Only its id leads a repeated call to a session that the source does not record: then it depends on event_id.
        has_random_id = may_write and envelope.get("event_id") is None
        new_id = self._ids(self._clock()) if has_random_id else session_id_for(call_key, owner)
        recorded = None
        if envelope.get("event_id") is not None:
            recorded = (
                self._recorded_child(source, branching, event_id)
                if may_write
                else self._copied(source, branching[0], new_session_id or new_id)
            )
        if recorded is None and self._require(source).recorded_status == "deleted":
            raise SessionEnded(
                f"Session {source} is deleted; nothing was written. Reopen it with restore_session() first.",
                session_id=source,
                status="deleted",
            )
        if recorded is None and new_session_id is not None and (found := self._get(new_session_id)) is not None:
            raise existing(new_session_id, found.version)
        source_version = at_version or (recorded and recorded[1])
        head_and_state = self.store.state(source, version=source_version, with_messages=branching[0] == "fork")
        if head_and_state is None:  # purged since the check above
            raise SessionNotFound(f"Session {source} has been deleted; nothing was written.", session_id=source)
        head, state = head_and_state
        if source_version is None and expected_version_of(envelope) not in (ANY_VERSION, head.version):
            raise wrong_version(source, expected_version_of(envelope), head.version)
        child = new_session_id or (recorded[0] if recorded is not None else new_id)
        branch = Branch(source, head.version, branching[0], child, owner, event_id)
        plan, status = content(state)
        try:
            with resumable(source, event_id, started=False):
                if may_write:
                    self._append(source, branching[1], [branch.child], envelope, event_id=event_id, require_open=False)
        except IdempotencyConflict:
            if recorded is not None or envelope.get("event_id") is None:
                raise
            if self._recorded_child(source, branching, event_id) is None:
                raise
            # A concurrent call with the same event_id has recorded its child: continue with that one.
            return self._branch(
                *(source, branching, content),
                owner=owner,
                at_version=at_version,
                new_session_id=new_session_id,
                expiry_changes=expiry_changes,
                envelope=envelope,
            )
        try:
            with resumable(source, event_id, started=True):
                self._write(branch, plan, status, expiry_changes, envelope, is_new=recorded is None)
        except (SessionNotFound, WrongExpectedVersion):
            if recorded is None and may_write:  # the id belongs to another session
                withdrawn = Change("child", child, removed=True)
                self._append(source, "child.withdrawn", [withdrawn], Envelope(), require_open=False)
            raise
        return child

    def _may_write(self, session_id: str) -> bool:
        """Return False if this is a view, and its user may only read the session or does not see it."""
        if not isinstance(self.store, UserView):
            return True
        try:
            return self.store.check_writable(session_id)
        except PermissionDenied:
            return False

    def _copied(self, source: str, kind: str, session_id: str) -> tuple[str, int] | None:
        """Return a session's id, and the version of the source that it copies; None if it is no copy of the source."""
        copy = self._get(session_id)
        lineage = (copy and copy.lineage) or {}
        return (
            (session_id, lineage["version"])
            if (lineage.get("session_id"), lineage.get("kind")) == (source, kind)
            else None
        )

    def _recorded_child(self, source: str, branching: tuple[str, str], event_id: str) -> tuple[str, int] | None:
        """Return the child's id, and the version of the source that it copies, from the source's event ``event_id``.

        Return None if the source has no such event, or if the event records no child of this kind.
        """
        recorded = self.store.version_of(source, event_id)
        events = [] if recorded is None else self.store.events(source, after=recorded - 1, limit=1)
        for event in events:
            child = event.changes[0]
            is_branching = (event.event_id, event.event_type, child.field) == (event_id, branching[1], "child")
            if is_branching and isinstance(child.value, Mapping):
                return child.key, child.value["version"]
        return None

    def _write(
        self,
        branch: Branch,
        plan: Plan,
        status: str | None,
        expiry_changes: list[Change],
        envelope: Envelope,
        *,
        is_new: bool,
    ) -> None:
        """Append the events that the new session lacks.

        Args:
            branch: The new session.
            plan: The changes that make up its whole content.
            status: The status that the new session gets with the last event.
            expiry_changes: The changes that give the new session its ``expires_at``.
            envelope: The envelope of the call.
            is_new: True if no earlier call has recorded the new session, so that it is not read first. False for a
                retry, which reads the session and writes only what the session lacks.
        """
        session_id = branch.session_id
        for attempt in range(WRITE_ATTEMPTS):
            head_and_state = None if is_new else self.store.state(session_id, with_messages=True)
            version, written = (0, {}) if head_and_state is None else (head_and_state[0].version, head_and_state[1])
            if head_and_state is not None:
                if self.store.version_of(session_id, branch.whole) is not None:
                    if branch.kind == "template":
                        self._check_same(branch, plan)
                    return
                if self.store.version_of(session_id, branch.part(0)) is None:
                    raise existing(session_id, version)
            try:
                events = branch_events(
                    branch, lacking(plan, written), status, expiry_changes, version, self.store.capabilities
                )
                for event_type, changes, event_id in events:
                    part_envelope = Envelope(**{**envelope, "expected_version": version, "event_id": event_id})
                    if is_new and envelope.get("event_id") is None:
                        del part_envelope["event_id"]  # a new id: the store need not look for a duplicate
                    version = self._append(
                        session_id,
                        event_type,
                        changes,
                        part_envelope,
                        user_id=branch.user_id if version == 0 else None,
                        event_id=event_id,
                        require_open=False,
                        as_recorded=True,
                    ).version
                return
            except (WrongExpectedVersion, IdempotencyConflict):  # another writer completes it, or appended to it
                is_new = False
                if attempt == WRITE_ATTEMPTS - 1:
                    raise

    def _check_same(self, branch: Branch, plan: Plan) -> None:
        """Raise IdempotencyConflict if the content of the new session, which is complete, differs from ``plan``."""
        version = self.store.version_of(branch.session_id, branch.whole)
        state = self._state_at(branch.session_id, version)
        for change, _ in plan.free:
            held = state.get((change.field, change.key))
            if held is None or (held.text is not None and held.text != canonical(change.value)):
                raise IdempotencyConflict(
                    f"Session {branch.session_id} was created under this event_id with another {change.field}; nothing "
                    "was written. Use a new event_id for a new session.",
                    session_id=branch.session_id,
                    event_id=branch.event_id,
                )
