"""The events that create a copy of a session, and the errors of calls that append several events."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ledger.errors import OutcomeUnknown, StoreUnavailable
from ledger.model.copying import COPYING, Plan, portions, sized
from ledger.model.events import Change
from ledger.model.ids import event_id_for
from ledger.stores.base import Capabilities

#: Maximum number of attempts to write a state in several events, when other writers append in between.
WRITE_ATTEMPTS = 50
#: Number of changes that the first event has besides the copied ones: lineage, status and expires_at.
_OWN_CHANGES = 3


@dataclass(frozen=True, slots=True)
class Branch:
    """A new session that copies another session, and the ids of the events that create it.

    Attributes:
        source, version: Id and version of the session that is copied.
        kind: ``fork`` or ``template``.
        session_id, user_id: Id and owner of the new session.
        event_id: Id of the event in the source that records the new session as the source's child.
    """

    source: str
    version: int
    kind: str
    session_id: str
    user_id: str
    event_id: str

    @property
    def lineage(self) -> Change:
        """The change that records the source in the new session."""
        return Change("lineage", "", {"session_id": self.source, "version": self.version, "kind": self.kind})

    @property
    def child(self) -> Change:
        """The change that records the new session in the source."""
        return Change("child", self.session_id, {"version": self.version, "kind": self.kind})

    @property
    def whole(self) -> str:
        """Event id of the last event of the new session. With this event the copy is complete."""
        return event_id_for(f"{self.event_id}:whole", self.user_id)

    def part(self, version: int) -> str:
        """Return the event id of the event that follows ``version`` in the new session.

        The last event of the copy has the id ``whole`` instead.
        """
        return part_id(self.event_id, version, self.user_id)


def part_id(event_id: str, version: int, user_id: str) -> str:
    """Return the id of one of several events of a call: the one that follows ``version``.

    Args:
        event_id: The event_id of the call.
        version: A version of the session that the event belongs to.
        user_id: The session's owner.
    """
    return event_id_for(f"{event_id}:{version}", user_id)


def branch_events(
    branch: Branch,
    plan: Plan,
    status: str | None,
    expiry_changes: list[Change],
    version: int,
    capabilities: Capabilities,
) -> Iterator[tuple[str, list[Change], str]]:
    """Yield the type, changes and id of each event that is still to be appended to a new session.

    ``plan`` has the changes that the session still lacks. ``version`` is the session's version, 0 if it does not exist
    yet. ``status`` is the status that the session gets with the last event.
    """
    creates_stream = version == 0
    final_status = [Change("status", "", status)] if status is not None else []
    if creates_stream:
        plan = Plan([sized(change) for change in (branch.lineage, *expiry_changes)] + plan.free, plan.ordered)
    # Half the limit, because JSON within JSON and the frame of a request take room as well.
    parts = list(portions(plan, capabilities.max_changes - _OWN_CHANGES, capabilities.max_event_bytes // 2))
    if creates_stream and len(parts) == 1:
        yield "session.created", [*final_status, *parts[0]], branch.whole
        return
    for number, part in enumerate(parts):
        first = creates_stream and number == 0
        copying = [Change("status", "", COPYING)] if first else []
        yield "session.created" if first else "session.copied", [*copying, *part], branch.part(version + number)
    closing = final_status or [Change("status", "", removed=True)]
    yield "session.copied", closing if creates_stream else [*closing, *expiry_changes], branch.whole


@contextmanager
def resumable(session_id: str, event_id: str, *, started: bool) -> Iterator[None]:
    """Context manager for one append of a call that appends several events.

    If the outcome of the append is unknown, the error tells the user to repeat the whole call.

    Args:
        session_id, event_id: The session and event_id of the call, for the error.
        started: True if an earlier append of the call has succeeded. In that case, a StoreUnavailable becomes an
            OutcomeUnknown, because a part of the call is recorded.
    """
    try:
        yield
    except OutcomeUnknown as error:
        error.session_id, error.event_id = session_id, event_id
        raise
    except StoreUnavailable as error:
        if not started:
            raise
        raise OutcomeUnknown(
            f"{error} A part is written: call again with the event_id {event_id} to complete it.",
            session_id=session_id,
            event_id=event_id,
        ) from error
