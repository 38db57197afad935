"""The fold: a session's state is the last write per (field, key), in the order (version, event_id). Nothing else.

A (field, key) is called a register: a state is a map of registers, in each of which the last write wins. It follows
that duplicates, order of arrival and the way events were batched cannot change a state. Latest state, state at a
version or time, history and diff are all this one idea. ``sql/views/session_fields.sql`` is the same in GoogleSQL, as
``sql/views/session_history.sql`` is the history of ``ledger.testing.reference``; a property test holds them together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ledger.model.events import RecordedChange, RecordedEvent
from ledger.model.values import decode


class RegisterValue(NamedTuple):
    """The value of a register, and the event that wrote it; ``text`` is canonical JSON, None for an erased value."""

    text: str | None
    version: int
    event_id: str

    @property
    def value(self) -> Any:
        """The value, decoded afresh at each call."""
        return None if self.text is None else decode(self.text)


#: The name of ``RegisterValue`` before 0.2; it stays.
Written = RegisterValue
#: A register: a field, and the key where the field is keyed, else an empty text.
Register = tuple[str, str]
#: A state: the value of each register. Registers whose last write removed them are not in it.
State = Mapping[Register, RegisterValue]


@dataclass(frozen=True, slots=True)
class Interval:
    """One write to a register and how long it held: from ``version`` until ``superseded_by`` (None: it still holds)."""

    field: str
    key: str
    text: str | None
    removed: bool
    version: int
    event_id: str
    superseded_by: int | None

    @property
    def value(self) -> Any:
        """The value, decoded afresh at each call; None where the register was removed or its value erased."""
        return None if self.text is None else decode(self.text)


@dataclass(frozen=True, slots=True)
class Difference:
    """A register that differs between two states; ``before`` or ``after`` is None where it is missing."""

    field: str
    key: str
    before: RegisterValue | None
    after: RegisterValue | None


def fold(events: Iterable[RecordedEvent], *, at_version: int | None = None) -> dict[Register, RegisterValue]:
    """The state after ``events``, in whatever order and however often they come.

    Args:
        events: Events of one session.
        at_version: Leave out what came after this version; None for all.
    """
    last: dict[Register, tuple[tuple[int, str], RecordedChange]] = {}
    for event in events:
        if at_version is not None and event.version > at_version:
            continue
        position = event.position
        for change in event.changes:
            register = (change.field, change.key)
            held = last.get(register)
            if held is None or held[0] < position:
                last[register] = (position, change)
    return {
        register: RegisterValue(change.text, version, event_id)
        for register, ((version, event_id), change) in last.items()
        if not change.removed
    }


def diff(before: State, after: State) -> list[Difference]:
    """The registers that differ in value or presence between two states, ordered by (field, key)."""
    return [
        Difference(*register, before.get(register), after.get(register))
        for register in sorted(before.keys() | after.keys())
        if register not in before or register not in after or before[register].text != after[register].text
    ]
