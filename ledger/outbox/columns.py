"""The columns of ``session_events``, the table of events in every store and warehouse.

This is the only list of columns in code. SQL, positions in a row, Arrow types, the tables of SQLite, ``RecordedEvent``
and ``RecordedChange`` are generated from it or compared with it in a test. To add a column, first
change this list, ``sql/tables/session_events.sql`` and ``ledger/stores/sqlite/migrations.py``. Then mypy and the tests
report what else must change.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from ledger.model.instants import to_micros

if TYPE_CHECKING:
    from ledger.model.events import RecordedEvent


class Kind(Enum):
    """The type of a column. The value of each member describes the Python values that a row has in such a column."""

    TEXT = "str"
    INTEGER = "int"
    BOOLEAN = "bool, or 0 and 1"
    INSTANT = "int: microseconds since 1970 in UTC"
    JSON = "str: JSON text"


class Column(NamedTuple):
    """A column of ``session_events``.

    Attributes:
        name: Its name in every store and warehouse.
        kind: Its type.
        nullable: True if it may be NULL.
        per_change: True if the column belongs to a change. False if it belongs to the event, in which case all rows of
            one event have the same value in it.
    """

    name: str
    kind: Kind
    nullable: bool = False
    per_change: bool = False


#: All columns, in the order of the table. New columns come last, because ADD COLUMN puts them there.
COLUMNS = (
    Column("session_id", Kind.TEXT),
    Column("version", Kind.INTEGER),
    Column("event_id", Kind.TEXT),
    Column("event_type", Kind.TEXT),
    Column("field", Kind.TEXT, per_change=True),
    Column("key", Kind.TEXT, per_change=True),
    Column("value", Kind.JSON, nullable=True, per_change=True),
    Column("removed", Kind.BOOLEAN, per_change=True),
    Column("user_id", Kind.TEXT),
    Column("actor", Kind.TEXT, nullable=True),
    Column("occurred_at", Kind.INSTANT),
    Column("recorded_at", Kind.INSTANT),
    Column("created_at", Kind.INSTANT),
    Column("schema_version", Kind.INTEGER),
    Column("store_id", Kind.TEXT),
    Column("value_hash", Kind.TEXT, nullable=True, per_change=True),
    Column("value_salt", Kind.TEXT, nullable=True, per_change=True),
    Column("prev_hash", Kind.TEXT, nullable=True),
    Column("event_hash", Kind.TEXT, nullable=True),
    Column("idempotency_key", Kind.TEXT, nullable=True),
)
NAMES = tuple(column.name for column in COLUMNS)
#: Names of the columns of an event (``EVENT``) and of a change (``CHANGE``), each in the order of the table.
EVENT = tuple(column.name for column in COLUMNS if not column.per_change)
CHANGE = tuple(column.name for column in COLUMNS if column.per_change)
#: A change's values in the order of ``CHANGE``.
ChangeValues = tuple[str, str, str | None, bool, str | None, str | None]

_IN_ORDER_OF_TABLE = itemgetter(*((*EVENT, *CHANGE).index(name) for name in NAMES))


class EventValues(NamedTuple):
    """The values of an event's own columns, in the order of the table. Times are in microseconds since 1970."""

    session_id: str
    version: int
    event_id: str
    event_type: str
    user_id: str
    actor: str | None
    occurred_at: int
    recorded_at: int
    created_at: int
    schema_version: int
    store_id: str
    prev_hash: str | None
    event_hash: str | None
    idempotency_key: str | None


def position(name: str) -> int:
    """Return the position of a column in a row. Callers look it up once, when their module is loaded.

    Raises:
        ValueError: No column has this name.
    """
    return NAMES.index(name)


def sql_list(names: Iterable[str] = NAMES, *, table: str = "") -> str:
    """Return column names as a comma-separated list in SQL, each qualified by the alias ``table`` if one is given."""
    return ", ".join(f"{table}.{name}" if table else name for name in names)


def row_of(event: EventValues, change: ChangeValues) -> tuple[Any, ...]:
    """Return the row of one change of an event, with its values in the order of the table's columns."""
    row: tuple[Any, ...] = _IN_ORDER_OF_TABLE((*event, *change))
    return row


def event_values(event: RecordedEvent) -> EventValues:
    """Return the values of a recorded event's own columns. The columns of its changes are left out."""
    return EventValues(
        event.session_id,
        event.version,
        event.event_id,
        event.event_type,
        event.user_id,
        event.actor,
        to_micros(event.occurred_at),
        to_micros(event.recorded_at),
        to_micros(event.created_at),
        event.schema_version,
        event.store_id,
        event.prev_hash,
        event.event_hash,
        event.idempotency_key,
    )


def change_values(event: RecordedEvent) -> list[ChangeValues]:
    """Return the values of a recorded event's changes: one tuple per change, in the order of the event's changes."""
    return [
        (change.field, change.key, change.text, change.removed, change.value_hash, change.value_salt)
        for change in event.changes
    ]
