"""Rights of a user on a session. The session's owner has all rights. Others have the rights that the owner grants."""

from __future__ import annotations

import uuid

from ledger.errors import PermissionDenied, SessionNotFound
from ledger.model.events import PreparedEvent
from ledger.model.fold import State
from ledger.model.ids import created_at_of
from ledger.model.session import Head
from ledger.stores.archived import ARCHIVED_TEXT, DELETED_TEXT

READ, WRITE = "read", "write"
#: Statuses that only a session's owner may set.
_OWNER_STATUSES = (ARCHIVED_TEXT, DELETED_TEXT)


def right_of(user_id: str, head: Head, state: State) -> str | None:
    """Return the right of a user on a session, ``read`` or ``write``; None if the user may not see it.

    Args:
        head, state: The session's latest head and state.
    """
    if head.user_id == user_id:
        return WRITE
    granted = state.get(("grant", user_id))
    value = None if granted is None else granted.value
    return value if value in (READ, WRITE) else None


def check_write(user_id: str, head: Head, state: State, event: PreparedEvent) -> None:
    """Raise PermissionDenied unless a user may append this event to a session that another user owns."""
    if right_of(user_id, head, state) != WRITE:
        raise read_only(user_id, head.session_id)
    status = state.get(("status", ""))
    deleted = status is not None and status.text == DELETED_TEXT
    for change in event.changes:
        if change.field == "grant" or (change.field == "status" and (deleted or change.text in _OWNER_STATUSES)):
            raise PermissionDenied(
                f"Only the owner of session {head.session_id} may grant access to it, archive it, delete it, or "
                "restore it after a deletion; nothing was written."
            )


def read_only(user_id: str, session_id: str) -> PermissionDenied:
    """Return the error for a write to a session by a user who may only read the session."""
    return PermissionDenied(
        f"User {user_id} may read session {session_id}, not change it; nothing was written. Its owner can grant write."
    )


def id_taken(session_id: str) -> SessionNotFound:
    """Return the error for creating a session under an id that another session has.

    The error does not reveal that the id is in use.
    """
    return SessionNotFound(
        f"Session {session_id} cannot be created; nothing was written. Choose another id, or omit it to have one "
        "generated.",
        session_id=session_id,
    )


def unused_id(session_id: str) -> str:
    """Return an id that no session has. Looking it up takes as long as looking up ``session_id``.

    If ``session_id`` contains a creation time, as a UUIDv7 does, the returned id contains the same time.
    """
    fresh = str(uuid.uuid4())
    return fresh if created_at_of(session_id) is None else session_id[:15] + fresh[15:]
