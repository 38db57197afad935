"""The fold: a session's state is the last write to each register, in the order (version, event_id).

A register is a (field, key). Duplicates, order of arrival and batching of events cannot change a state. The latest
state, the state at a version or time, histories and diffs all follow from the fold.

The fold exists in GoogleSQL too, as ``sql/views/session_fields.sql``. Histories exist in GoogleSQL as
``sql/views/session_history.sql``, and in Python in ``ledger.testing.reference``. A property test compares the SQL and
the Python of each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from ledger.model.dict_form import DictForm
from ledger.model.events import RecordedChange, RecordedEvent
from ledger.model.values import decode


class Origin(NamedTuple):
    """Who wrote a value and when: columns of the event. Times are in UTC."""

    actor: str | None
    occurred_at: datetime
    recorded_at: datetime

    @classmethod
    def of(cls, event: RecordedEvent) -> Origin:
        """Return the origin of the values that an event writes."""
        return cls(event.actor, event.occurred_at, event.recorded_at)


class RegisterValue(NamedTuple):
    """The value of a register.

    Attributes:
        text: Canonical JSON text; None if the value was erased.
        version, event_id: The event that wrote it.
        origin: Actor and times of that event, if the register is a message. None for all others, whose origin the
            stores would have to look up at each read of a state.
    """

    text: str | None
    version: int
    event_id: str
    origin: Origin | None = None

    @classmethod
    def written(cls, change: RecordedChange, event: RecordedEvent) -> RegisterValue:
        """Return the value that a change of an event writes."""
        origin = Origin.of(event) if change.field == "message" else None
        return cls(change.text, event.version, event.event_id, origin)

    @property
    def value(self) -> Any:
        """The value, decoded at each access; None if the value was erased."""
        return None if self.text is None else decode(self.text)


#: The name of ``RegisterValue`` before 0.2, kept as an alias.
Written = RegisterValue
#: A register: a field and a key, which is empty if the field is not keyed.
Register = tuple[str, str]
#: A state: the value of each register. Removed registers are not in it.
State = Mapping[Register, RegisterValue]


@dataclass(frozen=True, slots=True)
class Interval:
    """One write to a register, and the versions in which it is in effect.

    The write is in effect from ``version`` until the version before ``superseded_by``, the version of the next write
    to the register. For the latest write, ``superseded_by`` is None.
    """

    field: str
    key: str
    text: str | None
    removed: bool
    version: int
    event_id: str
    superseded_by: int | None

    @property
    def value(self) -> Any:
        """The value, decoded at each access; None if the register was removed or its value erased."""
        return None if self.text is None else decode(self.text)


@dataclass(frozen=True, slots=True)
class Difference(DictForm):
    """A register that differs between two states. ``before`` or ``after`` is None if that state lacks the register."""

    field: str
    key: str
    before: RegisterValue | None
    after: RegisterValue | None

    def to_dict(self) -> dict[str, Any]:
        """Return the difference as a JSON object, without ``before`` or ``after`` if there was no value then."""
        sides = {name: held.value for name in ("before", "after") if (held := getattr(self, name)) is not None}
        return {"field": self.field, "key": self.key, **sides}


def fold(events: Iterable[RecordedEvent], *, at_version: int | None = None) -> dict[Register, RegisterValue]:
    """Return the state that results from events.

    Args:
        events: Events of one session, in any order; duplicates have no effect.
        at_version: Ignore events after this version; None for all.
    """
    last: dict[Register, tuple[tuple[int, str], RecordedEvent, RecordedChange]] = {}
    for event in events:
        if at_version is not None and event.version > at_version:
            continue
        position = (event.version, event.event_id)
        for change in event.changes:
            register = (change.field, change.key)
            held = last.get(register)
            if held is None or held[0] < position:
                last[register] = (position, event, change)
    return {
        register: RegisterValue.written(change, event)
        for register, (_, event, change) in last.items()
        if not change.removed
    }


def diff(before: State, after: State) -> list[Difference]:
    """Return the registers that differ in value or presence between two states, sorted by (field, key)."""
    return [
        Difference(*register, before.get(register), after.get(register))
        for register in sorted(before.keys() | after.keys())
        if register not in before or register not in after or before[register].text != after[register].text
    ]
