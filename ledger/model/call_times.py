"""When tool calls started and finished, by the events that changed their status.

A state holds only the last status of a call, so the times are computed from the history.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ledger.model.dict_form import DictForm
from ledger.model.events import RecordedEvent
from ledger.model.instants import to_text
from ledger.model.tool_calls import ANSWERED


@dataclass(frozen=True, slots=True)
class CallTimes(DictForm):
    """Times of the last attempt of a tool call, by the clock of the events' writers, in UTC.

    Attributes:
        started_at: When the call was running or, if it finished without that, when it was pending; None if it has not
            started, or was recorded as completed or failed at once.
        finished_at: When the call was completed or failed; None if it is neither.
        retry_count: Number of attempts after the first: an attempt begins when a call that was completed or failed is
            pending or running again.
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
    """The moves of the last attempt of one call."""

    def __init__(self) -> None:
        self.status: str | None = None
        self.moves: list[tuple[str, datetime]] = []
        self.retries = self.failures = 0

    def move(self, status: str | None, at: datetime) -> None:
        if status == self.status:
            return
        is_retry = status not in ANSWERED and status is not None and self.status in ANSWERED
        if status is None or is_retry:
            self.moves = []
        self.retries += is_retry
        self.failures += status == "failed"
        self.status = status
        if status is not None:
            self.moves.append((status, at))

    @property
    def times(self) -> CallTimes:
        ended = [at for status, at in self.moves if status in ANSWERED]
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
                calls.setdefault(change.key, _Call()).move(change.value, event.occurred_at)
    return {call_id: call.times for call_id, call in calls.items()}
