"""Events in their three forms: new from a caller, checked and prepared by a store, and recorded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, TypedDict
from uuid import UUID

from ledger.errors import InvalidInput, ValueTooLarge
from ledger.model.dict_form import DictForm
from ledger.model.fields import check_change
from ledger.model.ids import check_idempotency_key
from ledger.model.instants import to_micros, to_text
from ledger.model.values import canonical, check_text, decode, full_name, named

#: Schema version of the rows that this code writes. Events of older versions are upcast when they are read.
SCHEMA_VERSION = 1
#: The ``expected_version`` of an append that is accepted at any version of the session.
ANY_VERSION = -1
#: The greatest version that a store can hold. As a bound it means "up to the latest version".
LAST_VERSION = 2**63 - 1
#: Maximum number of changes in one event.
MAX_CHANGES = 1000
#: Maximum size of a row's columns other than key, value and idempotency_key, in bytes.
ROW_BYTES = 1000
#: Maximum size of an event (values, keys and rows), in bytes. A request to BigQuery's Storage Write API takes 10 MB,
#: and an event is never split between two requests.
MAX_EVENT_BYTES = 8_000_000
#: Maximum number of characters of a value in the repr of a change.
_SHOWN = 70
_EVENT_TYPE = re.compile(r"(?=.{1,255}\Z)[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+")


class Envelope(TypedDict, total=False):
    """Keyword arguments of every method that appends an event; all optional. None is the same as not given.

    Attributes:
        expected_version: The version that the session must have before the append. If it has another one,
            ``WrongExpectedVersion`` is raised and nothing is written. -1 (``ANY_VERSION``), like None, accepts every
            version.
        event_id: Idempotency key: a UUID, as text or ``uuid.UUID``, or other text of 1 to 1,024 characters. An append
            with the same key and content is recorded once. A UUID names one event of its session. Another text names
            one event of its session for each acting user, which is the view's user or, without a view, the session's
            owner; the event keeps the text as its ``idempotency_key``. If ``create_session`` gets no ``session_id``,
            the id is made from the key and the owner, so that there a key names one session of its owner.
        actor: The user or program that made the change; the owner if not given.
        occurred_at: Time of the change by the caller's clock, timezone-aware; the time of recording if not given.
    """

    expected_version: int | None
    event_id: str | UUID | None
    actor: str | None
    occurred_at: datetime | None


def expected_version_of(envelope: Envelope) -> int:
    """Return the ``expected_version`` of a call; ``ANY_VERSION`` if it is not given."""
    version = envelope.get("expected_version")
    return ANY_VERSION if version is None else version


def key_of(envelope: Envelope) -> str | None:
    """Return the ``event_id`` of a call as text; None if it is not given."""
    key = envelope.get("event_id")
    return str(key) if isinstance(key, UUID) else key


@dataclass(frozen=True, slots=True)
class Change:
    """One write to one register: it sets a value or removes it.

    Attributes:
        field: A name from ``ledger.model.fields``.
        key: The key, 1 to 255 characters; empty for a field that is not keyed.
        value: Any JSON value; None if ``removed``.
        removed: True to remove the register instead of setting it.
    """

    field: str
    key: str = ""
    value: Any = None
    removed: bool = False


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event to append.

    Attributes:
        event_type: A noun and a past participle, for example ``constraints.updated``.
        changes: 1 to ``MAX_CHANGES`` changes, of which no two have the same field and key.
        event_id: The event's identity, a UUID; an append with the same id and content is recorded once.
        actor: The user or program that made the changes; the session's owner if None.
        occurred_at: Time of the changes by the caller's clock, timezone-aware; the time of recording if None.
        user_id: The owner; required in the event that creates a session, and None in all others.
        check_duplicate: False if the event_id is new, so that the store need not look for it.
        creates_stream: True if the session's id is new, so that the store need not look for the session.
        require_open: True to refuse the event if the session is expired, archived or deleted; see ``check_open``.
        strict_values: True to refuse values that are no JSON values. Otherwise their usual JSON form is recorded.
        idempotency_key: The key that the caller gave, if ``event_id`` was made from it; None if it is the ``event_id``.
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
    strict_values: bool = False
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class AppendResult:
    """The result of an append.

    Attributes:
        session_id, event_id: The event's session, and the event's id.
        version: The event's version.
        replayed: True if the event had been recorded by an earlier append, and nothing was written.
    """

    session_id: str
    version: int
    event_id: str
    replayed: bool = False


#: The name of ``AppendResult`` before 0.2, kept as an alias.
Appended = AppendResult


@dataclass(frozen=True, slots=True, repr=False)
class RecordedChange(DictForm):
    """One change as recorded.

    Attributes:
        field, key: The register.
        text: The value as canonical JSON text; None if the register was removed or its value erased.
        removed: True if the change removed the register.
        value_hash, value_salt: None for removals and for rows without a hash chain. An erased value keeps its hash, but
            neither text nor salt.
    """

    field: str
    key: str
    text: str | None
    removed: bool
    value_hash: str | None = None
    value_salt: str | None = None

    @property
    def value(self) -> Any:
        """The value; None if there is no text. Each access decodes a new object, which the caller may change."""
        return None if self.text is None else decode(self.text)

    @property
    def erased(self) -> bool:
        """True if the value has been erased."""
        return self.value_hash is not None and self.value_salt is None

    def to_dict(self) -> dict[str, Any]:
        """Return the change as a JSON object, without ``value`` if the field was removed or the value erased later."""
        parts = {"field": self.field, "key": self.key, "removed": self.removed}
        return parts if self.text is None else {**parts, "value": self.value}

    def __repr__(self) -> str:
        name = f"{self.field}[{self.key}]" if self.key else self.field
        text = "erased" if self.text is None else self.text if len(self.text) <= _SHOWN else f"{self.text[:_SHOWN]}…"
        return f"<{name} removed>" if self.removed else f"<{name} = {text}>"


@dataclass(frozen=True, slots=True, repr=False)
class RecordedEvent(DictForm):
    """An immutable event as a store recorded it. Times are timezone-aware and in UTC.

    ``idempotency_key`` is the key that the caller gave as ``event_id``, if ``event_id`` was made from it; else None.
    """

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
    idempotency_key: str | None = None

    @property
    def position(self) -> tuple[int, str]:
        """The event's sort key within its session: version, then event_id."""
        return self.version, self.event_id

    def to_dict(self) -> dict[str, Any]:
        """Return the event as a JSON object with its changes, as ``ledger history --json`` prints it."""
        return {
            "version": self.version,
            "event_id": self.event_id,
            "idempotency_key": self.idempotency_key,
            "event_type": self.event_type,
            "actor": self.actor,
            "occurred_at": to_text(self.occurred_at),
            "recorded_at": to_text(self.recorded_at),
            "changes": [change.to_dict() for change in self.changes],
        }

    def __repr__(self) -> str:
        changes = ", ".join(map(repr, self.changes))
        return f"<RecordedEvent {self.version} {self.event_type}, {to_text(self.recorded_at)}: {changes}>"


class PreparedChange(NamedTuple):
    """A checked change and the canonical JSON text of its value, None for a removal."""

    field: str
    key: str
    text: str | None
    removed: bool


class PreparedEvent(NamedTuple):
    """A checked event that has no version yet. Times are microseconds since 1970."""

    event_id: str
    event_type: str
    changes: tuple[PreparedChange, ...]
    actor: str | None
    occurred_at: int | None
    user_id: str | None
    check_duplicate: bool
    creates_stream: bool
    require_open: bool
    idempotency_key: str | None


def check_event_type(event_type: object) -> None:
    """Raise InvalidInput unless an event_type is at least two lower-case words joined by dots."""
    if not isinstance(event_type, str) or not _EVENT_TYPE.fullmatch(event_type):
        raise InvalidInput(
            f"event_type {str(event_type)[:70]!r} must look like 'constraints.updated', in at most 255 characters."
        )


def prepare(event: NewEvent, *, max_bytes: int = MAX_EVENT_BYTES) -> PreparedEvent:
    """Check an event and serialise its values. Later changes to the caller's objects have no effect on the result.

    Raises:
        InvalidInput: The event_type, event_id, actor, a time, a field, a key or a value cannot be recorded.
        ValueTooLarge: The keys, values and rows together take more than ``max_bytes``; see ``check_size``.
    """
    check_event_type(event.event_type)
    if event.check_duplicate:
        check_text(event.event_id, "event_id")
    if event.actor is not None:
        check_text(event.actor, "actor")
    if event.user_id is not None:
        check_text(event.user_id, "user_id")
    key = event.idempotency_key
    if key is not None:
        check_idempotency_key(key)
    occurred_at = None if event.occurred_at is None else to_micros(event.occurred_at, "occurred_at")
    changes = _prepare_changes(event.changes, event.strict_values)
    # Cheap upper bound, because a character takes at most four bytes; only large events are measured exactly.
    characters = sum([len(change.key) + len(change.text or "") for change in changes])
    characters += len(changes) * len(key or "")
    if characters * 4 + len(changes) * ROW_BYTES > max_bytes:
        check_size(changes, max_bytes, key)
    envelope = (event.event_id, event.event_type, changes, event.actor, occurred_at, event.user_id)
    return PreparedEvent(*envelope, event.check_duplicate, event.creates_stream, event.require_open, key)


def check_size(
    changes: Sequence[PreparedChange | RecordedChange],
    limit: int = MAX_EVENT_BYTES,
    idempotency_key: str | None = None,
) -> None:
    """Raise ValueTooLarge if the keys, values and rows of an event take more than ``limit`` bytes.

    Each row has the event's ``idempotency_key``.
    """
    of_row = ROW_BYTES + len((idempotency_key or "").encode())
    size = sum(len(f"{change.key}{change.text or ''}".encode()) for change in changes) + len(changes) * of_row
    if size > limit:
        raise ValueTooLarge(
            f"The event has {size:,} bytes; one event takes at most {limit:,} (the limit of a BigQuery write "
            "request). Store large content elsewhere and record where it is, or split the event.",
            size=size,
            limit=limit,
        )


def text_of(change: Change, *, strict: bool = False) -> str | None:
    """Check a change, and return the canonical JSON text of its value; None for a removal.

    Args:
        strict: True to refuse a value that is no JSON value. Otherwise its usual JSON form is recorded.

    Raises:
        InvalidInput: The change cannot be recorded.
    """
    return _prepare_changes([change], strict)[0].text


def _text_of_form(change: Change) -> str:
    """Return the canonical text of the usual JSON form of a value that cannot be recorded as it is."""
    from ledger.model.json_form import json_form

    form = json_form(change.value, named(change.field, change.key))
    return canonical(check_change(change.field, change.key, form, False), change.field, change.key)


def _prepare_changes(changes: Iterable[Change], strict: bool) -> tuple[PreparedChange, ...]:
    if not isinstance(changes, Iterable):
        raise InvalidInput(f"changes must be a sequence of Change, not {full_name(changes)}.")
    prepared: dict[tuple[str, str], PreparedChange] = {}
    for change in changes:
        if not isinstance(change, Change) or not isinstance(change.removed, bool):
            raise InvalidInput(f"Each change must be a Change whose removed is true or false, not {full_name(change)}.")
        field, key, removed = change.field, change.key, change.removed
        try:
            value = check_change(field, key, change.value, removed)
            text = None if removed else canonical(value, field, key)
        except InvalidInput:
            if strict or removed:
                raise
            text = _text_of_form(change)
        if (field, key) in prepared:
            raise InvalidInput(f"The event sets {field} {key!r} twice; one change per field and key.")
        prepared[field, key] = PreparedChange(field, key, text, removed)
    if not prepared:
        raise InvalidInput("The event changes nothing, so nothing was written: give at least one field, key or value.")
    if len(prepared) > MAX_CHANGES:
        raise InvalidInput(f"An event holds 1 to {MAX_CHANGES:,} changes, not {len(prepared):,}.")
    return tuple(prepared.values())
