"""Checks of ids, ids that are computed from a caller's key, and the creation time in a session's UUIDv7."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime, timedelta

from ledger.errors import InvalidInput
from ledger.model.instants import EPOCH, from_micros, to_micros
from ledger.model.values import check_text

_UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
#: How far a creation time may lie in the past, and in the future. BigQuery refuses rows streamed to other partitions.
OLDEST, NEWEST = timedelta(days=3650), timedelta(days=365)
#: Exclusive upper bound of creation times. The partition of this day would end after the last possible datetime.
_LAST_DAY = datetime(9999, 12, 31, tzinfo=UTC)
#: UUIDv5 namespace of the ids that are computed from a caller's key.
_FOREIGN_KEYS = uuid.UUID("0190163d-8694-739b-aea5-966c26f8ad91")


def created_at_of(session_id: str) -> datetime | None:
    """Return the creation time that a UUIDv7 contains, to the millisecond.

    Returns None for any other id, and for a time on or after 9999-12-31.
    """
    if not _UUID7.fullmatch(session_id):
        return None
    try:
        created_at = EPOCH + timedelta(milliseconds=int(session_id[:8] + session_id[9:13], 16))
        return created_at if created_at < _LAST_DAY else None
    except OverflowError:
        return None


def creation_day(created_at: datetime) -> tuple[datetime, datetime]:
    """Return the start and the exclusive end of a session's partition, which is the UTC day of its creation."""
    first = created_at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return first, first + timedelta(days=1)


def created_at_for(session_id: str, now: datetime) -> datetime:
    """Return the creation time of a new session: the time in its id, or ``now`` if the id is not a UUIDv7.

    Raises:
        InvalidInput: The time in the id is outside the range of partitions that a warehouse accepts.
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
            f"The creation time {created_at.isoformat()} is more than ten years in the past or one year in the future, "
            "which a warehouse does not accept; check the id or the clock it was generated with."
        )


def check_idempotency_key(key: str, name: str = "idempotency_key") -> str:
    """Return ``key`` if it is valid: text of 1 to 1,024 characters; see ``check_text``."""
    return check_text(key, name, at_most=1024)


def event_id_for(idempotency_key: str, user_id: str) -> str:
    """Return the event_id for an idempotency key.

    A UUID is itself the event_id, in lower case. Any other text of 1 to 1,024 characters is hashed with the user's id
    to a UUIDv5.

    Raises:
        InvalidInput: The key is neither a UUID nor such a text.
    """
    if isinstance(idempotency_key, str) and _UUID.fullmatch(idempotency_key):
        return idempotency_key.lower()
    key = check_idempotency_key(idempotency_key, "event_id")
    return str(uuid.uuid5(_FOREIGN_KEYS, f"{len(user_id)}:{user_id}:{key}"))


def session_id_for(idempotency_key: str, user_id: str) -> str:
    """Return the id of a new session whose creator gives an idempotency key but no id. Retries get the same id."""
    event_id = event_id_for(idempotency_key, user_id)
    return str(uuid.uuid5(_FOREIGN_KEYS, f"session:{len(user_id)}:{user_id}:{event_id}"))


def session_id_of_key(key: str, user_id: str, number: int) -> str:
    """Return the id of a session that ``get_or_create_session`` creates for a user's key.

    ``number`` is 0 for the key's first session, 1 for the session created after the first has ended, and so on.
    """
    return str(uuid.uuid5(_FOREIGN_KEYS, f"key:{number}:{len(user_id)}:{user_id}:{key}"))
