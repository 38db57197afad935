"""Sessions that begin as another one is, or was: forks and templates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Unpack

from ledger.errors import (
    IdempotencyConflict,
    InvalidInput,
    OutcomeUnknown,
    SessionEnded,
    SessionNotFound,
    StoreUnavailable,
    WrongExpectedVersion,
)
from ledger.model.copying import COPYING, Plan, lacking, portions, sized, status_of_copy, to_copy
from ledger.model.events import ANY_VERSION, Change, Envelope, NewEvent, prepare
from ledger.model.fields import FIELDS
from ledger.model.fold import State
from ledger.model.ids import check_session_id, event_id_for, session_id_for
from ledger.model.updates import changes_of, planned_calls
from ledger.model.values import canonical, check_whole
from ledger.sdk.command_base import CommandBase
from ledger.sdk.opening import UNSET
from ledger.stores.base import Capabilities
from ledger.stores.checks import wrong_version

#: How often what is being written is looked at again because somebody else wrote there meanwhile.
WRITE_ATTEMPTS = 50
#: Changes that a first event holds beside what is copied: lineage, status and end.
_BESIDE = 3
#: What a session takes over from its template.
_OF_TEMPLATE = frozenset(field.name for field in FIELDS.values() if field.in_template)
#: A session's content as changes, and its status.
Content = Callable[[State], tuple[Plan, str | None]]


@dataclass(frozen=True, slots=True)
class _Branch:
    """A session that is made from another, and the ids of the events that make it."""

    source: str
    version: int
    kind: str
    session_id: str
    user_id: str
    event_id: str

    @property
    def lineage(self) -> Change:
        return Change("lineage", "", {"session_id": self.source, "version": self.version, "kind": self.kind})

    @property
    def child(self) -> Change:
        return Change("child", self.session_id, {"version": self.version, "kind": self.kind})

    @property
    def whole(self) -> str:
        """The id of the event after which all is there."""
        return event_id_for(f"{self.event_id}:whole", self.user_id)

    def part(self, version: int) -> str:
        """The id of an event before that, by the version that it finds."""
        return event_id_for(f"{self.event_id}:{version}", self.user_id)


class Branches(CommandBase):
    """Sessions from sessions. Both sides know: ``Session.lineage`` of the new one, ``Session.children`` of the old."""

    user_id: str | None = None  # whose view this is; see ``Access``

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
        """Begin a session with the state that another one has, or had: its messages in their order, under their ids.

        The other session gets one event, which notes the fork as its ``child``, and stays as it is otherwise. Not
        copied are grants, children, lineage and end of the other session, and values that were erased. A status that
        closes a session becomes ``active``.

        A large state takes several events. Until the last one the fork has the status ``copying``; where that was
        broken off, the same call with its ``event_id`` (also that of the source's event ``session.forked``) goes on.

        Args:
            at_version: As it was after this many events; now, where None.
            user_id: The fork's owner. Where None that of the other session; on a user's view, the user.
            new_session_id: Your own id for the fork, as for ``create_session``.
            ttl: How long the fork lives, as for ``create_session``.
            envelope: ``expected_version`` is of the other session; ``actor`` and ``occurred_at`` go on all events.

        Returns:
            The fork's id.

        Raises:
            SessionNotFound: There is no such session.
            InvalidInput: The session has had no such version, or an id cannot be one.
            SessionEnded: The session is deleted.
            WrongExpectedVersion: The session moved on, or there is a session ``new_session_id``.
            IdempotencyConflict: This event_id stands for another fork or change.
            OutcomeUnknown: It may be done, or half done: fork again with the error's ``event_id``.
        """
        heir = self.user_id or self._require(session_id).user_id
        owner = self._owner(heir if user_id is None else user_id)

        def content(state: State) -> tuple[Plan, str | None]:
            return to_copy(state), status_of_copy(state)

        return self._branch(
            session_id,
            ("fork", "session.forked"),
            content,
            owner=owner,
            at_version=at_version,
            new_session_id=new_session_id,
            ends=self._end(ttl),
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
        """Begin a session with the constraints, response plan, strategy and context of another one.

        Tool calls that the constraints list are pending. Nothing else is taken over: no messages, calls or results. The
        template gets one event, which notes the session as its ``child``.

        Args:
            template_session_id: Any session.
            user_id: The new session's owner.
            question: What was asked.
            at_version: The template as it was after this many events; now, where None.
            fields: Further fields, as for ``create_session``; they win over the template's, in ``context`` by name.
            new_session_id: Your own id for the new session.
            ttl: How long it lives, as for ``create_session``.
            envelope: As for ``fork_session``.

        Returns:
            The new session's id.

        Raises:
            SessionNotFound, InvalidInput, SessionEnded, WrongExpectedVersion, IdempotencyConflict, OutcomeUnknown:
                As for ``fork_session``.
        """
        owner = self._owner(user_id)
        if fields is not None and not isinstance(fields, Mapping):
            raise InvalidInput(f"fields must be an object of field to value, not {type(fields).__name__}.")
        updates = {name: value for name, value in (fields or {}).items() if name not in ("lineage", "expires_at")}
        if question is not None:
            updates["question"] = question
        own = list(self._fit(changes_of(updates), lambda: None))
        if own:  # refused before anything is written
            check = NewEvent("session.created", own, self._ids(self._clock()))
            prepare(check, max_bytes=self.store.capabilities.max_event_bytes)
        ends = [Change("expires_at", "", (fields or {})["expires_at"])] if "expires_at" in (fields or {}) else None
        self._check_end(template_session_id, ends or [], envelope)

        def content(state: State) -> tuple[Plan, str | None]:
            registers = {
                register: Change(*register, held.value)
                for register, held in state.items()
                if register[0] in _OF_TEMPLATE and held.text is not None
            }
            registers |= {(change.field, change.key): change for change in own}
            changes = [change for change in registers.values() if not change.removed and change.field != "status"]
            constraints = registers.get(("constraints", ""))
            changes += planned_calls(constraints and constraints.value, {}, changes)
            status = registers.get(("status", ""), Change("status", "", "active"))
            return Plan([sized(change) for change in changes], []), status.value

        return self._branch(
            template_session_id,
            ("template", "template.used"),
            content,
            owner=owner,
            at_version=at_version,
            new_session_id=new_session_id,
            ends=self._end(ttl) if ends is None or ttl is not UNSET else [sized(it).change for it in ends],
            envelope=envelope,
        )

    def _end(self, ttl: timedelta | None) -> list[Change]:
        """What gives a new session its lifetime."""
        ends = self._expiry(self._default_ttl) if ttl is UNSET else self._expiry(ttl, self._max_ttl)
        return [] if ends is None else [Change("expires_at", "", ends)]

    def _branch(
        self,
        source: str,
        made: tuple[str, str],
        content: Content,
        *,
        owner: str,
        at_version: int | None,
        new_session_id: str | None,
        ends: list[Change],
        envelope: Envelope,
    ) -> str:
        """Note the new session at its source, then write it; what is noted can be finished by anybody.

        Args:
            made: The kind of the new session, and the type of the source's event.
            ends: What gives it its lifetime.
        """
        if at_version is not None:
            check_whole(at_version, "at_version", at_least=1)
        if new_session_id is not None:
            check_session_id(new_session_id)
        event_id = self._event_id(source, envelope)
        noted = self._noted(source, made, event_id) if "event_id" in envelope else None
        if noted is None and self._require(source).recorded_status == "deleted":
            raise SessionEnded(
                f"Session {source} is deleted; nothing was written. restore_session() opens it again.",
                session_id=source,
                status="deleted",
            )
        if noted is None and new_session_id is not None and (there := self._get(new_session_id)) is not None:
            raise _taken(new_session_id, there.version)
        of_version = at_version or (noted and noted[1])
        found = self.store.state(source, version=of_version, with_messages=made[0] == "fork")
        if found is None:  # it was there a moment ago
            raise SessionNotFound(f"Session {source} is gone; nothing was written.", session_id=source)
        head, state = found
        if of_version is None and envelope.get("expected_version", ANY_VERSION) not in (ANY_VERSION, head.version):
            raise wrong_version(source, envelope["expected_version"], head.version)
        of_call = f"{made[0]}:{source}:{event_id}"
        fresh = self._ids(self._clock()) if "event_id" not in envelope else session_id_for(of_call, owner)
        child = new_session_id or (noted[0] if noted is not None else fresh)
        branch = _Branch(source, head.version, made[0], child, owner, event_id)
        plan, status = content(state)
        try:
            with to_be_finished(source, event_id, begun=False):
                self._append(source, made[1], [branch.child], envelope, event_id=event_id, require_open=False)
        except IdempotencyConflict:
            if noted is not None or "event_id" not in envelope or self._noted(source, made, event_id) is None:
                raise
            # The same call, made twice at once: the other noted it a moment ago, and that is what to go on with.
            return self._branch(
                *(source, made, content),
                owner=owner,
                at_version=at_version,
                new_session_id=new_session_id,
                ends=ends,
                envelope=envelope,
            )
        try:
            with to_be_finished(source, event_id, begun=True):
                self._write(branch, plan, status, ends, envelope, is_new=noted is None)
        except (SessionNotFound, WrongExpectedVersion):
            if noted is None:  # the id turned out to be somebody else's
                withdrawn = Change("child", child, removed=True)
                self._append(source, "child.withdrawn", [withdrawn], Envelope(), require_open=False)
            raise
        return child

    def _noted(self, source: str, made: tuple[str, str], event_id: str) -> tuple[str, int] | None:
        """The id and version that an earlier call under this event_id noted; None where it is no such event."""
        recorded = self.store.version_of(source, event_id)
        events = [] if recorded is None else self.store.events(source, after=recorded - 1, limit=1)
        for event in events:
            child = event.changes[0]
            is_note = (event.event_id, event.event_type, child.field) == (event_id, made[1], "child")
            if is_note and isinstance(child.value, Mapping):
                return child.key, child.value["version"]
        return None

    def _write(
        self,
        branch: _Branch,
        plan: Plan,
        status: str | None,
        ends: list[Change],
        envelope: Envelope,
        *,
        is_new: bool,
    ) -> None:
        """Append what the new session lacks, until it is whole."""
        session_id = branch.session_id
        for attempt in range(WRITE_ATTEMPTS):
            found = None if is_new else self.store.state(session_id, with_messages=True)
            version, have = (0, {}) if found is None else (found[0].version, found[1])
            if found is not None:
                if self.store.version_of(session_id, branch.whole) is not None:
                    if branch.kind == "template":
                        self._check_same(branch, plan)
                    return
                if self.store.version_of(session_id, branch.part(0)) is None:
                    raise _taken(session_id, version)
            try:
                events = _events(branch, lacking(plan, have), status, ends, version, self.store.capabilities)
                for event_type, changes, event_id in events:
                    about = Envelope(**{**envelope, "expected_version": version, "event_id": event_id})
                    if is_new and "event_id" not in envelope:
                        del about["event_id"]  # made for this very call: no store need look for it
                    version = self._append(
                        session_id,
                        event_type,
                        changes,
                        about,
                        user_id=branch.user_id if version == 0 else None,
                        event_id=event_id,
                        require_open=False,
                        as_recorded=True,
                    ).version
                return
            except (WrongExpectedVersion, IdempotencyConflict):  # somebody else finishes it, or wrote to it
                is_new = False
                if attempt == WRITE_ATTEMPTS - 1:
                    raise

    def _check_same(self, branch: _Branch, plan: Plan) -> None:
        """Raise IdempotencyConflict where a session that is whole was begun with other content."""
        version = self.store.version_of(branch.session_id, branch.whole)
        state = self._state_at(branch.session_id, version)
        for change, _ in plan.free:
            held = state.get((change.field, change.key))
            if held is None or (held.text is not None and held.text != canonical(change.value)):
                raise IdempotencyConflict(
                    f"Session {branch.session_id} was begun under this event_id with another {change.field}; nothing "
                    "was written. Use a new event_id for a new session.",
                    session_id=branch.session_id,
                    event_id=branch.event_id,
                )


def _events(
    branch: _Branch, plan: Plan, status: str | None, ends: list[Change], version: int, capabilities: Capabilities
) -> Iterator[tuple[str, list[Change], str]]:
    """Type, changes and id of each event that a new session at a version lacks; small ones lack but one."""
    creates_stream = version == 0
    of_all = [Change("status", "", status)] if status is not None else []
    if creates_stream:
        plan = Plan([sized(change) for change in (branch.lineage, *ends)] + plan.free, plan.ordered)
    # Half the limit, since JSON around JSON and a request's frame take room as well.
    parts = list(portions(plan, capabilities.max_changes - _BESIDE, capabilities.max_event_bytes // 2))
    if creates_stream and len(parts) == 1:
        yield "session.created", [*of_all, *parts[0]], branch.whole
        return
    for number, part in enumerate(parts):
        first = creates_stream and number == 0
        named = [Change("status", "", COPYING)] if first else []
        yield "session.created" if first else "session.copied", [*named, *part], branch.part(version + number)
    closing = of_all or [Change("status", "", removed=True)]
    yield "session.copied", closing if creates_stream else [*closing, *ends], branch.whole


@contextmanager
def to_be_finished(session_id: str, event_id: str, *, begun: bool) -> Iterator[None]:
    """Where the outcome is not known, say what to send again: the whole call, not the event that it was at."""
    try:
        yield
    except OutcomeUnknown as error:
        error.session_id, error.event_id = session_id, event_id
        raise
    except StoreUnavailable as error:
        if not begun:
            raise
        raise OutcomeUnknown(
            f"{error} What was begun before is written: call again with the event_id {event_id} to finish it.",
            session_id=session_id,
            event_id=event_id,
        ) from error


def _taken(session_id: str, version: int) -> WrongExpectedVersion:
    return WrongExpectedVersion(
        f"There is a session {session_id} already, at version {version}; choose another id.",
        session_id=session_id,
        expected=0,
        actual=version,
    )
