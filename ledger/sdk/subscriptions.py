"""Every event of a store, in the order of the commits, as it comes."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from types import TracebackType
from typing import NamedTuple, Self

from ledger.errors import CapabilityMissing, InvalidInput
from ledger.model.events import RecordedEvent
from ledger.model.ids import check_session_id
from ledger.model.page import check_limit
from ledger.model.upcast import Upcaster
from ledger.model.values import check_text, check_whole
from ledger.outbox.contract import SEQ, Row, event_key, index_of
from ledger.sdk.command_base import CommandBase
from ledger.sdk.opening import check_seconds
from ledger.stores.base import EventStore
from ledger.stores.sqlite.rows import events_from_rows

#: Rows, and bytes of their values, that are read at once.
_ROWS, _BYTES = 500, 4_000_000
#: Seconds between two looks: short after an event, longer the longer nothing comes.
_SOONEST, _LATEST = 0.005, 0.25
_SESSION, _TYPE, _USER = map(index_of, ("session_id", "event_type", "user_id"))


class Delivery(NamedTuple):
    """An event, and its place in the store: hand ``seq`` back as ``after`` to go on behind it."""

    seq: int
    event: RecordedEvent


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Which events; every criterion that is given must hold."""

    session_id: str | None
    user_id: str | None
    event_types: tuple[str, ...]

    def has(self, row: Row) -> bool:
        """Whether the event of a row is wanted."""
        session_id, event_type, user_id = row[_SESSION], row[_TYPE], row[_USER]
        return (
            self.session_id in (None, session_id)
            and self.user_id in (None, user_id)
            and (not self.event_types or event_type.startswith(self.event_types))
        )


class Subscription(Iterator[Delivery]):
    """An iterator over events as they are committed, by whatever process. One thread iterates; any may close.

    When nothing has come for the timeout the iteration ends; iterate again to wait again. It looks into the store again
    and again, a few times a second while nothing comes.

    Attributes:
        position: Up to where all that was wanted has been handed out; what was not wanted is passed over. Give it as
            ``after`` to go on from there.
    """

    def __init__(self, store: EventStore, after: int, wanted: _Wanted, timeout: float | None) -> None:
        self.position = after
        self._store = store
        self._read = after
        self._wanted = wanted
        self._timeout = timeout
        self._upcast = Upcaster()
        self._ready: deque[list[Row]] = deque()  # the rows of each event
        self._closed = threading.Event()

    def __next__(self) -> Delivery:
        begun, pause = time.monotonic(), _SOONEST
        while not self._closed.is_set():
            if self._ready or self._look():
                rows = self._ready[0]  # it stays there where it cannot be read: nothing is passed over in silence
                (event,) = events_from_rows([row[1:] for row in rows], self._upcast)
                self.position = rows[-1][SEQ]
                del self._ready[0]
                return Delivery(self.position, event)
            left = _LATEST if self._timeout is None else begun + self._timeout - time.monotonic()
            if left <= 0:
                break
            self._closed.wait(min(pause, left))
            pause = min(2 * pause, _LATEST)
        raise StopIteration

    def close(self) -> None:
        """End the iteration, also one that waits in another thread; calling it again does nothing."""
        self._closed.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _look(self) -> bool:
        """Read on until something wanted is there; False where that has not come yet."""
        upto = self._store.last_seq()
        while not self._ready and self._read < upto and not self._closed.is_set():
            rows = self._store.rows_after(self._read, _ROWS, max_bytes=_BYTES)
            # Where none are shown, as to a user who may see no others, all up to there were looked at.
            self._read = rows[-1][SEQ] if rows else upto
            for _, of_event in groupby(rows, event_key):
                if self._wanted.has((event := list(of_event))[0]):
                    self._ready.append(event)
        if not self._ready:
            self.position = self._read
        return bool(self._ready)

    def _begin_with(self, last: int) -> bool:
        """Read on to the end, and leave only the newest so many; whether they are so many."""
        newest: deque[list[Row]] = deque(maxlen=last)
        while self._look():
            newest.extend(self._ready)
            self._ready.clear()
        self._ready = newest
        if newest:  # what came before is not handed out to whoever goes on from here, either
            self.position = newest[0][0][SEQ] - 1
        return len(newest) == last


class Subscriptions(CommandBase):
    """Events as they come."""

    def subscribe(
        self,
        after: int | None = None,
        *,
        last: int | None = None,
        session_id: str | None = None,
        user_id: str | None = None,
        event_types: str | Sequence[str] = (),
        timeout: float | None = None,
    ) -> Subscription:
        """Follow every event of the ledger, of all sessions, in the order of the commits, whoever appends.

        ``for seq, event in ledger.subscribe(): ...`` hands out each event once, and waits for the next. On a user's
        view these are the events of the sessions that the user sees. What is brought in (``ledger import``) comes too;
        what was archived is not in the file, and does not come.

        Args:
            after: The ``seq`` of an earlier delivery, or a subscription's ``position``: go on behind it. 0 begins with
                the first event, None with the next one.
            last: Begin with the newest this many events instead.
            session_id: Of this session only; it need not have begun.
            user_id: Of this owner's sessions only.
            event_types: Only types that begin so, one or several: ``message``, ``tool_call.updated``.
            timeout: Seconds without an event after which the iteration ends; 0 hands out what is there. None waits
                until it is closed, or the ledger is (``StoreRejected``).

        Raises:
            CapabilityMissing: The ledger is in BigQuery, which keeps no order of commits.
            InvalidInput: ``after`` is no place in this ledger, or a filter cannot be.
        """
        if not self.store.capabilities.commit_order:
            raise CapabilityMissing(
                "Events can be followed in a ledger in a file only; BigQuery keeps no order of commits. Follow one "
                "session there by history(after=...)."
            )
        if after is not None and last is not None:
            raise InvalidInput("Give after or last, not both: each says where to begin.")
        if session_id is not None:
            check_session_id(session_id)
        if user_id is not None:
            check_text(user_id, "user_id")
        if not isinstance(event_types, Iterable):
            raise InvalidInput(f"event_types must be a list of texts, () for all, not {type(event_types).__name__}.")
        types = (event_types,) if isinstance(event_types, str) else tuple(event_types)
        for event_type in types:
            check_text(event_type, "event_types")
        if timeout is not None:
            check_seconds(timeout, "timeout", at_most=math.inf)
        wanted = _Wanted(session_id, user_id, types)
        if last is not None:
            return self._newest(last, wanted, timeout)
        end = self.store.last_seq()
        if after is not None:
            self._check_place(check_whole(after, "after"), end)
        return Subscription(self.store, end if after is None else after, wanted, timeout)

    def _check_place(self, after: int, end: int) -> None:
        """Raise InvalidInput where no event ends at ``after``: the first one would be cut, or some be missed."""
        if after > end:
            raise InvalidInput(
                f"This ledger has come to {end}, not to {after}: after is of another ledger, or this is an older copy."
            )
        if self._end_of_event(after) != after:
            raise InvalidInput(f"after is {after}, in the middle of an event; give the seq of a delivery.")

    def _end_of_event(self, seq: int) -> int:
        """The last ``seq`` of the event to which a row belongs; the same where there is no such row."""
        rows = self.store.rows_after(seq - 1, 1, max_bytes=1) if seq else ()
        return int(rows[-1][SEQ]) if rows and rows[0][SEQ] == seq else seq

    def _newest(self, last: int, wanted: _Wanted, timeout: float | None) -> Subscription:
        """A subscription that begins with the newest ``last`` events: looked for backwards, twice as far each time."""
        check_limit(last)
        end = self.store.last_seq()
        reach = last
        while True:
            start = self._end_of_event(max(0, end - reach))
            subscription = Subscription(self.store, start, wanted, timeout)
            if subscription._begin_with(last) or start == 0:
                return subscription
            reach *= 4
