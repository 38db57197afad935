"""Arguments of the older services, converted to what a ledger takes: ledgers, users, objects, names, days."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from ledger.errors import InvalidInput
from ledger.sdk.aio import AsyncSessionLedger, asynchronous
from ledger.sdk.ledger import SessionLedger


def ledger_of(db: SessionLedger | AsyncSessionLedger | str | None, **settings: Any) -> tuple[AsyncSessionLedger, bool]:
    """The ledger that a service works on, and whether it was opened for it (and is closed with it).

    Args:
        db: A ledger, its URL, or None for the one that the environment names.
        settings: Of a ledger that is opened for it.

    Raises:
        InvalidInput: It is none of these.
    """
    if isinstance(db, AsyncSessionLedger):
        return db, False
    if isinstance(db, SessionLedger):
        return asynchronous(db), False
    if db is None or isinstance(db, str):
        return AsyncSessionLedger(db, **settings), True
    raise InvalidInput(
        f"Give a SessionLedger, an AsyncSessionLedger or the URL of one, not {type(db).__name__}. What an older "
        "database holds is brought in once, by the importers of ledger.compat."
    )


def user_id_of(user: Any) -> str:
    """The id of a user, who may be an object with an ``id``, a number or text.

    Raises:
        InvalidInput: There is no id.
    """
    found = getattr(user, "id", user)
    if isinstance(found, int) and not isinstance(found, bool):
        return str(found)
    if not isinstance(found, str) and type(found).__name__ == "UUID":
        return str(found)
    if isinstance(found, str) and found:
        return found
    raise InvalidInput(f"user says whose session it is: an object with an id, a number or text, not {user!r}.")


def object_of(value: Any, name: str) -> dict[str, Any]:
    """An object of name to value; empty where None is given.

    Raises:
        InvalidInput: It is none.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidInput(
            f"{name} must be an object of name to value, not {type(value).__name__}; nothing was written."
        )
    return dict(value)


def names_of(value: Any, name: str) -> list[str]:
    """A list of names; one text is none, and would be taken for a list of its letters.

    Raises:
        InvalidInput: It is no list, or something in it is no text.
    """
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise InvalidInput(f"{name} must be a list of names, not {value!r:.70}; nothing was written.")
    found = list(value)
    for each in found:
        if not isinstance(each, str):
            raise InvalidInput(f"{name} must be a list of names; {each!r:.70} is no text. Nothing was written.")
    return found


def days_before(now: datetime, days: Any) -> datetime:
    """The time so many days before another.

    Raises:
        InvalidInput: It is no number of days, or longer ago than there are dates.
    """
    try:
        if isinstance(days, int | float) and not isinstance(days, bool) and days >= 0:
            return now - timedelta(days=days)
    except OverflowError:
        pass
    raise InvalidInput(f"days must be a number of days from 0 up that a calendar has room for, not {str(days)[:70]!r}.")
