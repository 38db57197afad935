"""The states of a session one after the other, each as cheap as what changed.

One dictionary moves on with the events. The state that was before keeps what it had and the next one has not, and a
reference to the next: whoever still holds it reads through those. So a state costs what its event changed, and one that
nobody holds costs nothing (Baker's persistent arrays, "Shallow binding makes functional arrays fast", 1991).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping

from ledger.model.events import RecordedEvent
from ledger.model.fold import Register, RegisterValue, State


class Replayed:
    """The latest state of a replay, and how it moves on.

    Args:
        state: Where it begins.
        with_messages: Whether messages are taken along.
    """

    def __init__(self, state: State, *, with_messages: bool) -> None:
        self._live = dict(state)
        self._with_messages = with_messages
        self._lock = threading.Lock()
        self._latest = _Moment(self._live, self._lock)

    def move_on(self, events: Iterable[RecordedEvent]) -> State:
        """The state after further events, which come in the order of their positions; it stays as it is."""
        with self._lock:
            before: dict[Register, RegisterValue | None] = {}
            for event in events:
                self._write(event, before)
            self._latest = self._latest.superseded(before)
            return self._latest

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


class _Moment(Mapping[Register, RegisterValue]):
    """One state of a replay. While it is the latest it reads what is live; when it is read later, it makes its own."""

    __slots__ = ("_before", "_live", "_lock", "_next", "_own")

    def __init__(self, live: dict[Register, RegisterValue], lock: threading.Lock) -> None:
        self._live = live
        self._lock = lock
        self._next: _Moment | None = None
        self._before: dict[Register, RegisterValue | None] = {}
        self._own: dict[Register, RegisterValue] | None = None

    def superseded(self, before: dict[Register, RegisterValue | None]) -> _Moment:
        """The next moment, in which the registers of ``before`` are no longer as they were; the lock is held."""
        following = _Moment(self._live, self._lock)
        if self._own is None:
            self._before, self._next = before, following
        return following

    def __getitem__(self, register: Register) -> RegisterValue:
        with self._lock:
            if self._next is None and self._own is None:
                return self._live[register]
            return self._made()[register]

    def __iter__(self) -> Iterator[Register]:
        with self._lock:
            return iter(self._made())

    def __len__(self) -> int:
        with self._lock:
            return len(self._made())

    def _made(self) -> dict[Register, RegisterValue]:
        """This state as a dictionary that nothing changes any more; the lock is held."""
        if self._own is None:
            moments = [self]
            while (following := moments[-1]._next) is not None and following._own is None:
                moments.append(following)
            end = moments[-1]._next
            own = dict(self._live if end is None or end._own is None else end._own)
            for moment in reversed(moments):
                for register, held in moment._before.items():
                    if held is None:
                        own.pop(register, None)
                    else:
                        own[register] = held
            self._own, self._next, self._before = own, None, {}
        return self._own
