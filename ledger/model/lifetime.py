"""The lifetime of a session: its status, its ``expires_at``, and how the two combine at a given time."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from ledger.errors import CorruptEvent, InvalidInput, SessionEnded
from ledger.model.events import Change
from ledger.model.fields import check_change
from ledger.model.instants import from_text, to_micros, to_text
from ledger.model.values import decode, full_name

#: Statuses of a closed session, which accepts only events of its lifecycle, tags, scores, grants and children.
CLOSED = ("expired", "archived", "deleted")
#: Statuses in which a session does not expire any more.
DONE = ("completed", "failed")
#: The fields that decide whether a session is open.
LIFETIME_FIELDS = ("status", "expires_at")
#: A time after every datetime, in microseconds since 1970.
FOREVER = 2**62
#: The method that reopens a closed session, for each status in ``CLOSED``.
REOPENING = {"expired": "restore_session()", "deleted": "restore_session()", "archived": "hydrate_session()"}


def status_at(status: str | None, expires_at: datetime | None, now: datetime) -> str | None:
    """Return the status at a time: ``expired`` from ``expires_at`` on, even if no event has recorded that yet.

    A status in ``DONE`` or ``CLOSED`` is returned unchanged.
    """
    has_expired = expires_at is not None and expires_at <= now and status not in (*DONE, *CLOSED)
    return "expired" if has_expired else status


def check_open(session_id: str, status: str | None, expires_at: str | None, now: datetime) -> int:
    """Check that a session is open, and return the time at which it expires, in microseconds since 1970.

    The time holds until an event changes the status or ``expires_at``. It is ``FOREVER`` if the session never expires.

    Args:
        session_id: The session, for the message.
        status, expires_at: Values of these fields as JSON text; None if not set.
        now: The time by the store's clock.

    Raises:
        SessionEnded: The session is expired, archived or deleted.
    """
    try:
        end = None if expires_at is None else decode(expires_at)
        recorded = None if status is None else decode(status)
        ends_at = None if end is None else from_text(end)
    except (CorruptEvent, InvalidInput) as error:
        raise CorruptEvent(
            f"Session {session_id}: its status or expires_at in session_state is not what was recorded ({error}). "
            "`ledger verify --rebuild` computes the state again.",
            session_id=session_id,
        ) from error
    current = status_at(recorded, ends_at, now)
    if current in CLOSED:
        has_passed = ends_at is not None and ends_at <= now  # the status may have been set before the end
        since = f" since {end}" if current == "expired" and has_passed else ""
        raise SessionEnded(
            f"Session {session_id} is {current}{since}; nothing was written. Reopen it with {REOPENING[current]}.",
            session_id=session_id,
            status=current,
        )
    return FOREVER if ends_at is None or current in DONE else to_micros(ends_at)


def expiry(now: datetime, ttl: timedelta | None, longest: timedelta | None = None) -> str | None:
    """Return the ``expires_at`` of a session with a TTL from now, as RFC 3339 text; None for no expiry.

    Args:
        now: The current time, timezone-aware.
        ttl: The TTL; None for no expiry.
        longest: The maximum TTL; None for no limit.

    Raises:
        InvalidInput: The TTL is not positive, exceeds ``longest``, ends after the year 9999, or is None although there
            is a maximum.
    """
    if ttl is None:
        if longest is not None:
            raise InvalidInput(f"ttl is None, but {_bound(longest)}; give a ttl.")
        return None
    if not isinstance(ttl, timedelta):
        raise InvalidInput(f"ttl must be a timedelta, or None for no expiry, not {full_name(ttl)}.")
    if ttl <= timedelta(0):
        raise InvalidInput(f"ttl must be positive, not {_hours(ttl)}.")
    if longest is not None and ttl > longest:
        raise InvalidInput(f"ttl is {_hours(ttl)}, but {_bound(longest)}.")
    try:
        return to_text(now + ttl)
    except OverflowError:
        raise InvalidInput(f"ttl is {_hours(ttl)}, which ends after the year 9999; None means no expiry.") from None


def check_ends(changes: Iterable[Change], now: datetime, longest: timedelta) -> None:
    """Check each ``expires_at`` that changes set.

    Raises:
        InvalidInput: One is later than ``now`` plus the maximum TTL, or removes the end of the session.
    """
    for change in changes:
        if isinstance(change, Change) and change.field == "expires_at":
            end = None if change.value is None else check_change("expires_at", "", change.value, removed=False)
            if end is None or from_text(end) - now > longest:
                raise InvalidInput(f"expires_at is {end}, but {_bound(longest)}; nothing was written.")


def _bound(longest: timedelta) -> str:
    return (
        f"every session of this ledger expires within {_hours(longest)} (max_ttl_hours, or "
        "LEDGER_SESSION_MAX_TTL_HOURS)"
    )


def _hours(span: timedelta) -> str:
    return f"{span / timedelta(hours=1):g} h"
