"""Result rows of the statements in ``sql/statements/``, and their conversion to objects of ``ledger.model``."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from operator import itemgetter
from typing import Any, NamedTuple

from ledger.errors import CorruptEvent
from ledger.model.events import RecordedChange, RecordedEvent
from ledger.model.fold import Origin
from ledger.model.session import Head
from ledger.model.values import canonical, decode
from ledger.outbox import columns

#: Number of columns that have the same value in all rows of an event. A row of ``read_events`` begins with these.
SHARED = len(columns.EVENT)
EVENT_KEY = itemgetter(columns.EVENT.index("version"), columns.EVENT.index("event_id"))


class StateRow(NamedTuple):
    """A result row of ``sql/statements/read_states.sql``."""

    session_id: str
    field: str
    key: str
    text: str | None
    removed: bool
    version: int
    event_id: str
    user_id: str
    created_at: datetime
    schema_version: int
    store_id: str
    event_hash: str | None
    updated_at: datetime
    actor: str | None
    occurred_at: datetime
    recorded_at: datetime

    @property
    def origin(self) -> Origin | None:
        """The origin of the value, if it is a message."""
        return Origin(self.actor, self.occurred_at, self.recorded_at) if self.field == "message" else None


class HeadRow(NamedTuple):
    """A result row of ``sql/statements/read_heads.sql``."""

    session_id: str
    user_id: str
    created_at: datetime
    version: int
    updated_at: datetime
    event_hash: str | None
    store_id: str
    strict: bool
    event_version: int | None


class ChangeRow(NamedTuple):
    """One change, as the last columns of a result row of ``read_events``. The columns of the event precede them.

    Attributes:
        superseded_by: Version of the next write to the register; None if the value is current.
    """

    field: str
    key: str
    text: str | None
    removed: bool
    value_hash: str | None
    value_salt: str | None
    superseded_by: int | None


def head_of(rows: Iterable[StateRow]) -> Head:
    """Return a session's head, given the session's rows in the result of ``read_states``.

    There is a row for the last write to each register. The row that is last in the order (version, event_id) was
    written by the session's last event, so it has the values of the head.
    """
    last = max(rows, key=lambda row: (row.version, row.event_id))
    return Head(
        last.session_id,
        last.user_id,
        last.created_at,
        last.version,
        last.updated_at,
        last.event_hash,
        last.store_id,
    )


def canonical_text(text: str | None) -> str | None:
    """Return a warehouse's JSON text as canonical JSON, which is the text that was hashed; None stays None.

    A warehouse may have reordered the keys and changed the white space.
    """
    return None if text is None else canonical(decode(text))


def event_of(rows: list[tuple[Any, ...]]) -> RecordedEvent:
    """Build one event from all of its rows in the result of ``read_events``.

    Raises:
        CorruptEvent: The rows differ in a column that must be the same in all rows of an event.
    """
    shared = rows[0][:SHARED]
    event = dict(zip(columns.EVENT, shared, strict=True))
    if any(row[:SHARED] != shared for row in rows):
        session_id, version, event_id = event["session_id"], event["version"], event["event_id"]
        raise CorruptEvent(
            f"Session {session_id}, version {version}: the rows of event {event_id} differ in columns of the event.",
            session_id=session_id,
            version=version,
        )
    changes = []
    for row in rows:
        field, key, text, removed, value_hash, value_salt, _ = ChangeRow(*row[SHARED:])
        changes.append(RecordedChange(field, key, canonical_text(text), removed, value_hash, value_salt))
    return RecordedEvent(**event, changes=tuple(changes))
