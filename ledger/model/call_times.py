"""When tool calls started and finished, by the events that changed their status.

A state holds only the last status of a call, so the times are computed from the history.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ledger.model.copying import REWIND_TYPES
from ledger.model.dict_form import DictForm
from ledger.model.events import RecordedChange, RecordedEvent
from ledger.model.instants import to_text
from ledger.model.tool_calls import ANSWERED


@dataclass(frozen=True, slots=True)
class CallTimes(DictForm):
    """Times of the last attempt of a tool call, by the clock of the events' writers, in UTC.

    Attributes:
        started_at: When the call was running or, if it finished without that, when it was pending; None if it has not
            started, or was recorded as completed or failed at once.
        finished_at: When the call was completed or failed; None if it is neither. A call that was withdrawn or taken
            back by a rewind keeps it.
        retry_count: Number of attempts after the first: an attempt begins when a call that was completed or failed, or
            that a rewind gave another status, gets another status. What the rewind itself writes begins none.
        failure_count: Number of times that the call failed, in all attempts.
    """

    started_at: datetime | None = None
    finished_at: datetime | None = None
    retry_count: int = 0
    failure_count: int = 0

    @property
    def latency_ms(self) -> float | None:
        """Time from start to end, in milliseconds; None if either is unknown, or if the clocks say less than 0."""
        if self.started_at is None or self.finished_at is None or self.finished_at < self.started_at:
            return None
        return (self.finished_at - self.started_at) / timedelta(milliseconds=1)

    def to_dict(self) -> dict[str, Any]:
        """Return the times as a JSON object, with ``latency_ms``; None stays None."""
        times = {"started_at": self.started_at, "finished_at": self.finished_at}
        texts = {name: None if time is None else to_text(time) for name, time in times.items()}
        counts = {"retry_count": self.retry_count, "failure_count": self.failure_count}
        return {**texts, "latency_ms": self.latency_ms, **counts}


class _Call:
    """The moves of the last attempt of one call.

    Attributes:
        status: The status now; None if there is none, or if it was erased.
        recorded: The status that was recorded last, also if it was removed since.
        is_rewound: True if the last write was a rewind's, and changed the status.
        moves: The changes of the status in the last attempt, except those of rewinds, with their times.
    """

    def __init__(self) -> None:
        self.status: str | None = None
        self.recorded: str | None = None
        self.is_rewound = False
        self.moves: list[tuple[str, datetime]] = []
        self.retries = self.failures = 0

    def write(self, change: RecordedChange, event: RecordedEvent) -> None:
        earlier, was_rewound = self.status, self.is_rewound
        status: str | None = change.value
        is_rewind = event.event_type in REWIND_TYPES
        self.status, self.is_rewound = status, is_rewind and status != earlier
        if not change.removed:
            self.recorded = status
        if is_rewind or status is None or status == earlier:
            return
        is_retry = earlier in ANSWERED or (was_rewound and earlier is not None)
        if is_retry or earlier is None:
            self.moves = []
        self.retries += is_retry
        self.failures += status == "failed"
        self.moves.append((status, event.occurred_at))

    @property
    def times(self) -> CallTimes:
        is_open = self.recorded in ("pending", "running")  # a rewind may have made a finished call so
        ended = [at for status, at in self.moves if status in ANSWERED and not is_open]
        begun = [at for status, at in self.moves if status == "running"]
        if ended and not begun:
            begun = [at for status, at in self.moves if status == "pending"]
        return CallTimes(min(begun, default=None), max(ended, default=None), self.retries, self.failures)


def call_times(events: Iterable[RecordedEvent]) -> dict[str, CallTimes]:
    """Return the times of each call that ever had a status, by call id.

    Args:
        events: All events of a session, in order.
    """
    calls: dict[str, _Call] = {}
    for event in events:
        for change in event.changes:
            if change.field == "tool_call_status":
                calls.setdefault(change.key, _Call()).write(change, event)
    return {call_id: call.times for call_id, call in calls.items()}
