"""The changes that copy a session's state to another session, or rewind a session, in as few events as possible.

Readers sort the items of an ordered field (messages, tool calls, model calls, queries, scores) by the version that last
wrote them, and items of the same version by key. All items of one event have the same version. To keep the order of the
items, a copy therefore starts another event for an item whose key is not greater than that of the item before it. This
is rare, because generated ids ascend.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from ledger.model.events import ROW_BYTES, Change, RecordedEvent, text_of
from ledger.model.fields import FIELDS, SESSION_KEY
from ledger.model.fold import Register, RegisterValue, State
from ledger.model.lifetime import CLOSED

#: The status of an incomplete copy, and of a session while a rewind in several events is incomplete.
COPYING, REWINDING = "copying", "rewinding"
#: Types of the events of a rewind: of all but the last, and of the last.
REWIND_TYPES = ("session.rewinding", "session.rewound")
#: Statuses that a copy or a rewind never restores.
_UNRESTORED = (*CLOSED, COPYING, REWINDING)
#: Fields that belong to one session and are not copied: grants, lineage, children, expires_at and the session key.
OWN = frozenset({*(field.name for field in FIELDS.values() if not field.copied), SESSION_KEY})
#: Fields whose keys are read in the order in which they were written.
_ORDERED = frozenset(field.name for field in FIELDS.values() if field.ordered)


def is_copy(event: RecordedEvent) -> bool:
    """Return True if an event copied another session: the first event of a fork, or a later one of a long copy."""
    return event.event_type == "session.copied" or any(change.field == "lineage" for change in event.changes)


class Sized(NamedTuple):
    """A change and its size in an event, in bytes."""

    change: Change
    size: int


class Plan(NamedTuple):
    """Changes to write.

    Attributes:
        free: Changes that may be written in any order.
        ordered: Lists of changes. The changes of a list must be written in the order of the list.
    """

    free: list[Sized]
    ordered: list[list[Sized]]


def sized(change: Change) -> Sized:
    """Check a change and return it with its size.

    Raises:
        InvalidInput: The change cannot be recorded.
    """
    return _sized(change, text_of(change))


def to_copy(source: State) -> Plan:
    """Return the changes that copy a state.

    The status (see ``status_of_copy``), ``OWN`` fields and erased values are left out. So is the error of a session
    that is closed: its copy is ``active``.
    """
    sequences = _sequences(source)
    in_order = {register for sequence in sequences for register in sequence}
    status = source.get(("status", ""))
    excluded = {*OWN, "status", *(["error"] if status is not None and status.value in CLOSED else [])}
    free = [register for register in source if register not in in_order and register[0] not in excluded]
    return Plan(_set_each(free, source), [_set_each(sequence, source) for sequence in sequences])


def lacking(plan: Plan, state: State) -> Plan:
    """Return a plan without the changes of registers that ``state`` already has."""
    rest = [
        [item for item in items if (item.change.field, item.change.key) not in state]
        for items in (plan.free, *plan.ordered)
    ]
    return Plan(rest[0], rest[1:])


def status_of_copy(source: State) -> str | None:
    """Return the status that a copy of a state gets; None if the state has no status or the status was erased.

    A status that closes a session becomes ``active``, as do ``copying`` and ``rewinding``. Any other status is kept.
    """
    held = source.get(("status", ""))
    if held is None or held.text is None:
        return None
    status: str = held.value
    return "active" if status in _UNRESTORED else status


def restores_status(then: State) -> bool:
    """Return True if a rewind to a state restores its status: unless that is closed, ``copying`` or ``rewinding``."""
    held = then.get(("status", ""))
    return held is None or held.value not in _UNRESTORED


def status_of_rewind(now: State, then: State) -> str | None:
    """Return the status of a session that is rewound from the state ``now`` to the earlier state ``then``.

    It is None if the earlier state has none. A status in ``CLOSED``, ``copying`` and ``rewinding`` are not restored:
    then the session keeps its present status, or is ``active`` if that is ``rewinding``.
    """
    held = (then if restores_status(then) else now).get(("status", ""))
    status: str | None = None if held is None else held.value
    return "active" if status == REWINDING else status


def to_rewind(now: State, then: State) -> Plan:
    """Return the changes that rewind a session from the state ``now`` to the earlier state ``then``.

    The status (see ``status_of_rewind``) and ``OWN`` fields are left out. If an item of an ordered field was removed or
    replaced since, that item and all later ones are written again, in order. If a register has a value now and its
    earlier value was erased, the register is removed.
    """
    sequences = _sequences(then)
    in_order = {register for sequence in sequences for register in sequence}
    excluded = {*OWN, "status"}
    free = []
    for register in now:
        held = then.get(register)
        was_erased = held is not None and held.text is None and now[register].text is not None
        if (held is None or was_erased) and register[0] not in excluded:
            free.append(_sized(Change(*register, removed=True), None))
    for register, held in then.items():
        is_excluded = register in in_order or register[0] in excluded
        if not is_excluded and held.text is not None and (register not in now or now[register].text != held.text):
            free.append(_set(register, held))
    return Plan(free, [_from_first_difference(sequence, now, then) for sequence in sequences])


def portions(plan: Plan, max_changes: int, max_bytes: int) -> Iterator[list[Change]]:
    """Split the changes of a plan into portions, one per event, and yield them. Each portion is within both limits.

    Ordered changes keep their order. A change that is larger than ``max_bytes`` is a portion by itself.
    """
    queues = [deque(plan.free), *map(deque, plan.ordered)]
    while any(queues):
        portion: list[Change] = []
        size = 0
        for number, queue in enumerate(queues):
            last: str | None = None
            while queue:
                change, more = queue[0]
                is_full = len(portion) >= max_changes or size + more > max_bytes
                if (is_full and portion) or (number and last is not None and change.key <= last):
                    break
                last = change.key
                portion.append(queue.popleft().change)
                size += more
        yield portion


def _sequences(state: State) -> list[list[Register]]:
    """Return one list per ordered field, with the field's registers in order.

    A tool call is sorted by the version of its definition, or of its status if it has no definition.
    """
    by_field: dict[str, dict[str, Register]] = {}
    for register in state:
        field, key = register
        if field in _ORDERED:
            by_field.setdefault(field, {})[key] = register
        elif field == "tool_call_status":
            by_field.setdefault("tool_call", {}).setdefault(key, register)

    def position(register: Register) -> tuple[int, str]:
        return state[register].version, register[1]

    return [sorted(registers.values(), key=position) for registers in by_field.values()]


def _from_first_difference(
    sequence: Sequence[Register], now: Mapping[Register, RegisterValue], then: State
) -> list[Sized]:
    """Return the changes that restore a sequence of registers to its values and order in the state ``then``.

    The registers before the first difference in value or order need no change.
    """
    previous: tuple[int, str] | None = None
    for index, register in enumerate(sequence):
        if then[register].text is None:
            continue
        held, key = now.get(register), register[1]
        is_in_order = held is not None and (previous is None or (held.version, key) > previous)
        if held is None or held.text != then[register].text or not is_in_order:
            return _set_each(sequence[index:], then)
        previous = held.version, key
    return []


def _set_each(registers: Sequence[Register], state: State) -> list[Sized]:
    """Return the changes that set registers to their values in a state. Registers with erased values are left out."""
    return [_set(register, state[register]) for register in registers if state[register].text is not None]


def _set(register: Register, held: RegisterValue) -> Sized:
    return _sized(Change(*register, held.value), held.text)


def _sized(change: Change, text: str | None) -> Sized:
    return Sized(change, len(f"{change.key}{text or ''}".encode()) + ROW_BYTES)
