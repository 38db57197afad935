"""The head and the fields that a store keeps of archived sessions whose rows are only in a warehouse."""

from __future__ import annotations

from typing import NamedTuple

from ledger.errors import SessionArchived
from ledger.model.events import Change
from ledger.model.fields import FIELDS
from ledger.model.fold import State
from ledger.model.session import Head
from ledger.outbox.row_digests import SessionKey
from ledger.stores.base import EventStore

#: The ``store_id`` in the head of a session whose rows are only in a warehouse. No store owns such a session; the store
#: that hydrates it becomes its owner. Dropping and hydrating both change the head, so a head that was cached before is
#: recognised as stale.
UNOWNED = ""
#: Values of the field ``status``, as canonical JSON.
ARCHIVED_TEXT, DELETED_TEXT = '"archived"', '"deleted"'
#: The fields that the store keeps when it drops a session's rows. Lists need them to find the session and to check who
#: may see it. The other fields are large, or are needed only to append to the session.
LISTED = tuple(sorted(field.name for field in FIELDS.values() if field.listed))


class Droppable(NamedTuple):
    """An archived session whose rows have been shipped to every warehouse that this store ships to.

    Attributes:
        key: The session's id and creation time.
        version: The version of its last event.
        rows: The number of its rows.
    """

    key: SessionKey
    version: int
    rows: int


def session_archived(head: Head, state: State, warehouses: list[str]) -> SessionArchived:
    """Return the error for a session whose rows are only in a warehouse.

    Args:
        head: The head as it was when the rows were dropped, with ``UNOWNED`` as its ``store_id``.
        state: The fields that the store keeps.
        warehouses: URLs of the warehouses that have the rows.
    """
    holders = ", ".join(warehouses) or "its warehouse"
    return SessionArchived(
        f"Session {head.session_id} is archived, and its rows are only in {holders}: open the ledger with "
        f"{'one of them' if len(warehouses) > 1 else 'that'} (warehouse=, or LEDGER_WAREHOUSE).",
        head=head,
        state=state,
        warehouses=warehouses,
    )


def status_change(store: EventStore, session_id: str, state: State) -> list[Change]:
    """Return the changes of a ``session.hydrated`` event, which give the session its status from before archiving.

    Args:
        store: The store that has the session's rows.
        state: The session's latest state. If its status is not ``archived``, the changes set the same status again.
    """
    written = state.get(("status", ""))
    if written is not None and written.value == "archived":
        earlier = store.state(session_id, version=written.version - 1) if written.version > 1 else None
        written = None if earlier is None else earlier[1].get(("status", ""))
    return [Change("status", "", None if written is None else written.value, removed=written is None)]
