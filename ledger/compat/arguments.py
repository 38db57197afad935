"""Checks and conversions of arguments that several drop-in modules take: ledgers, users, names, objects, days."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from ledger.errors import InvalidInput
from ledger.model.values import full_name
from ledger.sdk.aio import AsyncSessionLedger, asynchronous
from ledger.sdk.ledger import SessionLedger


def ledger_of(db: SessionLedger | AsyncSessionLedger | str | None, **settings: Any) -> tuple[AsyncSessionLedger, bool]:
    """Return the ledger that a service uses, and True if this call created it. If True, the service must close it.

    Args:
        db: A ledger, its URL, or None for the ledger that the environment names.
        settings: Settings for a ledger that this call creates.

    Raises:
        InvalidInput: ``db`` is neither a ledger nor a URL nor None.
    """
    if isinstance(db, AsyncSessionLedger):
        return db, False
    if isinstance(db, SessionLedger):
        return asynchronous(db), False
    if db is None or isinstance(db, str):
        return AsyncSessionLedger(db, **settings), True
    raise InvalidInput(
        f"Pass a SessionLedger, an AsyncSessionLedger or a ledger URL, not {full_name(db)}. The importers "
        "of ledger.compat import the data of an earlier database."
    )


def user_id_of(user: Any) -> str:
    """Return a user's id as text. The user is an object with an ``id``, or the id itself.

    Raises:
        InvalidInput: The id is not a whole number, a UUID or text, or it is empty.
    """
    found = getattr(user, "id", user)
    if isinstance(found, int) and not isinstance(found, bool):
        return str(found)
    if not isinstance(found, str) and type(found).__name__ == "UUID":
        return str(found)
    if isinstance(found, str) and found:
        return found
    raise InvalidInput(f"user must be the session's owner: an object with an id, a number or text, not {user!r}.")


def object_of(value: Any, name: str) -> dict[str, Any]:
    """Return a mapping as a dict, and None as an empty dict.

    Raises:
        InvalidInput: The value is not a mapping.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidInput(f"{name} must be an object of name to value, not {full_name(value)}; nothing was written.")
    return dict(value)


def names_of(value: Any, name: str) -> list[str]:
    """Return names as a list. A single string is refused, since it would be read as a list of its letters.

    Raises:
        InvalidInput: The value is not a list, or an item is not text.
    """
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise InvalidInput(f"{name} must be a list of names, not {value!r:.70}; nothing was written.")
    found = list(value)
    for each in found:
        if not isinstance(each, str):
            raise InvalidInput(f"{name} must be a list of names; {each!r:.70} is not text. Nothing was written.")
    return found


def days_before(now: datetime, days: Any) -> datetime:
    """Return the time that is ``days`` days before ``now``.

    Raises:
        InvalidInput: ``days`` is not a number, is negative, or is too large for a datetime.
    """
    try:
        if isinstance(days, int | float) and not isinstance(days, bool) and days >= 0:
            return now - timedelta(days=days)
    except OverflowError:
        pass
    raise InvalidInput(
        f"days must be a number of days, at least 0 and within the range of dates, not {str(days)[:70]!r}."
    )
