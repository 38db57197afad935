"""What the ledger's statements do, by the operation that labels their jobs, and which of them change rows."""

from __future__ import annotations

from typing import NamedTuple


class Operation(NamedTuple):
    """What a statement does.

    Attributes:
        doing: The beginning of a message about it, such as ``Listing sessions``.
        writes: True if it changes rows or objects, which takes another role than reading.
    """

    doing: str
    writes: bool = False


#: The operations by name. A statement in ``sql/statements/`` or ``sql/scheduled/`` has the name of
#: its file.
OPERATIONS = {
    "append_checked": Operation("Appending an event", writes=True),
    "billed_jobs": Operation("Reading what jobs were billed"),
    "check_of_views": Operation("Checking the views"),
    "claim_creation": Operation("Creating a session", writes=True),
    "count_refreshed": Operation("Counting the rows of tables"),
    "create": Operation("Creating the ledger's tables and views", writes=True),
    "create_lock": Operation("Creating the ledger's lock", writes=True),
    "create_staging": Operation("Creating a staging table", writes=True),
    "daily_rollup": Operation("Computing the counts of days", writes=True),
    "delete_claims": Operation("Deleting the traces of an interrupted creation", writes=True),
    "delete_creations": Operation("Deleting sessions", writes=True),
    "delete_heads": Operation("Deleting sessions", writes=True),
    "delete_latest": Operation("Deleting sessions", writes=True),
    "delete_old_sessions": Operation("Deleting old sessions", writes=True),
    "delete_sessions": Operation("Deleting sessions", writes=True),
    "doctor": Operation("An experiment of `ledger doctor --deep`", writes=True),
    "drop": Operation("Dropping a staging table", writes=True),
    "existing_rows": Operation("Looking up rows"),
    "expire_sessions": Operation("Expiring sessions", writes=True),
    "find_creation": Operation("Looking up a session"),
    "find_lost_event": Operation("Looking up an event"),
    "import_model_prices": Operation("Importing prices", writes=True),
    "ingest_staged": Operation("Importing events", writes=True),
    "list_sessions": Operation("Listing sessions"),
    "attribute_texts": Operation("Listing sessions"),
    "name_stream": Operation("Registering a write stream", writes=True),
    "query": Operation("The query"),
    "read_events": Operation("Reading events"),
    "read_heads": Operation("Looking up sessions"),
    "read_messages": Operation("Reading messages"),
    "read_model_prices": Operation("Reading prices"),
    "read_seals": Operation("Reading seals"),
    "read_states": Operation("Reading sessions"),
    "reconcile_rows": Operation("Comparing rows"),
    "reconcile_sessions": Operation("Comparing sessions"),
    "record_seal": Operation("Recording a seal", writes=True),
    "search_text": Operation("Searching"),
    "secure": Operation("Setting who may read", writes=True),
    "sessions_latest": Operation("Bringing the latest sessions up to date", writes=True),
    "sessions_latest_full": Operation("Filling the table of latest sessions anew", writes=True),
    "settle": Operation("An experiment of `ledger doctor --deep`", writes=True),
    "sum_items": Operation("Summing up what was recorded"),
    "sum_sessions": Operation("Summing up sessions"),
    "take_fence": Operation("Starting a relay", writes=True),
}


def operation_of(name: str) -> Operation:
    """Return what the statement with this label does."""
    return OPERATIONS.get(name) or Operation(f"The statement {name}")
