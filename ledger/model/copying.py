"""What it takes to bring one session to a state of another, or back to a state of its own: as changes, in few events.

Readers order some fields (messages, tool calls, queries, scores) by the version of their last write, and what one event
wrote by key. So copies keep their order only where an event takes them in the order of their keys: where the next one
has a lower key, the next event begins. Ids that are made for a caller count up, so that is rare.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from ledger.model.events import ROW_BYTES, Change
from ledger.model.fields import FIELDS, SESSION_KEY, check_change
from ledger.model.fold import Register, RegisterValue, State
from ledger.model.lifetime import CLOSED
from ledger.model.values import canonical

#: The status of a session whose copying has begun and is not finished.
COPYING = "copying"
#: Of one session and no other: who may see it, where it comes from, what came of it, how long it lives, under which key
#: its owner asks for it.
OWN = frozenset({*(field.name for field in FIELDS.values() if not field.copied), SESSION_KEY})
#: Fields whose keys readers see in the order in which they were written.
_ORDERED = frozenset(field.name for field in FIELDS.values() if field.ordered)


class Sized(NamedTuple):
    """A change, and the bytes that it takes in an event."""

    change: Change
    size: int


class Plan(NamedTuple):
    """Changes: those whose order is no matter, and sequences of which each must be written in its order."""

    free: list[Sized]
    ordered: list[list[Sized]]


def sized(change: Change) -> Sized:
    """A change that a caller made, with its bytes.

    Raises:
        InvalidInput: It cannot be recorded.
    """
    value = check_change(change.field, change.key, change.value, change.removed)
    return _sized(change, None if change.removed else canonical(value, change.field))


def to_copy(source: State) -> Plan:
    """What a copy of a session's state holds.

    Left out are status (see ``status_of_copy``), what is of the source alone (``OWN``), and erased values, which nobody
    has any more.
    """
    sequences = _sequences(source)
    in_order = {register for sequence in sequences for register in sequence}
    left_out = {*OWN, "status"}
    free = [register for register in source if register not in in_order and register[0] not in left_out]
    return Plan(_set_each(free, source), [_set_each(sequence, source) for sequence in sequences])


def lacking(plan: Plan, have: State) -> Plan:
    """The changes of a plan to registers that a state does not have."""
    rest = [
        [it for it in items if (it.change.field, it.change.key) not in have] for items in (plan.free, *plan.ordered)
    ]
    return Plan(rest[0], rest[1:])


def status_of_copy(source: State) -> str | None:
    """The status of a session that goes on from a state: an end that belonged to the source is not the copy's."""
    held = source.get(("status", ""))
    if held is None or held.text is None:
        return None
    status: str = held.value
    return "active" if status in (*CLOSED, COPYING) else status


def to_rewind(now: State, then: State) -> Plan:
    """What brings a session back to an earlier state of its own.

    What is of the session and not of its content stays: ``OWN``, and a status that closes it. Where something in an
    order was removed or written anew since, it and all that came behind it are written again, in their order. A value
    that was erased since cannot be brought back: its register is taken away, unless it is as it was.
    """
    sequences = _sequences(then)
    in_order = {register for sequence in sequences for register in sequence}
    free = []
    for register in now:
        held = then.get(register)
        lost = held is not None and held.text is None and now[register].text is not None
        if (held is None or lost) and register[0] not in OWN:
            free.append(_sized(Change(*register, removed=True), None))
    for register, held in then.items():
        field, _ = register
        stays = register in in_order or field in OWN or (field == "status" and held.value in (*CLOSED, COPYING))
        if not stays and held.text is not None and (register not in now or now[register].text != held.text):
            free.append(_set(register, held))
    return Plan(free, [_from_first_moved(sequence, now, then) for sequence in sequences])


def portions(plan: Plan, max_changes: int, max_bytes: int) -> Iterator[list[Change]]:
    """The changes of a plan as few events, none longer than both bounds; a change larger than that is alone."""
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
    """The registers that readers see in an order, in that order; a tool call has the place of its definition."""
    found: dict[str, dict[str, Register]] = {}
    for register in state:
        field, key = register
        if field in _ORDERED:
            found.setdefault(field, {})[key] = register
        elif field == "tool_call_status":
            found.setdefault("tool_call", {}).setdefault(key, register)

    def position(register: Register) -> tuple[int, str]:
        return state[register].version, register[1]

    return [sorted(registers.values(), key=position) for registers in found.values()]


def _from_first_moved(sequence: Sequence[Register], now: Mapping[Register, RegisterValue], then: State) -> list[Sized]:
    """What of a sequence must be written so that it stands in its order again."""
    place: tuple[int, str] | None = None
    for index, register in enumerate(sequence):
        if then[register].text is None:
            continue
        held, key = now.get(register), register[1]
        if held is None or held.text != then[register].text or (place is not None and (held.version, key) <= place):
            return _set_each(sequence[index:], then)
        place = held.version, key
    return []


def _set_each(registers: Sequence[Register], state: State) -> list[Sized]:
    """What sets registers to what they are in a state, but for erased ones."""
    return [_set(register, state[register]) for register in registers if state[register].text is not None]


def _set(register: Register, held: RegisterValue) -> Sized:
    return _sized(Change(*register, held.value), held.text)


def _sized(change: Change, text: str | None) -> Sized:
    return Sized(change, len(f"{change.key}{text or ''}".encode()) + ROW_BYTES)
