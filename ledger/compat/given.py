"""What older services take, as a ledger takes it: a ledger or where it is, and users of every form."""

from __future__ import annotations

from typing import Any

from ledger.aio import AsyncSessionLedger, asynchronous
from ledger.errors import InvalidInput
from ledger.sessions import SessionLedger


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
