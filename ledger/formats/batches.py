"""Events of an import, collected and written in calls of the store, with the position of each in the input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ledger.errors import LedgerError
from ledger.formats.refusals import REFUSALS, Refuse, end_import, locate
from ledger.model.events import RecordedEvent
from ledger.stores.base import EventStore
from ledger.stores.checks import by_session

#: A batch is written once it has this many events or bytes. It never ends between consecutive events of a session.
BATCH_EVENTS, BATCH_BYTES = 5_000, 16_000_000


@dataclass(frozen=True, slots=True)
class Place:
    """A position in an input.

    Attributes:
        number: Number of a line, or of a row of a file, from 1; 0 for a file as a whole.
        item: Number of the value in an array, from 1; None if it is not in one.
        file: The file, if the input has several and their parts are rows.
    """

    number: int
    item: int | None = None
    file: str = ""

    @property
    def where(self) -> str:
        """The position for messages, for example ``Line 3``, ``Line 1, item 2`` or ``day.parquet, row 7``."""
        if self.file:
            return f"{self.file}, row {self.number}" if self.number else self.file
        return f"Line {self.number}" if self.item is None else f"Line {self.number}, item {self.item}"


class Batch:
    """Events to write in one call of the store, with their positions.

    Attributes:
        sessions: Ids of the sessions of the written events.
        events, new: How many events were written, and how many of them the store did not have.
    """

    def __init__(self, store: EventStore, refuse: Refuse) -> None:
        self.sessions: set[str] = set()
        self.events = self.new = 0
        self._store = store
        self._refuse = refuse
        #: The session of which a line was refused: its lines that follow directly are left out too.
        self._left_out: str | None = None
        self._clear()

    def _clear(self) -> None:
        self._events: list[RecordedEvent] = []
        self._where: dict[tuple[str, int], Place] = {}
        self._bytes = 0

    def add(self, event: RecordedEvent, place: Place, size: int) -> None:
        """Add an event, and write the events before it if they are many.

        Args:
            event: The event.
            place: Its position in the input.
            size: Its size, in bytes.
        """
        if event.session_id == self._left_out:
            return
        self._left_out = None
        full = len(self._events) >= BATCH_EVENTS or self._bytes >= BATCH_BYTES
        if full and event.session_id != self._events[-1].session_id:
            self.write()
        self._events.append(event)
        self._where.setdefault((event.session_id, event.version), place)
        self._where.setdefault((event.session_id, 0), place)
        self._bytes += size

    def leave_out(self, error: LedgerError, place: Place, whose: str | None) -> None:
        """Refuse a part of the input, with its session, and write the events before it.

        Args:
            error: The error. Its message gets the position.
            place: The position of the part.
            whose: Its session; if it is not known, None, which means the session of the part before.
        """
        locate(error, place.where)
        before = self._events[-1].session_id if self._events else self._left_out
        incomplete = {before} if whose is None or self._refuse is end_import else {whose}
        self._events = [event for event in self._events if event.session_id not in incomplete]
        self.write()
        self._left_out = whose or before
        self._refuse(error)

    def write(self) -> None:
        """Write the events that were added."""
        if self._events:
            self._write(self._events)
        self._clear()

    def _write(self, events: list[RecordedEvent]) -> None:
        try:
            self.new += self._store.ingest(events)
        except REFUSALS as error:
            of_session = by_session(events)
            if self._refuse is end_import or len(of_session) == 1:
                self._locate(error)
                self._refuse(error)
                return
        else:
            self.events += len(events)
            self.sessions.update(event.session_id for event in events)
            return
        # One of the sessions was refused: write each alone.
        for alone in of_session.values():
            self._write(alone)

    def _locate(self, error: LedgerError) -> None:
        session_id = getattr(error, "session_id", "")
        place = self._where.get((session_id, getattr(error, "version", 0))) or self._where.get((session_id, 0))
        if place is not None:
            locate(error, place.where)
        else:
            locate(error, _range(list(self._where.values())))


def _range(places: Sequence[Place]) -> str:
    """Return the first and the last of several positions, for messages."""
    first, last = places[0], places[-1]
    if first.file or last.file:
        return f"{first.where} to {last.where}"
    return f"Lines {first.number} to {last.number}"
