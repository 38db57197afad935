"""The states of a replay, which share memory. Each state needs memory only for the changes of its event.

One dictionary holds the latest state. An earlier state holds a reference to the state after it, and the values that
the later state has overwritten. When the earlier state is read, it is rebuilt from these. A state that nothing refers
to is freed. Source: Baker, "Shallow binding makes functional arrays fast", 1991.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping

from ledger import forking
from ledger.model.events import RecordedEvent
from ledger.model.fold import Register, RegisterValue, State


class _Shared(forking.Renewed):
    """What all states of a replay share: the dictionary with the latest state, and its lock.

    A child that was forked while another thread held the lock has a new one. If that thread was applying events, the
    child takes back what it had written, because the thread is not in the child.

    Args:
        state: The state before the first event of the replay.

    Attributes:
        live: The latest state.
        lock: The lock of all states.
        writing: The thread that applies events, and the values that it has overwritten; None if no thread does.
    """

    def __init__(self, state: State) -> None:
        self.live = dict(state)
        self.writing: tuple[int, dict[Register, RegisterValue | None]] | None = None
        self.renew()
        forking.register(self, forking.Stage.USERS)

    def renew(self) -> None:
        """Replace the lock, and take back what another thread had half written."""
        self.lock = threading.RLock()  # a signal handler may read a state, too
        if self.writing is not None and self.writing[0] != threading.get_ident():
            self.undo(self.writing[1])
            self.writing = None

    def undo(self, before: dict[Register, RegisterValue | None]) -> None:
        """Restore values that were overwritten."""
        for register, held in before.items():
            if held is None:
                self.live.pop(register, None)
            else:
                self.live[register] = held


class Replayed:
    """The latest state of a replay.

    Args:
        state: The state before the first event of the replay.
        with_messages: If true, the states include the messages.
    """

    def __init__(self, state: State, *, with_messages: bool) -> None:
        self._shared = _Shared(state)
        self._with_messages = with_messages
        self._latest = _PersistentState(self._shared)

    def advance(self, events: Iterable[RecordedEvent]) -> State:
        """Apply further events, in the order of their positions, and return the state after them.

        Later calls do not change a state that was returned.
        """
        shared = self._shared
        with shared.lock:
            before: dict[Register, RegisterValue | None] = {}
            shared.writing = threading.get_ident(), before
            try:
                self._write_all(events, before)
                self._latest = self._latest.superseded(before)
            except BaseException:  # the earlier states share the dictionary that was changed
                shared.undo(before)
                raise
            finally:
                shared.writing = None
            return self._latest

    def _write_all(self, events: Iterable[RecordedEvent], before: dict[Register, RegisterValue | None]) -> None:
        # Not within the block: CPython 3.13.0 excludes the jump at the end of a loop from a try block, and an exception
        # there would skip ``except``.
        for event in events:
            self._write(event, before)

    def _write(self, event: RecordedEvent, before: dict[Register, RegisterValue | None]) -> None:
        live = self._shared.live
        for change in event.changes:
            if change.field == "message" and not self._with_messages:
                continue
            register = change.field, change.key
            before.setdefault(register, live.get(register))
            if change.removed:
                live.pop(register, None)
            else:
                live[register] = RegisterValue.written(change, event)


class _PersistentState(Mapping[Register, RegisterValue]):
    """One state of a replay.

    The registers of the latest state are read from the dictionary that all states share. A state is rebuilt as a
    dictionary of its own if it is read when it is no longer the latest, or if it is iterated over.
    """

    __slots__ = ("_before", "_next", "_own", "_shared")

    def __init__(self, shared: _Shared) -> None:
        self._shared = shared
        self._next: _PersistentState | None = None
        self._before: dict[Register, RegisterValue | None] = {}
        self._own: dict[Register, RegisterValue] | None = None

    def superseded(self, before: dict[Register, RegisterValue | None]) -> _PersistentState:
        """Create the next state, link this one to it, and return the next state. The caller must hold the lock.

        ``before`` maps each register that the next state changes to its value in this state. A register
        without a value in this state is mapped to None.
        """
        successor = _PersistentState(self._shared)
        if self._own is None:
            self._before, self._next = before, successor
        return successor

    def __getitem__(self, register: Register) -> RegisterValue:
        with self._shared.lock:
            if self._next is None and self._own is None:
                return self._shared.live[register]
            return self._rebuilt()[register]

    def __iter__(self) -> Iterator[Register]:
        with self._shared.lock:
            return iter(self._rebuilt())

    def __len__(self) -> int:
        with self._shared.lock:
            return len(self._rebuilt())

    def _rebuilt(self) -> dict[Register, RegisterValue]:
        """Return this state as a dictionary of its own. The caller must hold the lock."""
        if self._own is None:
            states = [self]
            while (successor := states[-1]._next) is not None and successor._own is None:
                states.append(successor)
            end = states[-1]._next
            own = dict(self._shared.live if end is None or end._own is None else end._own)
            for state in reversed(states):
                for register, held in state._before.items():
                    if held is None:
                        own.pop(register, None)
                    else:
                        own[register] = held
            self._own, self._next, self._before = own, None, {}
        return self._own
