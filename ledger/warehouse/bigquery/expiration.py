"""Expiration of partitions. BigQuery drops the rows of an expired day at once, also rows that are appended later.

Source: https://cloud.google.com/bigquery/docs/managing-partitioned-tables, "Set the partition expiration";
https://github.com/confluentinc/kafka-connect-bigquery/issues/77
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from ledger.errors import ConfigurationError, InvalidInput
from ledger.model.ids import creation_day
from ledger.model.instants import from_text, to_text
from ledger.model.lifetime import CLOSED, DONE, LIFETIME_FIELDS
from ledger.model.values import decode

_DAY = timedelta(days=1)
_ADVICE = "create_sessions_table.py --partition-expiration-days sets a longer one"


class _Change(Protocol):
    """The part of a change that decides how long a session lives."""

    @property
    def field(self) -> str: ...
    @property
    def text(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class PartitionExpiration:
    """The time for which a table keeps the rows of a day.

    Attributes:
        kept: The time from the end of the day until BigQuery drops its rows; None for no expiration.
    """

    kept: timedelta | None = None

    @classmethod
    def of_table(cls, table: Any) -> PartitionExpiration:
        """Return the expiration in Google's description of a table; None, for no table, has no expiration."""
        partition = None if table is None else table.time_partitioning
        milliseconds = None if partition is None else partition.expiration_ms
        return cls(timedelta(milliseconds=int(milliseconds)) if milliseconds else None)

    def dropped_at(self, created_at: datetime) -> datetime | None:
        """Return the time at which the rows of a session's day are dropped; None for never."""
        if self.kept is None:
            return None
        try:
            return creation_day(created_at)[1] + self.kept
        except OverflowError:
            return None

    def has_dropped(self, created_at: datetime, now: datetime) -> bool:
        """Return True if the day of a creation time has expired at the time ``now``."""
        dropped_at = self.dropped_at(created_at)
        return dropped_at is not None and dropped_at <= now

    def refusal(self, session_id: str, created_at: datetime, now: datetime) -> str | None:
        """Return the message about a session whose day has expired at the time ``now``; None if it has not."""
        dropped_at = self.dropped_at(created_at)
        if dropped_at is None or dropped_at > now:
            return None
        day = creation_day(created_at)[0].date()
        return (
            f"Session {session_id} was created on {day}. BigQuery dropped the rows of that day at "
            f"{to_text(dropped_at)}, because the table session_events keeps a day for {self.days()}. It would drop "
            f"new rows too, so nothing was written. Create a new session; {_ADVICE} for days that have not expired."
        )

    def check_day(self, session_id: str, created_at: datetime, now: datetime) -> None:
        """Raise InvalidInput if the day of a session's creation has expired."""
        refusal = self.refusal(session_id, created_at, now)
        if refusal is not None:
            raise InvalidInput(refusal)

    def check_end(self, session_id: str, created_at: datetime, changes: Iterable[_Change], *, is_new: bool) -> None:
        """Raise InvalidInput if a session would outlive its rows.

        A session that is completed, failed or closed ends in that way: its rows may be dropped.

        Args:
            session_id, created_at: The session.
            changes: Changes to append to it, in order.
            is_new: True if the changes create the session; otherwise only changes of ``expires_at`` are checked.
        """
        dropped_at = self.dropped_at(created_at)
        if dropped_at is None:
            return
        texts = {change.field: change.text for change in changes if change.field in LIFETIME_FIELDS}
        if not is_new and "expires_at" not in texts:
            return
        status, end = (None if (text := texts.get(name)) is None else decode(text) for name in LIFETIME_FIELDS)
        if status in (*DONE, *CLOSED) or (end is not None and from_text(end) <= dropped_at):
            return
        ends = "have no end" if end is None else f"end at {end}"
        raise InvalidInput(
            f"Session {session_id} would {ends}, but BigQuery drops its rows at {to_text(dropped_at)}: the table "
            f"session_events keeps a day for {self.days()}. Nothing was written. Let it end by then (ttl, expires_at "
            f"or default_ttl_hours); {_ADVICE}."
        )

    def days(self) -> str:
        """Return for how long a day is kept, for messages."""
        days = (self.kept or timedelta(0)) / _DAY
        return f"{days:g} day{'' if days == 1 else 's'}"


def check_outlives(days: int, max_ttl_hours: float | None) -> None:
    """Raise ConfigurationError unless partitions are kept for longer than any session lives.

    Args:
        days: Days after which BigQuery is to drop a partition.
        max_ttl_hours: The longest time that a session may live, in hours; None if sessions may have no end.
    """
    if max_ttl_hours is None:
        raise ConfigurationError(
            f"partition_expiration_days is {days}, but sessions may have no end: BigQuery would drop the rows of "
            "sessions in use. State the longest time that a session lives, in hours: max_ttl_hours, or --max-ttl-hours."
        )
    if isinstance(max_ttl_hours, bool) or not isinstance(max_ttl_hours, int | float) or not max_ttl_hours > 0:
        raise ConfigurationError(f"max_ttl_hours is {max_ttl_hours!r}; it must be hours above 0, or None for no limit.")
    if days * 24 <= max_ttl_hours:
        raise ConfigurationError(
            f"partition_expiration_days is {days}; sessions live up to {max_ttl_hours:g} hours (max_ttl_hours), and "
            f"their rows must be kept longer: set {int(max_ttl_hours // 24) + 1} or more."
        )
