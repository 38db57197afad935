"""What a user may do with a session: all with their own; with somebody else's, what its owner grants them."""

from __future__ import annotations

import uuid

from ledger.errors import PermissionDenied, SessionNotFound
from ledger.model.events import PreparedEvent
from ledger.model.fold import State
from ledger.model.ids import created_at_of
from ledger.model.session import Head
from ledger.stores.archived import ARCHIVED_TEXT, DELETED_TEXT

READ, WRITE = "read", "write"
#: Statuses that only a session's owner gives it.
_OWNERS = (ARCHIVED_TEXT, DELETED_TEXT)


def right_of(user_id: str, head: Head, state: State) -> str | None:
    """Return what a user may do with a session, ``read`` or ``write``; None if they may not see it.

    Args:
        head, state: As the session stands now.
    """
    if head.user_id == user_id:
        return WRITE
    granted = state.get(("grant", user_id))
    value = None if granted is None else granted.value
    return value if value in (READ, WRITE) else None


def check_write(user_id: str, head: Head, state: State, event: PreparedEvent) -> None:
    """Raise PermissionDenied unless a user may append this to a session of somebody else."""
    if right_of(user_id, head, state) != WRITE:
        raise read_only(user_id, head.session_id)
    status = state.get(("status", ""))
    deleted = status is not None and status.text == DELETED_TEXT
    for change in event.changes:
        if change.field == "grant" or (change.field == "status" and (deleted or change.text in _OWNERS)):
            raise PermissionDenied(
                f"Only the owner of session {head.session_id} changes who may see it, archives it, deletes it and "
                "restores it; nothing was written."
            )


def read_only(user_id: str, session_id: str) -> PermissionDenied:
    """Return the error of a change by a user who may only read."""
    return PermissionDenied(
        f"User {user_id} may read session {session_id}, not change it; nothing was written. Its owner can grant write."
    )


def id_taken(session_id: str) -> SessionNotFound:
    """Return the error of beginning a session under an id that somebody else has; it does not say that they have."""
    return SessionNotFound(
        f"No session {session_id} can begin here; nothing was written. Choose another id, or leave it out and one is "
        "made.",
        session_id=session_id,
    )


def unused_id(session_id: str) -> str:
    """Return an id that nobody has, of the same kind and day: a store takes as long to find nothing under it."""
    fresh = str(uuid.uuid4())
    return fresh if created_at_of(session_id) is None else session_id[:15] + fresh[15:]
