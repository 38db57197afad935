"""The columns of ``session_events``, the table of events in every store and warehouse: the only list of them in code.

Everything else that names all columns is made from this list or compared with it in a test: SQL, positions in a row,
Arrow types, the tables of SQLite, ``RecordedEvent`` and ``RecordedChange``. To add a column, begin here, in
``sql/tables/session_events.sql`` and in ``ledger/stores/sqlite/migrations.py``; types and tests name the rest.
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
    """What a column holds, and how a row in Python has it."""

    TEXT = "str"
    INTEGER = "int"
    BOOLEAN = "bool, or 0 and 1"
    INSTANT = "int: microseconds since 1970 in UTC"
    JSON = "str: JSON text"


class Column(NamedTuple):
    """A column.

    Attributes:
        name: In every store.
        kind: What it holds.
        nullable: Whether it may be NULL.
        per_change: Whether it differs between the changes of an event; all others are the same in all its rows.
    """

    name: str
    kind: Kind
    nullable: bool = False
    per_change: bool = False


#: In the order of the table. New ones go to the end: a table that is there already gets them there.
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
)
NAMES = tuple(column.name for column in COLUMNS)
#: The columns that all rows of an event share, and those of a single change, each in the order of the table.
EVENT = tuple(column.name for column in COLUMNS if not column.per_change)
CHANGE = tuple(column.name for column in COLUMNS if column.per_change)
#: A change's values in the order of ``CHANGE``.
ChangeValues = tuple[str, str, str | None, bool, str | None, str | None]

_IN_ORDER_OF_TABLE = itemgetter(*((*EVENT, *CHANGE).index(name) for name in NAMES))


class EventValues(NamedTuple):
    """An event's values in the order of ``EVENT``; times are microseconds since 1970."""

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


def position(name: str) -> int:
    """Position of a column in a row; look it up once, when a module is loaded.

    Raises:
        ValueError: There is no such column.
    """
    return NAMES.index(name)


def sql_list(names: Iterable[str] = NAMES, *, table: str = "") -> str:
    """Columns as a SELECT or INSERT names them, ``table`` being an alias for a join."""
    return ", ".join(f"{table}.{name}" if table else name for name in names)


def row_of(event: EventValues, change: ChangeValues) -> tuple[Any, ...]:
    """A row in the order of the table."""
    row: tuple[Any, ...] = _IN_ORDER_OF_TABLE((*event, *change))
    return row


def event_values(event: RecordedEvent) -> EventValues:
    """A recorded event's values, without its changes."""
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
    )


def change_values(event: RecordedEvent) -> list[ChangeValues]:
    """The values of a recorded event's changes."""
    return [
        (change.field, change.key, change.text, change.removed, change.value_hash, change.value_salt)
        for change in event.changes
    ]
