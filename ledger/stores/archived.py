"""Sessions whose rows are in a warehouse alone: what stays in the store, and what bringing one back records."""

from __future__ import annotations

from typing import NamedTuple

from ledger.errors import SessionArchived
from ledger.model.events import Change
from ledger.model.fields import FIELDS
from ledger.model.fold import State
from ledger.model.session import Head
from ledger.outbox.row_digests import SessionKey
from ledger.stores.base import EventStore

#: The ``store_id`` in the head of a session that no store owns: its rows are in a warehouse, and whoever hydrates it
#: owns it next. It stands in the head, so that all who remember a head find out that theirs is of another time.
UNOWNED = ""
#: Statuses as a state has them: canonical JSON text.
ARCHIVED_TEXT, DELETED_TEXT = '"archived"', '"deleted"'
#: The fields that stay, so that lists still find the session and say who may see it. All else is large, or of use only
#: to those who go on with the session.
LISTED = tuple(sorted(field.name for field in FIELDS.values() if field.listed))


class Droppable(NamedTuple):
    """An archived session whose rows have been shipped to every warehouse that this store ships to.

    Attributes:
        version: Of its last event.
        rows: How many they are.
    """

    key: SessionKey
    version: int
    rows: int


def session_archived(head: Head, state: State, warehouses: list[str]) -> SessionArchived:
    """The error of a session whose rows are in a warehouse alone.

    Args:
        head: As it was when the rows were dropped, owned by ``UNOWNED``.
        state: The fields that stay.
        warehouses: URLs of those that have the rows.
    """
    where = ", ".join(warehouses) or "its warehouse"
    return SessionArchived(
        f"Session {head.session_id} is archived, and its rows are only in {where}: open the ledger with that "
        "(warehouse=, or LEDGER_WAREHOUSE).",
        head=head,
        state=state,
    )


def status_change(store: EventStore, session_id: str, state: State) -> list[Change]:
    """What ``session.hydrated`` changes: the status is again what it was before the session was archived.

    Args:
        store: Where the session's rows are.
        state: Of the session now. Where it is not archived, another store's session was taken over as it is.
    """
    written = state.get(("status", ""))
    if written is not None and written.value == "archived":
        earlier = store.state(session_id, version=written.version - 1) if written.version > 1 else None
        written = None if earlier is None else earlier[1].get(("status", ""))
    return [Change("status", "", None if written is None else written.value, removed=written is None)]
