"""How long a session is open: its status, its end, and what they say of each other at a time."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from ledger.errors import InvalidInput, SessionEnded
from ledger.model.events import Change
from ledger.model.fields import check_change
from ledger.model.instants import from_text, to_micros, to_text
from ledger.model.values import decode

#: A session in one of these takes no more events of the conversation.
CLOSED = ("expired", "archived", "deleted")
#: A session in one of these came to its end by itself: that it lasted too long is nothing to say of it any more.
DONE = ("completed", "failed")
#: The fields that say whether a session is open.
LIFETIME_FIELDS = ("status", "expires_at")
#: Later than every time, in microseconds since 1970.
FOREVER = 2**62
#: What brings a session back.
_WAY_BACK = {"expired": "restore_session()", "deleted": "restore_session()", "archived": "hydrate_session()"}


def status_at(status: str | None, expires_at: datetime | None, now: datetime) -> str | None:
    """The status of a session at a time: an end that has come counts before the sweep has recorded it."""
    has_ended = expires_at is not None and expires_at <= now and status not in (*DONE, *CLOSED)
    return "expired" if has_ended else status


def check_open(session_id: str, status: str | None, expires_at: str | None, now: datetime) -> int:
    """Until when a session takes events, in microseconds since 1970, unless one of them changes that.

    Args:
        status, expires_at: What stands in these fields, as JSON; None where nothing does.
        now: By the clock of the store.

    Raises:
        SessionEnded: It takes none by now.
    """
    end = None if expires_at is None else decode(expires_at)
    recorded, ends_at = None if status is None else decode(status), None if end is None else from_text(end)
    word = status_at(recorded, ends_at, now)
    if word in CLOSED:
        since = f" since {end}" if word == "expired" and end else ""
        raise SessionEnded(
            f"Session {session_id} is {word}{since}; nothing was written. {_WAY_BACK[word]} opens it again.",
            session_id=session_id,
            status=word,
        )
    return FOREVER if ends_at is None or word in DONE else to_micros(ends_at)


def expiry(now: datetime, ttl: timedelta | None, longest: timedelta | None) -> str | None:
    """When a session ends that lives for ``ttl`` from now, as its field ``expires_at`` holds it; None for never.

    Raises:
        InvalidInput: It would live for no time at all, or for longer than ``longest``.
    """
    if ttl is None:
        return None
    if not isinstance(ttl, timedelta):
        raise InvalidInput(f"ttl must be a timedelta, or None for a session without an end, not {type(ttl).__name__}.")
    if ttl <= timedelta(0):
        raise InvalidInput(f"ttl must be longer than no time at all, not {ttl}.")
    if longest is not None and ttl > longest:
        raise InvalidInput(
            f"ttl is {_hours(ttl)}, more than the {_hours(longest)} that this ledger allows (max_ttl_hours, or "
            "LEDGER_SESSION_MAX_TTL_HOURS)."
        )
    try:
        return to_text(now + ttl)
    except OverflowError:
        raise InvalidInput(f"ttl is {_hours(ttl)}, later than all times; give None for no end.") from None


def latest_end(changes: Iterable[Change]) -> datetime | None:
    """The end that changes give a session; None where they give it none."""
    ends = [
        check_change("expires_at", "", change.value, removed=False)
        for change in changes
        if isinstance(change, Change) and change.field == "expires_at" and change.value is not None
    ]
    return max(map(from_text, ends), default=None)


def check_end(end: datetime, now: datetime, longest: timedelta) -> None:
    """Raise InvalidInput where a session that ends then lives for longer than ``longest`` from now."""
    if end - now > longest:
        raise InvalidInput(
            f"expires_at is {to_text(end)}, later than {_hours(longest)} from now, the longest that this ledger allows "
            "(max_ttl_hours, or LEDGER_SESSION_MAX_TTL_HOURS); nothing was written."
        )


def _hours(span: timedelta) -> str:
    return f"{span / timedelta(hours=1):g} h"
