"""The states of a replay, which share memory. Each state needs memory only for the changes of its event.

One dictionary holds the latest state. An earlier state holds a reference to the state after it, and the values that
the later state has overwritten. When the earlier state is read, it is rebuilt from these. A state that nothing refers
to is freed. Source: Baker, "Shallow binding makes functional arrays fast", 1991.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager

from ledger.model.events import RecordedEvent
from ledger.model.fold import Register, RegisterValue, State


class Replayed:
    """The latest state of a replay.

    Args:
        state: The state before the first event of the replay.
        with_messages: If true, the states include the messages.
    """

    def __init__(self, state: State, *, with_messages: bool) -> None:
        self._live = dict(state)
        self._with_messages = with_messages
        self._lock = threading.RLock()  # a signal handler may read a state, too
        self._latest = _PersistentState(self._live, self._lock)

    def advance(self, events: Iterable[RecordedEvent]) -> State:
        """Apply further events, in the order of their positions, and return the state after them.

        Later calls do not change a state that was returned.
        """
        with self._lock:
            before: dict[Register, RegisterValue | None] = {}
            try:
                self._write_all(events, before)
                self._latest = self._latest.superseded(before)
            except BaseException:  # the earlier states share the dictionary that was changed
                self._undo(before)
                raise
            return self._latest

    def _write_all(self, events: Iterable[RecordedEvent], before: dict[Register, RegisterValue | None]) -> None:
        for event in events:
            self._write(event, before)

    def _undo(self, before: dict[Register, RegisterValue | None]) -> None:
        for register, held in before.items():
            if held is None:
                self._live.pop(register, None)
            else:
                self._live[register] = held

    def _write(self, event: RecordedEvent, before: dict[Register, RegisterValue | None]) -> None:
        for change in event.changes:
            if change.field == "message" and not self._with_messages:
                continue
            register = change.field, change.key
            before.setdefault(register, self._live.get(register))
            if change.removed:
                self._live.pop(register, None)
            else:
                self._live[register] = RegisterValue(change.text, event.version, event.event_id)


class _PersistentState(Mapping[Register, RegisterValue]):
    """One state of a replay.

    The registers of the latest state are read from the dictionary that all states share. A state is rebuilt as a
    dictionary of its own if it is read when it is no longer the latest, or if it is iterated over.
    """

    __slots__ = ("_before", "_live", "_lock", "_next", "_own")

    def __init__(self, live: dict[Register, RegisterValue], lock: AbstractContextManager[bool]) -> None:
        self._live = live
        self._lock = lock
        self._next: _PersistentState | None = None
        self._before: dict[Register, RegisterValue | None] = {}
        self._own: dict[Register, RegisterValue] | None = None

    def superseded(self, before: dict[Register, RegisterValue | None]) -> _PersistentState:
        """Create the next state, link this one to it, and return the next state. The caller must hold the lock.

        ``before`` maps each register that the next state changes to its value in this state. A register
        without a value in this state is mapped to None.
        """
        successor = _PersistentState(self._live, self._lock)
        if self._own is None:
            self._before, self._next = before, successor
        return successor

    def __getitem__(self, register: Register) -> RegisterValue:
        with self._lock:
            if self._next is None and self._own is None:
                return self._live[register]
            return self._rebuilt()[register]

    def __iter__(self) -> Iterator[Register]:
        with self._lock:
            return iter(self._rebuilt())

    def __len__(self) -> int:
        with self._lock:
            return len(self._rebuilt())

    def _rebuilt(self) -> dict[Register, RegisterValue]:
        """Return this state as a dictionary of its own. The caller must hold the lock."""
        if self._own is None:
            states = [self]
            while (successor := states[-1]._next) is not None and successor._own is None:
                states.append(successor)
            end = states[-1]._next
            own = dict(self._live if end is None or end._own is None else end._own)
            for state in reversed(states):
                for register, held in state._before.items():
                    if held is None:
                        own.pop(register, None)
                    else:
                        own[register] = held
            self._own, self._next, self._before = own, None, {}
        return self._own
