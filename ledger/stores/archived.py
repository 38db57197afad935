"""Sessions whose rows are in a warehouse alone: what stays in the store, and what bringing one back records."""

from __future__ import annotations

from ledger.errors import StoreRejected
from ledger.model.events import Change
from ledger.model.fold import State
from ledger.model.session import Head
from ledger.stores.base import EventStore

#: The ``store_id`` in the head of a session that no store owns: its rows are in a warehouse, and whoever hydrates it
#: owns it next. It stands in the head, so that all who remember a head find out that theirs is of another time.
NOBODY = ""
#: The fields that stay, so that lists still find the session and say who may see it. All else is large, or of use only
#: to those who go on with the session.
LISTED = ("attribute", "grant", "question", "session_type", "status", "tag", "title")


class Archived(StoreRejected):
    """A session is archived, and its rows are in a warehouse alone, which this store does not reach.

    Attributes:
        head: As it was when the rows were dropped, owned by ``NOBODY``.
        state: The fields that stay.
    """

    def __init__(self, head: Head, state: State, warehouses: list[str]) -> None:
        where = ", ".join(warehouses) or "its warehouse"
        super().__init__(
            f"Session {head.session_id} is archived, and its rows are only in {where}: open the ledger with that "
            "(warehouse=, or LEDGER_WAREHOUSE)."
        )
        self.head = head
        self.state = state


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
