"""Events: what a caller hands in, what a store prepares, and what it has recorded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, TypedDict

from ledger.errors import InvalidInput, ValueTooLarge
from ledger.model.fields import check_change
from ledger.model.instants import to_micros
from ledger.model.values import canonical, check_text, decode

#: The shape of the rows that this code writes; older ones are brought up to it on read (see ``upcast``).
SCHEMA_VERSION = 1
#: ``expected_version`` for an append that does not care.
ANY_VERSION = -1
#: Changes in one event.
MAX_CHANGES = 1000
#: What the columns beside key and value may take in a row, in bytes.
ROW_BYTES = 1000
#: Bytes in one event, its values, keys and rows: a request to BigQuery's Storage Write API takes 10 MB, and an event is
#: never split between two.
MAX_EVENT_BYTES = 8_000_000
_EVENT_TYPE = re.compile(r"(?=.{1,255}\Z)[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+")


class Envelope(TypedDict, total=False):
    """What every change may say about itself.

    Attributes:
        expected_version: Append only if the session is at this version.
        event_id: The change's identity: sending it again records it once. A UUID, or any text of your own.
        actor: Who makes the change, where that is not the owner.
        occurred_at: When it happened, aware.
    """

    expected_version: int
    event_id: str
    actor: str
    occurred_at: datetime


@dataclass(frozen=True, slots=True)
class Change:
    """One write to one register: set (or remove) a field, under a key where the field is keyed.

    Attributes:
        field: A name from ``ledger.model.fields``.
        key: Empty for a field that is not keyed.
        value: Any JSON value; None where ``removed``.
        removed: Take the register away instead of setting it.
    """

    field: str
    key: str = ""
    value: Any = None
    removed: bool = False


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event to append.

    Attributes:
        event_type: What happened, past tense: ``constraints.updated``.
        changes: 1 to ``MAX_CHANGES``, no (field, key) twice.
        event_id: The event's identity, a UUIDv7; appending it again records it once.
        actor: Who did it, where that is not the session's owner.
        occurred_at: When it happened by the caller's clock; the store's time of recording where None.
        user_id: The owner; needed by the event that begins a session, and only there.
        check_duplicate: False where the event_id was made for this very append, so that no store need look for it.
        begins: True where the session's id was, so that no store need look for the session.
        require_open: Whether it is refused where the session is expired, archived or deleted; see ``check_open``.
    """

    event_type: str
    changes: Sequence[Change]
    event_id: str
    actor: str | None = None
    occurred_at: datetime | None = None
    user_id: str | None = None
    check_duplicate: bool = True
    creates_stream: bool = False
    require_open: bool = False


@dataclass(frozen=True, slots=True)
class AppendResult:
    """What an append did: the version given, and whether this event had been recorded before."""

    session_id: str
    version: int
    event_id: str
    replayed: bool = False


#: The name of ``AppendResult`` before 0.2; it stays.
Appended = AppendResult


@dataclass(frozen=True, slots=True)
class RecordedChange:
    """One change as it stands in the store.

    Attributes:
        text: The value as canonical JSON text; None where the register was removed or its value erased.
        value_hash, value_salt: None where nothing is hashed (removals, and rows without a chain). An erased value has
            lost its text and salt and kept its hash.
    """

    field: str
    key: str
    text: str | None
    removed: bool
    value_hash: str | None = None
    value_salt: str | None = None

    @property
    def value(self) -> Any:
        """The value, decoded afresh at each call, so that nothing a reader does to it can reach the record."""
        return None if self.text is None else decode(self.text)

    @property
    def erased(self) -> bool:
        """Whether the value was erased after it had been recorded."""
        return self.value_hash is not None and self.value_salt is None


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """An event as a store recorded it; immutable. Times are aware and in UTC."""

    session_id: str
    version: int
    event_id: str
    event_type: str
    changes: tuple[RecordedChange, ...]
    user_id: str
    actor: str | None
    occurred_at: datetime
    recorded_at: datetime
    created_at: datetime
    schema_version: int
    store_id: str
    prev_hash: str | None = None
    event_hash: str | None = None

    @property
    def position(self) -> tuple[int, str]:
        """Where the event stands in its session: versions count up, equal ones are ordered by event_id."""
        return self.version, self.event_id


class PreparedChange(NamedTuple):
    """A checked change with the text of its value; ``text`` is None where the register is removed."""

    field: str
    key: str
    text: str | None
    removed: bool


class PreparedEvent(NamedTuple):
    """A checked event, ready to be given a version; times are microseconds since 1970."""

    event_id: str
    event_type: str
    changes: tuple[PreparedChange, ...]
    actor: str | None
    occurred_at: int | None
    user_id: str | None
    check_duplicate: bool
    creates_stream: bool
    require_open: bool


def check_event_type(event_type: object) -> None:
    """Raise InvalidInput unless an event_type names a thing and what happened to it."""
    if not isinstance(event_type, str) or not _EVENT_TYPE.fullmatch(event_type):
        raise InvalidInput(
            f"event_type {str(event_type)[:70]!r} must look like 'constraints.updated', in at most 255 characters."
        )


def prepare(event: NewEvent, *, max_bytes: int = MAX_EVENT_BYTES) -> PreparedEvent:
    """Check an event whole and render its values; nothing of the caller's is changed or kept.

    Raises:
        InvalidInput: The event_type, event_id, actor, a time, a field, a key or a value cannot be recorded.
        ValueTooLarge: The keys, values and rows are together over ``max_bytes``; see ``check_size``.
    """
    check_event_type(event.event_type)
    if event.check_duplicate:
        check_text(event.event_id, "event_id")
    if event.actor is not None:
        check_text(event.actor, "actor")
    if event.user_id is not None:
        check_text(event.user_id, "user_id")
    occurred_at = None if event.occurred_at is None else to_micros(event.occurred_at, "occurred_at")
    changes = _prepare_changes(event.changes)
    # A character takes at most four bytes: only large events are counted exactly.
    characters = sum([len(change.key) + len(change.text or "") for change in changes])
    if characters * 4 + len(changes) * ROW_BYTES > max_bytes:
        check_size(changes, max_bytes)
    envelope = (event.event_id, event.event_type, changes, event.actor, occurred_at, event.user_id)
    return PreparedEvent(*envelope, event.check_duplicate, event.creates_stream, event.require_open)


def check_size(changes: Sequence[PreparedChange | RecordedChange], limit: int = MAX_EVENT_BYTES) -> None:
    """Raise ValueTooLarge where an event takes more than ``limit`` bytes: its keys, its values and its rows."""
    size = sum(len(f"{change.key}{change.text or ''}".encode()) for change in changes) + len(changes) * ROW_BYTES
    if size > limit:
        raise ValueTooLarge(
            f"The event has {size:,} bytes; one event takes at most {limit:,} (the limit of a BigQuery write "
            "request). Store large content elsewhere and record where it is, or split the event.",
            size=size,
            limit=limit,
        )


def _prepare_changes(changes: Iterable[Change]) -> tuple[PreparedChange, ...]:
    if not isinstance(changes, Iterable):
        raise InvalidInput(f"changes must be a sequence of Change, not {type(changes).__name__}.")
    prepared: dict[tuple[str, str], PreparedChange] = {}
    for change in changes:
        if not isinstance(change, Change) or not isinstance(change.removed, bool):
            raise InvalidInput(
                f"Each change must be a Change whose removed is true or false, not {type(change).__name__}."
            )
        field, key, removed = change.field, change.key, change.removed
        value = check_change(field, key, change.value, removed)
        if (field, key) in prepared:
            raise InvalidInput(f"The event sets {field} {key!r} twice; one change per field and key.")
        text = None if removed else canonical(value, field)
        prepared[field, key] = PreparedChange(field, key, text, removed)
    if not 1 <= len(prepared) <= MAX_CHANGES:
        raise InvalidInput(f"An event holds 1 to {MAX_CHANGES:,} changes, not {len(prepared):,}.")
    return tuple(prepared.values())
