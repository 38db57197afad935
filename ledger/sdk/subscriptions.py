"""Subscriptions: the events of a store in commit order, delivered as they are appended."""

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

from ledger import forking
from ledger.errors import CapabilityMissing, InvalidInput
from ledger.model.events import RecordedEvent
from ledger.model.page import check_limit
from ledger.model.upcast import Upcaster
from ledger.model.values import check_session_id, check_text, check_whole, full_name
from ledger.outbox.rows import SEQ, Row, event_key, index_of
from ledger.sdk.command_base import CommandBase
from ledger.sdk.opening import check_seconds
from ledger.stores.base import EventStore
from ledger.stores.sqlite.errors import damaged
from ledger.stores.sqlite.rows import events_from_rows

#: Maximum number of rows per read, and maximum size of their values in bytes.
_ROWS, _BYTES = 500, 4_000_000
#: First and longest pause between polls while no event comes, in seconds. Each pause is twice the one before.
_SOONEST, _LATEST = 0.005, 0.25
_SESSION, _TYPE, _USER = map(index_of, ("session_id", "event_type", "user_id"))


class Delivery(NamedTuple):
    """An event, and the ``seq`` of the event's last row. Pass ``seq`` as ``after`` to continue after the event."""

    seq: int
    event: RecordedEvent


@dataclass(frozen=True, slots=True)
class _Filter:
    """Criteria for events. An event must meet all criteria that are given."""

    session_id: str | None
    user_id: str | None
    event_types: tuple[str, ...]

    def matches(self, row: Row) -> bool:
        """Return True if the event of a row meets the criteria."""
        session_id, event_type, user_id = row[_SESSION], row[_TYPE], row[_USER]
        return (
            self.session_id in (None, session_id)
            and self.user_id in (None, user_id)
            and (not self.event_types or event_type.startswith(self.event_types))
        )


class Subscription(forking.Renewed, Iterator[Delivery]):
    """Iterator that delivers a store's events when they are committed, whichever process commits them.

    Only one thread may iterate; any thread may close the subscription.

    The iteration ends if no event comes within the timeout; another ``next`` continues it with a new timeout. While no
    event comes, the store is polled a few times a second.

    After a fork, parent and child each go on by themselves, and each gets the events that follow.

    Attributes:
        position: The ``seq`` up to which all matching events have been delivered. Pass it as ``after`` to continue
            with the events that follow.
    """

    def __init__(self, store: EventStore, after: int, criteria: _Filter, timeout: float | None) -> None:
        self.position = after
        self._store = store
        self._read = after
        self._filter = criteria
        self._timeout = timeout
        self._upcast = Upcaster()
        self._ready: deque[list[Row]] = deque()  # the rows of each event
        self._closed = threading.Event()
        forking.register(self, forking.Stage.USERS)

    def renew(self) -> None:
        """Replace the event, whose lock another thread may have held."""
        closed, self._closed = self._closed.is_set(), threading.Event()
        if closed:
            self._closed.set()

    def __next__(self) -> Delivery:
        started, pause = time.monotonic(), _SOONEST
        while not self._closed.is_set():
            if self._ready or self._poll():
                rows = self._ready[0]  # kept if it cannot be read, so that the next call fails too
                event, *others = events_from_rows([row[1:] for row in rows], self._upcast)
                if others:
                    raise damaged("session_events", event.session_id, f"{event.event_id} has several versions")
                self.position = rows[-1][SEQ]
                del self._ready[0]
                return Delivery(self.position, event)
            remaining = _LATEST if self._timeout is None else started + self._timeout - time.monotonic()
            if remaining <= 0:
                break
            self._closed.wait(min(pause, remaining))
            pause = min(2 * pause, _LATEST)
        raise StopIteration

    def close(self) -> None:
        """End the iteration, including a wait in another thread; a second call does nothing."""
        self._closed.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _poll(self) -> bool:
        """Read until a matching event is found, and return True.

        Return False if there is none up to the end of the store, or if the subscription is closed.
        """
        upto = self._store.last_seq()
        while not self._ready and self._read < upto and not self._closed.is_set():
            rows = self._store.rows_after(self._read, _ROWS, max_bytes=_BYTES)
            events = [list(event_rows) for _, event_rows in groupby(rows, event_key)]
            found = deque(event for event in events if self._filter.matches(event[0]))
            # A view returns no rows if its user may see none up to the end.
            read = rows[-1][SEQ] if rows else upto
            # Together, without a call in between: after an exception no event is skipped or delivered twice.
            self._ready, self._read = found, read
        if not self._ready:
            self.position = self._read
        return bool(self._ready)

    def _start_with(self, last: int) -> bool:
        """Read all rows, and start with the last ``last`` matching events. Return False if there are fewer."""
        newest: deque[list[Row]] = deque(maxlen=last)
        while self._poll():
            newest.extend(self._ready)
            self._ready.clear()
        self._ready = newest
        if newest:  # a subscription that continues from this position must not deliver earlier events either
            self.position = newest[0][0][SEQ] - 1
        return len(newest) == last


class Subscriptions(CommandBase):
    """Mixin class: subscriptions to the ledger's events."""

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
        """Iterate over the events of all sessions in commit order, whichever process appends them.

        ``for seq, event in ledger.subscribe(): ...`` delivers each event once and waits for the next. On a view, only
        the events of sessions that its user may see are delivered. Imported events (``ledger import``) are delivered;
        events of sessions whose rows were dropped after archiving are not.

        Args:
            after: Continue after this position: the ``seq`` of an earlier delivery, or a subscription's ``position``.
                0 starts with the first event. None starts with the next event that is appended.
            last: Number of existing matching events to start with, the newest ones. Cannot be combined with ``after``.
            session_id: Deliver only events of this session, which need not exist yet.
            user_id: Deliver only events of sessions of this owner.
            event_types: A prefix or a list of prefixes, for example ``message`` or ``tool_call.updated``. Deliver only
                events whose type begins with one of them; an empty list stands for all types.
            timeout: Seconds without an event after which the iteration ends; 0 delivers existing events only. With
                None the iteration goes on until the subscription is closed. If the ledger is closed first, the
                iteration raises ``StoreRejected``.

        Raises:
            CapabilityMissing: The ledger is in BigQuery, which keeps no commit order.
            InvalidInput: ``after`` is beyond the ledger's last ``seq`` or in the middle of an event, ``after`` and
                ``last`` are both given, or an argument is invalid.
        """
        if not self.store.capabilities.commit_order:
            raise CapabilityMissing(
                "Only a ledger in a file can be subscribed to; BigQuery keeps no commit order. Follow one session "
                "there with history(after=...)."
            )
        if after is not None and last is not None:
            raise InvalidInput("Give after or last, not both: each is a starting point.")
        if session_id is not None:
            check_session_id(session_id)
        if user_id is not None:
            check_text(user_id, "user_id")
        if not isinstance(event_types, Iterable):
            raise InvalidInput(f"event_types must be a list of texts, () for all, not {full_name(event_types)}.")
        types = (event_types,) if isinstance(event_types, str) else tuple(event_types)
        for event_type in types:
            check_text(event_type, "event_types")
        if timeout is not None:
            check_seconds(timeout, "timeout", at_most=math.inf)
        criteria = _Filter(session_id, user_id, types)
        if last is not None:
            return self._newest(last, criteria, timeout)
        end = self.store.last_seq()
        if after is not None:
            self._check_after(check_whole(after, "after"), end)
        return Subscription(self.store, end if after is None else after, criteria, timeout)

    def _check_after(self, after: int, end: int) -> None:
        """Raise InvalidInput if ``after`` is beyond ``end``, the store's last ``seq``, or in the middle of an event.

        A subscription that started there would miss events, or deliver only a part of an event.
        """
        if after > end:
            raise InvalidInput(
                f"after is {after}, and the last seq of this ledger is {end}: after is of another ledger, or this is "
                "an older copy."
            )
        if self._end_of_event(after) != after:
            raise InvalidInput(f"after is {after}, in the middle of an event; give the seq of a delivery.")

    def _end_of_event(self, seq: int) -> int:
        """Return the last ``seq`` of the event that has the row at ``seq``. If there is no such row, return ``seq``."""
        rows = self.store.rows_after(seq - 1, 1, max_bytes=1) if seq else ()
        return int(rows[-1][SEQ]) if rows and rows[0][SEQ] == seq else seq

    def _newest(self, last: int, criteria: _Filter, timeout: float | None) -> Subscription:
        """Return a subscription that starts with the last ``last`` matching events.

        Reading starts near the end of the store. If too few events match there, it starts again from further back.
        """
        check_limit(last)
        end = self.store.last_seq()
        reach = last
        while True:
            start = self._end_of_event(max(0, end - reach))
            subscription = Subscription(self.store, start, criteria, timeout)
            if subscription._start_with(last) or start == 0:
                return subscription
            reach *= 4
