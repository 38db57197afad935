"""Ids: what may be one, and the creation time that lives inside a session's UUIDv7."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime, timedelta

from ledger.errors import InvalidInput
from ledger.model.instants import EPOCH, from_micros, to_micros
from ledger.model.values import check_text

_UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
#: BigQuery streams rows into partitions from ten years back to one year ahead; other days would never ship.
OLDEST, NEWEST = timedelta(days=3650), timedelta(days=365)
#: There must be a day after that of a creation.
_LAST_DAY = datetime(9999, 12, 31, tzinfo=UTC)
#: Namespace for idempotency keys that are no UUIDs.
_FOREIGN_KEYS = uuid.UUID("0190163d-8694-739b-aea5-966c26f8ad91")


def created_at_of(session_id: str) -> datetime | None:
    """The creation time inside a UUIDv7, to the millisecond; None for any other id."""
    if not _UUID7.fullmatch(session_id):
        return None
    try:
        created_at = EPOCH + timedelta(milliseconds=int(session_id[:8] + session_id[9:13], 16))
        return created_at if created_at < _LAST_DAY else None
    except OverflowError:
        return None


def creation_day(created_at: datetime) -> tuple[datetime, datetime]:
    """The UTC day that a session's rows are filed under: its first instant, and that of the next day."""
    first = created_at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return first, first + timedelta(days=1)


def check_session_id(session_id: str) -> str:
    """Return ``session_id`` if it can be one: 1 to 255 characters, none of them a control character.

    Raises:
        InvalidInput: It cannot; the message says why.
    """
    return check_text(session_id, "session_id")


def created_at_for(session_id: str, now: datetime) -> datetime:
    """The created_at of a new session: the time inside its id, or ``now`` for an id of the caller's own making.

    Raises:
        InvalidInput: The day inside the id is one that a warehouse cannot take rows for.
    """
    created_at = created_at_of(session_id)
    if created_at is None:
        return from_micros(to_micros(now))
    check_created_at(created_at, now)
    return created_at


def check_created_at(created_at: datetime, now: datetime) -> None:
    """Raise InvalidInput unless ``created_at`` is at most ten years before and one year after ``now``."""
    if not now - OLDEST <= created_at <= now + NEWEST:
        raise InvalidInput(
            f"A session created at {created_at.isoformat()} is outside the ten years back and one year ahead that "
            "a warehouse takes; check the id or the clock it was made with."
        )


def event_id_for(idempotency_key: str, user_id: str) -> str:
    """The event_id of a caller's idempotency key: a UUID stands for itself, other text maps to a UUIDv5 per user."""
    if isinstance(idempotency_key, str) and _UUID.fullmatch(idempotency_key):
        return idempotency_key.lower()
    key = check_text(idempotency_key, "event_id", at_most=1024)
    return str(uuid.uuid5(_FOREIGN_KEYS, f"{len(user_id)}:{user_id}:{key}"))


def session_id_for(idempotency_key: str, user_id: str) -> str:
    """The id of the session that a caller begins by naming only the event: the same at every retry."""
    event_id = event_id_for(idempotency_key, user_id)
    return str(uuid.uuid5(_FOREIGN_KEYS, f"session:{len(user_id)}:{user_id}:{event_id}"))


def session_id_of_key(key: str, user_id: str, number: int) -> str:
    """The id of the ``number``-th session that a user has under a key of their own."""
    return str(uuid.uuid5(_FOREIGN_KEYS, f"key:{number}:{len(user_id)}:{user_id}:{key}"))
